"""Turns: joining tiny ones, splitting long ones, and where they come from."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.corpora.audio import describe
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.config import TurnsConfig
from lpgnet.pipeline.recordings.transcripts import TimedTurn
from lpgnet.pipeline.recordings.transcripts.base import Word
from lpgnet.pipeline.recordings.turns import TurnFinder, Turns, join_tiny, split_long
from tests.growth import grows_too_fast

DEMO = Path(__file__).parents[3] / "examples" / "demo" / "recording"
AUDIO_ALONE = TurnFinder(wants_words=False)
WITH_WORDS = TurnFinder()


def timed(start: float, end: float, text: str | None = None, speaker: str | None = None) -> TimedTurn:
    return TimedTurn(start, end, text, speaker)


def times(turns: Sequence[TimedTurn]) -> list[tuple[float | None, float | None]]:
    return [(turn.start, turn.end) for turn in turns]


def find(recording: Path, finder: TurnFinder, transcript: Path | None = None) -> Turns:
    return finder.find(recording, describe(str(recording)), transcript)


def test_tiny_turns_join_the_one_before() -> None:
    turns = [timed(0, 1, "well", "Ann"), timed(1.2, 1.3, "um", "Ann"), timed(3, 3.1, "no", "Ann")]
    joined = join_tiny(turns, TurnsConfig())
    assert times(joined) == [(0, 1.3), (3, 3.1)], "over a pause of 1.7 s nothing is joined"
    assert joined[0].text == "well um"


def test_a_tiny_turn_before_a_long_one_joins_it() -> None:
    assert times(join_tiny([timed(0, 0.1), timed(0.3, 2)], TurnsConfig())) == [(0, 2)]


@pytest.mark.parametrize(
    "turns",
    [
        [timed(0, 1, "well", "Ann"), timed(1.2, 1.3, "um", "Bob")],
        [timed(0, 1, "well", "Ann"), timed(0.5, 0.6, "um", "Ann")],
        [timed(0, 1), TimedTurn(1.1, 1.2, None, channel=1)],
        [timed(0, 29.9), timed(30.1, 30.2)],
    ],
    ids=["another speaker", "overlapping", "another channel", "too long together"],
)
def test_turns_that_stay_apart(turns: list[TimedTurn]) -> None:
    assert join_tiny(turns, TurnsConfig()) == turns


def test_a_long_turn_is_split_at_its_words_times() -> None:
    words = (Word("one", 0.0, 1.0), Word("two", 20.0, 21.0), Word("three", 39.0, 40.0))
    parts = split_long(TimedTurn(0.0, 40.0, "one two three", "Ann", words), 30.0)
    assert [(part.start, part.end, part.text) for part in parts] == [
        (0.0, 20.0, "one"),
        (20.0, 40.0, "two three"),
    ]
    assert parts[1].words == words[1:] and parts[0].speaker == "Ann"


@given(
    seconds=st.floats(0.1, 500),
    longest=st.floats(1, 60),
    text=st.text(st.characters(categories=("L", "Zs")), max_size=80),
)
def test_a_split_turn_is_whole(seconds: float, longest: float, text: str) -> None:
    parts = split_long(timed(3.0, 3.0 + seconds, text or None), longest)
    assert parts[0].start == 3.0 and parts[-1].end == 3.0 + seconds
    assert all(a.end == b.start for a, b in itertools.pairwise(parts))
    assert all((p.end or 0) - (p.start or 0) <= longest + 0.01 for p in parts)
    assert " ".join(p.text for p in parts if p.text).split() == text.split()


def test_each_channel_is_a_speaker(tmp_path: Path) -> None:
    speech, rate = soundfile.read(DEMO / "recording.flac", dtype="float32")
    left, right = np.zeros(20 * rate, np.float32), np.zeros(20 * rate, np.float32)
    left[: 8 * rate], right[6 * rate : 14 * rate] = speech[: 8 * rate], speech[8 * rate : 16 * rate]
    soundfile.write(tmp_path / "call.wav", np.stack([left, right], axis=1), rate)
    finder = TurnFinder(channels="speakers", wants_words=False)
    turns = find(tmp_path / "call.wav", finder)
    assert {(t.channel, t.speaker) for t in turns.turns} == {(0, "channel 1"), (1, "channel 2")}
    starts = [t.start or 0 for t in turns.turns]
    assert starts == sorted(starts)
    first, second = ([t for t in turns.turns if t.channel == channel] for channel in (0, 1))
    assert (first[-1].end or 0) > (second[0].start or 0), "what overlaps stays"
    assert any("each of 2 channels" in choice for choice in turns.choices)


def test_turns_without_words(tmp_path: Path) -> None:
    path = tmp_path / "recording.rttm"
    path.write_text("SPEAKER recording 1 1.0 2.0 <NA> <NA> Ann <NA> <NA>\n")
    turns = find(DEMO / "recording.flac", AUDIO_ALONE, path)
    assert times(turns.turns) == [(1.0, 3.0)] and turns.turns[0].speaker == "Ann"
    assert (
        find(DEMO / "recording.flac", WITH_WORDS, path).choices[-1].startswith("warning: no words, so the labels are")
    )
    with pytest.raises(PipelineError, match=r"needs text.*--asr hf:openai/whisper-small"):
        find(DEMO / "recording.flac", TurnFinder(needs_words=True), path)


def test_a_uem_says_where_to_look(tmp_path: Path) -> None:
    path = tmp_path / "recording.uem"
    path.write_text("recording 1 10.0 20.0\n")
    found = times(find(DEMO / "recording.flac", AUDIO_ALONE, path).turns)
    assert len(found) > 2 and all(10 <= (start or 0) < (end or 0) <= 20 for start, end in found)


def test_words_without_times_need_an_aligner(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("hello\n")
    with pytest.raises(PipelineError, match=r"no times.*--aligner"):
        find(DEMO / "recording.flac", WITH_WORDS, tmp_path / "lines.txt")


def test_nobody_speaks(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    with pytest.raises(PipelineError, match=r"silence\.wav: nobody speaks"):
        find(tmp_path / "silence.wav", AUDIO_ALONE)


def test_words_take_no_more_time_than_they_are_long() -> None:
    """A turn with a word a second, split; and as many turns as fit, joined. The texts stand for their lengths."""

    def split(text: str) -> None:
        split_long(TimedTurn(0.0, float(len(text)), " ".join(text)), 1.0)

    def joined(text: str) -> None:
        turns = [TimedTurn(i * 1e-4, (i + 1) * 1e-4, "w", None, (Word("w"),)) for i in range(len(text))]
        join_tiny(turns, TurnsConfig())

    for use in (split, joined):
        assert not grows_too_fast(use, "w".__mul__)


def test_a_uem_of_a_truncated_recording_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "a.uem").write_text("a 1 10.0 10000.0\n")
    recording = DEMO / "recording.flac"
    info = describe(str(recording))
    found = AUDIO_ALONE.find(recording, info, tmp_path / "a.uem", is_part=True)
    assert all(10.0 <= turn.start < turn.end <= info.seconds for turn in found.turns)
    with pytest.raises(PipelineError, match=r"turn 1 ends at 10000\.000 s"):
        AUDIO_ALONE.find(recording, info, tmp_path / "a.uem")
