"""Many recordings at once: the same timelines as one by one, and one that is bad spoils no other."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance, write_manifest
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.labelling import emotion_pipeline
from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline, Failed
from lpgnet.pipeline.recordings.sources import find_sources
from lpgnet.pipeline.reports.rows import Timeline
from tests.e2e.workplace import RECORDING

SRT = "1\n00:00:00,290 --> 00:00:02,070\nAnn: yes\n\n2\n00:00:02,370 --> 00:00:04,420\nBob: oh that dog\n"


@pytest.fixture(scope="module")
def pipeline(trained: Path) -> EmotionPipeline:
    return EmotionPipeline.from_pretrained(trained, device="cpu", diarizer="none")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings of every kind: with and without a transcript, truncated, bad, and the dialogues of a manifest."""
    waveform, rate = soundfile.read(RECORDING, dtype="float32")
    calls = tmp_path / "calls"
    calls.mkdir()
    for number in range(6):
        soundfile.write(calls / f"{number}.wav", waveform[number * rate : (number + 6) * rate], rate)
    for number in range(3):
        (calls / f"{number}.srt").write_text(SRT)
    (calls / "bad.wav").write_text("no audio at all")
    soundfile.write(calls / "silent.wav", np.zeros(rate), rate)
    soundfile.write(calls / "outside.wav", waveform[:rate], rate)
    (calls / "outside.srt").write_text(SRT)
    cut = shutil.copy(calls / "1.wav", calls / "truncated.wav")
    cut.write_bytes(cut.read_bytes()[:-20_000])
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(2):
        soundfile.write(corpus / f"part{number}.wav", waveform[: 2 * rate], rate)
    utterances = [Utterance(name, f"{name}-{n}", f"part{n}.wav", text="yes") for name in ("x", "y") for n in range(2)]
    broken = Utterance("z", "z-0", "nowhere.wav", text="yes")
    write_manifest(corpus, Manifest(Corpus("c", str(corpus), "table", 1), (*utterances, broken)))
    return tmp_path


def one_by_one(pipeline: EmotionPipeline, sources: Sequence) -> list[Timeline | PipelineError]:
    found: list[Timeline | PipelineError] = []
    for source in sources:
        try:
            found.append(pipeline.label(source))
        except PipelineError as error:
            found.append(error)
    return found


def assert_alike(one: Timeline, other: Timeline) -> None:
    """All is equal but the numbers, which differ by what the company in a batch does to the embeddings."""
    for mine, others in zip(one.rows, other.rows, strict=True):
        for numbers in ("probabilities", "modality_weights", "dimensions"):
            assert getattr(mine, numbers) == pytest.approx(getattr(others, numbers), abs=1e-5)
        known = ("utterance", "start", "end", "speaker", "text", "label", "channel")
        assert [getattr(mine, name) for name in known] == [getattr(others, name) for name in known]
    assert (one.name, one.recording, one.seconds) == (other.name, other.recording, other.seconds)
    assert (one.choices, one.model, one.ranges) == (other.choices, other.model, other.ranges)


def test_many_are_labelled_as_one_by_one(pipeline: EmotionPipeline, folder: Path) -> None:
    sources = find_sources([str(folder / "calls"), str(folder / "corpus")], None)
    expected = one_by_one(pipeline, sources)
    found = list(pipeline.label_many(iter(sources)))
    assert len(found) == len(sources) == 13
    failed = [one.source.name for one in found if isinstance(one, Failed)]
    assert failed == ["bad", "outside", "silent", "z"]
    for one, source, alone in zip(found, sources, expected, strict=True):
        if isinstance(one, Failed):
            assert one.source == source
            assert (type(one.error), str(one.error)) == (type(alone), str(alone))
        else:
            assert isinstance(alone, Timeline)
            assert_alike(one, alone)


def test_turns_of_several_share_a_batch(
    pipeline: EmotionPipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    embed = emotion_pipeline.embed
    monkeypatch.setattr(
        emotion_pipeline,
        "embed",
        lambda encoder, requests, *rest, **named: (
            calls.append(len(requests)) or embed(encoder, requests, *rest, **named)
        ),
    )
    recordings = [folder / "calls" / f"{number}.wav" for number in range(3)]
    assert len(list(pipeline.label_many(recordings))) == 3
    assert calls == [6, 6], "the six turns of three recordings at once, in each modality"
    monkeypatch.setattr(emotion_pipeline, "MOST_TOGETHER", 2)
    assert len(list(pipeline.label_many(map(str, recordings)))) == 3
    assert calls[2:] == [4, 4, 2, 2]
    monkeypatch.setattr(emotion_pipeline, "CHUNK_COST", {"audio": 1.0, "text": 1e9})
    assert len(list(pipeline.label_many(recordings))) == 3
    assert calls[6:] == [2] * 6, "no more at once than a chunk of the extraction"


def test_what_fails_for_all_at_once_is_tried_for_each(
    pipeline: EmotionPipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = emotion_pipeline.embed

    def fails(encoder, requests, *rest, **named):  # type: ignore[no-untyped-def]
        if any("1.wav" in getattr(request.source, "file", "") for request in requests):
            raise PipelineError("a decoding process ended")
        return embed(encoder, requests, *rest, **named)

    monkeypatch.setattr(emotion_pipeline, "embed", fails)
    found = list(pipeline.label_many([folder / "calls" / f"{number}.wav" for number in range(3)]))
    assert [isinstance(one, Failed) for one in found] == [False, True, False]


def test_memory_follows_what_is_taken(pipeline: EmotionPipeline, folder: Path) -> None:
    """A generator of sources is not read ahead further than one group."""
    asked: list[int] = []

    def endless():  # type: ignore[no-untyped-def]
        while True:
            asked.append(1)
            yield folder / "calls" / "0.wav"

    timelines = pipeline.label_many(endless())
    assert isinstance(next(timelines), Timeline)
    assert len(asked) < 60
    timelines.close()  # type: ignore[attr-defined]
    assert list(pipeline.label_many([])) == []
