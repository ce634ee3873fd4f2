"""What is known of a corpus without its embeddings is what is trained on."""

from dataclasses import replace
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.config import SplitsConfig
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.dialogues import make_dialogues
from lpgnet.pipeline.training.folds import fold_name
from lpgnet.pipeline.training.labels import labelled_turns
from lpgnet.pipeline.training.splits import make_split

LABELS = {"ang": "angry", "hap": "happy", "xxx": None}
PARTS: tuple[Literal["train", "dev", "test"], ...] = ("train", "dev", "test")


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Dialogues of two voices each, in sessions; some turns or all of them have no label."""
    utterances = []
    for number in range(draw(st.integers(2, 9))):
        session, split = draw(st.integers(1, 3)), draw(st.sampled_from(PARTS))
        codes = draw(st.lists(st.sampled_from([*LABELS, None]), min_size=1, max_size=4))
        utterances += [
            Utterance(
                f"d{number}",
                f"d{number}.{turn}",
                label=code,
                session=str(session),
                speaker=f"{session}{'FM'[turn % 2]}",
                split=split,
            )
            for turn, code in enumerate(codes)
        ]
    return Manifest(Corpus("made up", "nowhere", "table", 1), tuple(utterances))


@given(
    manifest=manifests(),
    scheme=st.sampled_from(["manifest", "session", "speaker", "dialogue"]),
    test=st.sampled_from([None, ["1"], ["1F"], ["2", "1"]]),
    seed=st.integers(0, 3),
    drop=st.booleans(),
)
def test_a_fold_has_the_name_that_it_has_once_it_is_loaded(
    manifest: Manifest,
    scheme: Literal["manifest", "session", "speaker", "dialogue"],
    test: list[str] | None,
    seed: int,
    drop: bool,
) -> None:
    config = SplitsConfig(scheme=scheme, test=test, folds=2, seed=seed, allow_speaker_overlap=True)
    turns = [*labelled_turns(manifest, LABELS, drop_unlabelled=drop)]
    dialogues = make_dialogues(manifest, {}, LABELS, drop_unlabelled=drop)
    assert [(one.dialogue_id, one.utterances) for one in turns] == [(d.dialogue_id, d.utterances) for d in dialogues]
    assert [list(one.labels) for one in turns] == [dialogue.labels.tolist() for dialogue in dialogues]
    try:
        split = make_split(dialogues, config)
    except PipelineError:  # no run was ever trained on it
        return
    assert fold_name(turns, config) == split.name
    assert fold_name(turns, replace(config, dev_share=0.4)) == split.name
