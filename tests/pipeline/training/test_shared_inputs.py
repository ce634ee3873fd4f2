"""Inputs in a file that all processes of a table map: bit for bit those in memory, once, and gone with the last one."""

import errno
import mmap
import multiprocessing.reduction
import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lpgnet.pipeline.common.side_by_side import run_side_by_side
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance
from lpgnet.pipeline.embeddings.plan import Embeddings
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training import shared_inputs
from lpgnet.pipeline.training.dialogues import Dialogue, make_dialogues
from lpgnet.pipeline.training.runs import LoadedCorpus
from lpgnet.pipeline.training.shared_inputs import SharedCorpus, SharedInputs
from tests.pipeline.work import digest_of, take, write_digest

TURNS, SHAPE = 40, (13, 768)
NUMBERS = arrays(np.float32, array_shapes(max_dims=3, max_side=4), elements=st.floats(width=32))


def manifest(dialogues: int) -> Manifest:
    """Dialogues of turns that have votes, a rating or none."""
    turns = [
        Utterance(
            f"d{d}", f"d{d}.{t}", speaker="AB"[t % 2], label="a", votes={"a": 1.5}, valence=3.0 if t % 3 else None
        )
        for d in range(dialogues)
        for t in range(TURNS)
    ]
    return Manifest(Corpus("made up", ".", "table", 1, ranges={"valence": (1.0, 5.0)}), tuple(turns))


def embeddings(made: Manifest) -> dict[str, Embeddings]:
    """Random ones; every seventh turn has no sound, and some turns share theirs."""
    rng, ids = np.random.default_rng(0), [utterance.utterance_id for utterance in made.utterances]
    sound = {name: row // 2 for row, name in enumerate(ids) if row % 7}
    return {
        "text": Embeddings(rng.standard_normal((len(ids), 1, 8), np.float32), {name: n for n, name in enumerate(ids)}),
        "audio": Embeddings(rng.standard_normal((len(ids), *SHAPE), np.float32), sound),
    }


def dialogues_in(inputs: SharedInputs | None, made: Manifest) -> tuple[Dialogue, ...]:
    keep = inputs.add if inputs else torch.from_numpy
    return tuple(make_dialogues(made, embeddings(made), {"a": "a", "b": "b"}, drop_unlabelled=False, keep=keep))


def room(folder: Path, made: Manifest) -> SharedInputs:
    return SharedInputs.make(folder, len(made.utterances) * (8 + SHAPE[0] * SHAPE[1]))


@given(st.lists(NUMBERS, max_size=5))
def test_what_is_added_is_mapped_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, rows: list[np.ndarray]) -> None:
    inputs = SharedInputs.make(tmp_path_factory.getbasetemp(), sum(values.size for values in rows))
    mapped = [inputs.add(values) for values in rows]
    assert all(one.numpy().tobytes() == values.tobytes() for one, values in zip(mapped, rows, strict=True))
    assert [one.shape for one in mapped] == [values.shape for values in rows]


def test_dialogues_are_the_same_in_a_file_as_in_memory(tmp_path: Path) -> None:
    made = manifest(3)
    assert digest_of(dialogues_in(room(tmp_path, made), made)) == digest_of(dialogues_in(None, made))
    assert list(tmp_path.iterdir()) == [], "the file has no name, so nothing is left, however a process ends"


def test_a_change_in_place_is_no_other_process(tmp_path: Path) -> None:
    inputs = SharedInputs.make(tmp_path, 3)
    inputs.add(np.ones(3, np.float32)).zero_()
    other = SharedInputs(inputs._file, 3, tmp_path)
    assert other.at(0, (3,)).tolist() == [1, 1, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="a process there loads its own")
def test_processes_are_given_a_corpus_and_hold_no_copy(tmp_path: Path) -> None:
    made = manifest(24)
    inputs = room(tmp_path, made)
    corpus = LoadedCorpus(dialogues_in(inputs, made), {}, "digest", "made up", inputs=inputs)
    files = [tmp_path / name for name in "ab"]
    shared = SharedCorpus.of(corpus, inputs)
    assert shared.load().dialogues[1].inputs["audio"].data_ptr() == corpus.dialogues[1].inputs["audio"].data_ptr()
    assert replace(shared.load(), dialogues=()) == replace(corpus, dialogues=())
    assert len(list(run_side_by_side(write_digest, files, workers=2, take=take, given=shared))) == 2
    for file in files:
        digest, private = file.read_text().split()
        assert digest == digest_of(corpus.dialogues)
        assert int(private) < 24 * TURNS * SHAPE[0] * SHAPE[1] * 4 / 3


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits")
@pytest.mark.parametrize("room", [100, 5000])
def test_a_full_disk_is_told(tmp_path: Path, room: int) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    made = SharedInputs.make(tmp_path, 1000) if room > 4000 else None
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(PipelineError) as caught:
            (made or SharedInputs.make(tmp_path, 1000)).add(np.zeros(1000, np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_the_system_does_not_map_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(PipelineError) as caught:
        SharedInputs.make(tmp_path, 3)
    assert str(caught.value).startswith(f"{tmp_path}: {os.strerror(errno.ENOMEM)}")


def test_the_module_loads_where_open_files_cannot_be_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where every stage loads it, although no process is given a file there."""
    monkeypatch.delattr(multiprocessing.reduction, "DupFd", raising=False)
    assert "SharedInputs" in runpy.run_path(shared_inputs.__file__)
