"""Words for turns: each moment heard once, silence not at all, and every word with who says it."""

import csv
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.corpora.audio import Segment, describe, segment_of
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.recordings import words_of_turns
from lpgnet.pipeline.recordings.config import TurnsConfig
from lpgnet.pipeline.recordings.recognition import Recognition
from lpgnet.pipeline.recordings.speech_models import SpeechModel, load_speech_model
from lpgnet.pipeline.recordings.transcripts.base import TimedTurn
from lpgnet.pipeline.recordings.turns import TurnFinder
from lpgnet.pipeline.recordings.words_of_turns import TurnsWithWords, find_words
from tests.pipeline.recordings.tones import RATE, WORDS, speak

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "examples" / "demo"
RECORDING = DEMO / "recording" / "recording.flac"
TONES = ROOT / "tests" / "data" / "whisper"
# Sounds of any kind are speech.
ANYTHING = VoiceActivityConfig(threshold=0.0, release=0.0)


@pytest.fixture(scope="module")
def ctc() -> SpeechModel:
    return load_speech_model(f"hf:{DEMO / 'encoders' / 'audio'}", device="cpu")


@pytest.fixture(scope="module")
def toy() -> SpeechModel:
    return load_speech_model(f"hf:{TONES}", device="cpu")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Segment]:
    """What is recognized."""
    every: list[Segment] = []
    recognize = words_of_turns.recognize

    def and_remember(model: SpeechModel, stretches: list[Segment], **options: str | None) -> Recognition:
        every.extend(stretches)
        return recognize(model, stretches, **options)

    monkeypatch.setattr(words_of_turns, "recognize", and_remember)
    return every


def words_in(
    path: Path,
    turns: list[TimedTurn],
    model: SpeechModel,
    *,
    activity: VoiceActivityConfig | None = None,
    language: str | None = None,
) -> TurnsWithWords:
    info = describe(str(path))
    return find_words(
        model,
        turns,
        lambda start, end, channel: segment_of(str(path), info, start=start, end=end, channel=channel),
        activity or VoiceActivityConfig(),
        language=language,
        max_pause=0.5,
    )


def truth() -> list[tuple[TimedTurn, str]]:
    with (DEMO / "recording" / "recording.truth.csv").open(newline="") as file:
        return [
            (TimedTurn(float(row["start"]), float(row["end"]), None, row["speaker"]), row["text"])
            for row in csv.DictReader(file)
        ][:12]


def likeness(found: list[TimedTurn], texts: list[str]) -> float:
    return float(
        np.mean([SequenceMatcher(None, (a.text or "").lower(), b).ratio() for a, b in zip(found, texts, strict=True)])
    )


@pytest.mark.parametrize("named", [True, False])
def test_turns_get_the_words_that_are_said_in_them(ctc: SpeechModel, heard: list[Segment], named: bool) -> None:
    turns = [turn if named else TimedTurn(turn.start, turn.end, None) for turn, _ in truth()]
    found = words_in(RECORDING, turns, ctc)
    assert [(turn.start, turn.end, turn.speaker) for turn in found.turns] == [
        (turn.start, turn.end, turn.speaker) for turn in turns
    ]
    assert likeness(found.turns, [text for _, text in truth()]) > 0.55
    assert "recognized by hf:" in found.choice and "none found in 0 of 12 turns" in found.choice


def test_overlapping_turns_are_recognized_once(ctc: SpeechModel, heard: list[Segment]) -> None:
    """Both are said to speak all the time: each moment of their speech is heard once, and each word written once."""
    alone = words_in(RECORDING, [TimedTurn(0, 12, None, "Ann")], ctc)
    once = [(one.start, one.end) for one in heard]
    heard.clear()
    both = words_in(RECORDING, [TimedTurn(0, 12, None, "Ann"), TimedTurn(0, 12, None, "Bob")], ctc)
    assert [(one.start, one.end) for one in heard] == once
    assert all(a.end <= b.start for a, b in pairwise(heard))
    said = [word for turn in alone.turns for word in turn.words]
    assert said and [word for turn in both.turns for word in turn.words] == said


