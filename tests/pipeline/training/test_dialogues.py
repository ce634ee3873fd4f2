"""Batches hold what the dialogues hold, and nothing of the padding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.config import TrainingConfig
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance
from lpgnet.pipeline.embeddings.plan import Embeddings
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.dialogues import (
    collate,
    collate_for,
    make_dialogue,
    make_dialogues,
    standardization,
)
from lpgnet.pipeline.training.labels import class_indices
from lpgnet.pipeline.training.targets import inverse_frequency

LABELS = {"ang": "angry", "hap": "happy", "exc": "happy", "xxx": None}


def embeddings(ids: list[str], *, seed: int = 0, shape: tuple[int, int] = (2, 3)) -> Embeddings:
    values = np.random.default_rng(seed).standard_normal((len(ids), *shape)).astype(np.float32)
    return Embeddings(values, {name: row for row, name in enumerate(ids)})


def utterances(dialogue: str, count: int) -> list[Utterance]:
    return [Utterance(dialogue, f"{dialogue}.{n}", label="ang", speaker="BAB"[n % 3]) for n in range(count)]


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), missing=st.sets(st.integers(0, 5)))
def test_a_batch_gives_every_dialogue_back(lengths: list[int], missing: set[int]) -> None:
    turns = [utterances(f"d{number}", length) for number, length in enumerate(lengths)]
    ids = [u.utterance_id for group in turns for u in group]
    audio = embeddings([name for index, name in enumerate(ids) if index not in missing])
    dialogues = [
        make_dialogue(f"d{n}", group, list(range(len(group))), {"audio": audio}) for n, group in enumerate(turns)
    ]
    batch = collate(dialogues)
    assert batch.mask.sum() == len(ids)
    for row, dialogue in enumerate(dialogues):
        length = len(dialogue)
        assert torch.equal(batch.inputs["audio"][row, :length], dialogue.inputs["audio"])
        assert torch.equal(batch.labels[row, :length], dialogue.labels)
        assert not batch.inputs["audio"][row, length:].any()
        assert not batch.masks["audio"][row, length:].any()
        assert (batch.labels[row, length:] == -100).all()
        for turn, name in enumerate(batch.utterance_ids[row]):
            assert bool(batch.masks["audio"][row, turn]) == (name in audio)
            expected = audio[name] if name in audio else np.zeros((2, 3))
            assert np.array_equal(batch.inputs["audio"][row, turn], expected)


def test_what_is_not_padded_is_not_copied() -> None:
    dialogues = [make_dialogue("d", utterances("d", n), [0] * n, {"audio": embeddings(["d.0"])}) for n in (3, 1)]
    for batch in (collate(dialogues, padded=False), collate_for(dialogues, torch.device("cpu"))):
        assert [own.data_ptr() for own in batch.inputs["audio"]] == [d.inputs["audio"].data_ptr() for d in dialogues]
        assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    whole = collate_for(dialogues, torch.device("cpu"), padded=True)
    assert torch.equal(whole.inputs["audio"], collate(dialogues).inputs["audio"])


def test_speakers_are_numbered_by_first_appearance() -> None:
    dialogue = make_dialogue("d", utterances("d", 3), [0, 0, 0], {})
    assert dialogue.speakers.tolist() == [0, 1, 0]


def test_a_speaker_that_is_not_told_is_nobody() -> None:
    rows = [Utterance("d", str(n), speaker=name) for n, name in enumerate([None, "B", "A", None, "B"])]
    dialogue = make_dialogue("d", rows, [0] * 5, {})
    assert dialogue.speakers.tolist() == [-1, 0, 1, -1, 0]
    other = make_dialogue("e", rows[1:2], [0], {})
    assert collate([dialogue, other]).speakers.tolist() == [[-1, 0, 1, -1, 0], [0, -1, -1, -1, -1]]
    nobody = make_dialogue("f", rows[:1], [0], {})
    assert nobody.speakers.tolist() == [-1] and nobody.speakers.dtype == torch.long


def test_codes_map_to_classes_and_ignored_ones_to_none() -> None:
    rows = [Utterance("d", str(n), label=label) for n, label in enumerate(["exc", "xxx", None, "ang", "hap"])]
    assert class_indices(rows, LABELS) == [1, -100, -100, 0, 1]


def test_an_unknown_code_is_named_with_its_utterance() -> None:
    rows = [Utterance("d", "u7", label="hapy")]
    with pytest.raises(PipelineError, match=r"utterance u7: label code 'hapy' is not in .*did you mean 'hap'\?"):
        class_indices(rows, LABELS)


@pytest.mark.parametrize(("drop", "kept"), [(False, 2), (True, 1)])
def test_unlabelled_utterances_stay_as_context_unless_dropped(drop: bool, kept: int) -> None:
    rows = (Utterance("d", "a", label="ang"), Utterance("d", "b", label="xxx"), Utterance("e", "c", label="xxx"))
    manifest = Manifest(Corpus("x", ".", "table", 1), rows)
    dialogues = make_dialogues(manifest, {}, LABELS, drop_unlabelled=drop)
    assert len(dialogues[0]) == kept
    assert len(dialogues) == (1 if drop else 2)


def test_standardization_is_over_present_utterances_only() -> None:
    source = embeddings(["d.0", "d.2"])
    dialogue = make_dialogue("d", utterances("d", 3), [0, 0, 0], {"audio": source})
    mean, std = standardization([dialogue], "audio")
    assert np.allclose(mean, source.values.mean(0), atol=1e-6)
    assert np.allclose(std, source.values.std(0), atol=1e-6)


def test_a_modality_that_nobody_has_is_refused() -> None:
    dialogue = make_dialogue("d", utterances("d", 2), [0, 0], {"audio": embeddings([])})
    with pytest.raises(PipelineError, match="no training utterance has audio"):
        standardization([dialogue], "audio")


def test_inverse_frequency_is_one_on_average() -> None:
    dialogue = make_dialogue("d", utterances("d", 4), [0, 0, 0, 1], {}, votes=torch.zeros(4, 3))
    weights = inverse_frequency([dialogue], 3, TrainingConfig())
    assert weights == pytest.approx([4 / 9, 4 / 3, 0.0])
