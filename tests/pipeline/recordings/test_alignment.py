"""Forced alignment: plain text to times, in one window and in many."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lpgnet.pipeline.corpora.audio import Segment, describe, segment_of
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings import alignment
from lpgnet.pipeline.recordings.alignment import Alphabet, align
from lpgnet.pipeline.recordings.speech_models import SpeechModel, load_speech_model
from lpgnet.pipeline.recordings.transcripts import Turn

DEMO = Path(__file__).parents[3] / "examples" / "demo"
NAME = f"hf:{DEMO / 'encoders' / 'audio'}"


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return load_speech_model(NAME, device="cpu")


def truth() -> list[Turn]:
    with (DEMO / "recording" / "recording.truth.csv").open(newline="") as file:
        return [
            Turn(float(row["start"]), float(row["end"]), row["text"], row["speaker"]) for row in csv.DictReader(file)
        ]


def untimed(turns: list[Turn]) -> list[Turn]:
    return [replace(turn, start=None, end=None) for turn in turns]


def whole(path: Path) -> Segment:
    return segment_of(str(path), describe(str(path)), start=None, end=None, channel=None)


def share_within(found: list[Turn], expected: list[Turn], seconds: float) -> float:
    """Share of turns whose first word begins and whose last word ends so near the truth."""
    assert [turn.text for turn in found] == [turn.text for turn in expected]
    errors = [
        max(abs((a.start or 0) - (b.start or 0)), abs((a.end or 0) - (b.end or 0)))
        for a, b in zip(found, expected, strict=True)
    ]
    return float(np.mean([error <= seconds for error in errors]))


def test_the_demo_recording_from_its_plain_text(model: SpeechModel) -> None:
    expected = truth()
    found = align(model, untimed(expected), whole(DEMO / "recording" / "recording.flac"))
    assert share_within(found, expected, 0.2) >= 0.9
    words = [word for turn in found for word in turn.words]
    times = [time for word in words for time in (word.start, word.end)]
    assert None not in times and times == sorted(times, key=lambda time: time or 0.0)


def test_windows_do_not_drift(model: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the recording with a long pause between, in windows that are shorter than the pause."""
    waveform, rate = soundfile.read(DEMO / "recording" / "recording.flac", dtype="float32")
    quiet = np.random.default_rng(0).normal(0, 1e-4, 25 * rate).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", np.concatenate([waveform, quiet, waveform]), rate)
    later = len(waveform) / rate + 25
    once = truth()
    expected = once + [replace(t, start=(t.start or 0) + later, end=(t.end or 0) + later) for t in once]
    monkeypatch.setattr(alignment, "WINDOW_SECONDS", 20.0)
    found = align(model, untimed(expected), whole(tmp_path / "long.wav"))
    assert share_within(found, expected, 0.2) >= 0.85
    assert share_within(found, expected, 0.8) == 1.0


def test_a_stretch_of_a_recording_has_times_of_the_whole(model: SpeechModel) -> None:
    turns = truth()[4:8]
    path = DEMO / "recording" / "recording.flac"
    start, end = (turns[0].start or 0) - 0.1, (turns[-1].end or 0) + 0.1
    found = align(model, untimed(turns), segment_of(str(path), describe(str(path)), start=start, end=end, channel=None))
    assert share_within(found, turns, 0.25) >= 0.75


def test_words_that_the_alphabet_lacks_have_no_times(model: SpeechModel) -> None:
    turns = untimed(truth())
    turns[1] = replace(turns[1], text=f"1984 {turns[1].text}")
    turns.insert(3, Turn(None, None, "??? 42", "Ann"))
    found = align(model, turns, whole(DEMO / "recording" / "recording.flac"))
    assert found[1].words[0].start is None and found[1].words[1].start is not None
    assert len(found) == len(turns) - 1, "a turn of which nothing can be aligned has no place"


def test_spelling(model: SpeechModel) -> None:
    alphabet = Alphabet.of(model)
    letters = {number: letter for letter, number in alphabet.numbers.items()}
    assert "".join(letters[number] for number in alphabet.spell("Don't!")) == "DON'T"
    assert alphabet.spell("42") == []
    assert alphabet.spell("|<s>") == alphabet.spell("s")


def test_text_longer_than_the_recording(model: SpeechModel, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    with pytest.raises(PipelineError, match="longer than what can be said"):
        align(model, [Turn(None, None, "word " * 200)], whole(tmp_path / "short.wav"))


def test_text_of_another_script(model: SpeechModel, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(16_000), 16_000)
    with pytest.raises(PipelineError, match="none of the text's characters"):
        align(model, [Turn(None, None, "你好")], whole(tmp_path / "short.wav"))