def test_a_silent_turn_gets_no_words(ctc: SpeechModel, heard: list[Segment], tmp_path: Path) -> None:
    speech, rate = soundfile.read(RECORDING, dtype="float32")
    noise = np.random.default_rng(0).normal(0, 3e-3, 5 * rate).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", np.concatenate([speech[: 2 * rate], noise]), rate)
    turns = [TimedTurn(0.2, 2.0, None, "Ann"), TimedTurn(3.0, 6.0, None, "Bob")]
    found = words_in(tmp_path / "a.wav", turns, ctc)
    assert found.turns[0].text and found.turns[1:] == turns[1:]
    assert sum(one.end for one in heard) < 3.0 * rate, "it was not even listened to"
    assert "none found in 1 of 2 turns" in found.choice
    nothing = words_in(tmp_path / "a.wav", turns[1:], ctc)
    assert nothing.turns == turns[1:]


def test_each_channel_is_heard_alone(toy: SpeechModel, tmp_path: Path) -> None:
    """Two speakers of tones who speak at once, one in each channel."""
    left, right = speak([0, 1, 2, 3], seed=1)[0], speak([5, 4, 3, 2], seed=2)[0]
    both = np.zeros((max(len(left), len(right)), 2), np.float32)
    both[: len(left), 0], both[: len(right), 1] = left, right
    soundfile.write(tmp_path / "call.wav", both, RATE)
    seconds = len(both) / RATE
    turns = [TimedTurn(0, seconds, None, f"channel {number + 1}", channel=number) for number in (0, 1)]
    found = words_in(tmp_path / "call.wav", turns, toy, activity=ANYTHING)
    said = [(turn.channel, turn.speaker, turn.text) for turn in found.turns]
    assert said == [(0, "channel 1", "one two three four"), (1, "channel 2", "six five four three")]
    assert "in en (detected)" in found.choice


def test_words_of_two_speakers_who_take_turns_quickly(toy: SpeechModel, tmp_path: Path) -> None:
    """Turns that a diarizer cut at the wrong moments: words decide, and a speaker's words make one turn."""
    wave, spoken = speak([2, 4, 0, 5], "de", seed=5)
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    change = spoken[2].start + 0.05
    turns = [
        TimedTurn(0.0, spoken[0].end, None, "Ann"),
        TimedTurn(spoken[0].end, change, None, "Ann"),
        TimedTurn(change, len(wave) / RATE, None, "Bob"),
    ]
    found = words_in(tmp_path / "a.wav", turns, toy, activity=ANYTHING, language="de")
    assert [(turn.speaker, turn.text) for turn in found.turns] == [("Ann", "drei fünf"), ("Bob", "eins sechs")]
    assert "in de; none" in found.choice
    assert set(WORDS["de"]) >= {word.text for turn in found.turns for word in turn.words}


def test_a_language_that_the_model_does_not_know(toy: SpeechModel, ctc: SpeechModel) -> None:
    for model in (toy, ctc):
        with pytest.raises(UsageError, match="key 'language'"):
            words_in(RECORDING, [TimedTurn(0, 1, None)], model, language="xx")


def test_long_turns_are_cut_between_words(ctc: SpeechModel, tmp_path: Path) -> None:
    """Turns are shaped once their words are known, so that no turn is longer than allowed and no word is lost."""
    (tmp_path / "recording.rttm").write_text("SPEAKER recording 1 0.2 24.0 <NA> <NA> Ann <NA> <NA>\n")
    finder = TurnFinder(TurnsConfig(max_turn=5.0, max_pause=3.0), recognizer=lambda: ctc)
    found = finder.find(RECORDING, describe(str(RECORDING)), tmp_path / "recording.rttm")
    assert len(found.turns) == 5 and all(turn.seconds <= 5.001 for turn in found.turns)
    for turn in found.turns:
        assert turn.text == " ".join(word.text for word in turn.words)
        assert all(turn.start <= (word.start or 0) < turn.end for word in turn.words)
