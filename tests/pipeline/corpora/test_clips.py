"""Clips are written once, whole, and digested once."""

import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from lpgnet.pipeline.corpora import clips
from lpgnet.pipeline.corpora.clips import Clips
from lpgnet.pipeline.errors import PipelineError

CONTENT = bytes(range(256)) * 9000


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes went into each digest."""
    counts: list[int] = []

    class Counting:
        def __init__(self, content: bytes = b"") -> None:
            self._digest, self._number = hashlib.sha256(), len(counts)
            counts.append(0)
            self.update(content)

        def update(self, content: bytes) -> None:
            counts[self._number] += len(content)
            self._digest.update(content)

        def hexdigest(self) -> str:
            return self._digest.hexdigest()

    monkeypatch.setattr(clips, "hashlib", SimpleNamespace(sha256=Counting))
    return counts


def test_a_clip_is_digested_once_new_or_known_and_however_it_comes(tmp_path: Path, digested: list[int]) -> None:
    folder = Clips(tmp_path / "clips")
    path = folder.keep(CONTENT, "a.WAV")
    assert digested == [len(CONTENT)]
    assert folder.keep(CONTENT, "b.wav") == folder.keep_stream(io.BytesIO(CONTENT), "c.wav") == path
    assert digested == [len(CONTENT)] * 3
    assert [one.name for one in path.parent.iterdir()] == [hashlib.sha256(CONTENT).hexdigest()[:32] + ".wav"]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("way", ["keep", "keep_stream"])
def test_what_is_too_large_or_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    folder, given = Clips(tmp_path / "clips"), CONTENT if way == "keep" else io.BytesIO(CONTENT)
    monkeypatch.setattr(clips, "MAX_CLIP_BYTES", len(CONTENT) - 1)
    with pytest.raises(PipelineError, match="no larger clip is unpacked"):
        getattr(folder, way)(given, None)
    assert not (tmp_path / "clips").exists() or not list((tmp_path / "clips").iterdir())
    monkeypatch.setattr(clips, "MAX_CLIP_BYTES", len(CONTENT))
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match="file"):
        getattr(Clips(tmp_path / "file" / "clips"), way)(CONTENT if way == "keep" else io.BytesIO(CONTENT), None)
