"""What of an utterance is not speech: measured by hand, trimmed once and for all, and kept in a file that may break."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.common.processes import Launch
from lpgnet.pipeline.config import AudioEncoderConfig, Config, EncodersConfig, FeaturesConfig
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.embeddings import speech_search
from lpgnet.pipeline.embeddings.plan import Plan, plan_audio
from lpgnet.pipeline.embeddings.silence import (
    MARGIN,
    SPEECH_FILE,
    VERSION,
    Silence,
    Source,
    Speech,
    find_speech_in,
    read_speech,
    silences,
    speech_within,
    summarize,
    trim,
    trimmed,
    write_speech,
)
from lpgnet.pipeline.embeddings.speech_search import SpeechSearch
from lpgnet.pipeline.errors import PipelineError

CORPUS = Path(__file__).parents[3] / "examples" / "demo" / "corpus"
FILE = "audio/s1d01.flac"
RATE = 1000
ALONE = Launch(0, 1)
# What these utterances were kept under before there was trimming.
TURNS = (
    Utterance("d", "whole", FILE),
    Utterance("d", "part", FILE, 0.344, 2.379),
    Utterance("d", "last", FILE, 17.3, None, 0),
)
KEYS = {
    "whole": "e1e3cf87106fdff83f2eba591a288b49",
    "part": "83b8ae4bdffdafefa613f292e200fc63",
    "last": "9963a0088f9571e30e923093dd2219cc",
}


def segment(start: float, end: float) -> Segment:
    return Segment("a.wav", round(start * RATE), round(end * RATE), 0, RATE)


@pytest.fixture
def clips(tmp_path: Path) -> Plan:
    """An utterance with a second of silence around it, one with nothing else, and two of another file."""
    words, rate = soundfile.read(CORPUS / FILE, start=5504, stop=38064, dtype="float32")
    quiet = np.zeros(rate, np.float32)
    soundfile.write(tmp_path / "clip.wav", np.concatenate([quiet, words, quiet]), rate)
    soundfile.write(tmp_path / "silent.wav", np.zeros(2 * rate, np.float32), rate)
    shutil.copy(CORPUS / FILE, tmp_path / "dialogue.flac")
    turns = [Utterance("d", "clip", "clip.wav"), Utterance("d", "silent", "silent.wav")]
    turns += [Utterance("d", f"u{n}", "dialogue.flac", start, end) for n, (start, end) in enumerate(((0, 4), (4, 9)))]
    return plan_audio(turns, str(tmp_path), None)


def keys(plan: Plan) -> dict[str, bytes]:
    return {request.utterance_id: request.key for request in plan.requests}


def test_without_trimming_keys_are_what_they_were() -> None:
    plan = plan_audio(TURNS, str(CORPUS), None)
    assert {name: key.hex() for name, key in keys(plan).items()} == KEYS


def test_silence_worked_out_by_hand() -> None:
    # Whoever spoke before is heard for 50 ms; then come two stretches, 1 s after the start and 2 s before the end.
    times = [0.0, 2.05, 3.0, 4.0, 4.5, 5.0, 9.0, 9.5]
    one = segment(2.0, 7.0)
    assert speech_within(one, times).tolist() == [[3.0, 4.0], [4.5, 5.0]]
    assert trimmed(one, times) == segment(3.0 - MARGIN, 5.0 + MARGIN)
    # What is cut off already is not put back, and speech up to the borders is not cut.
    assert trimmed(segment(2.95, 5.02), times) == segment(2.95, 5.02)
    assert trimmed(segment(3.2, 4.8), times) == segment(3.2, 4.8)
    assert trimmed(segment(5.5, 7.0), times) == segment(5.5, 7.0)
    found = summarize([Silence(1.0, 2.0, 1.5, 5.0), Silence(0.0, 0.5, 2.5, 3.0), Silence(0.5, 0.2, 2.0, 2.0)])
    assert found == {"lead": 0.5, "trail": 0.5, "share": 0.4} and summarize([]) == {}


@given(
    borders=st.lists(st.integers(0, 5000), max_size=20, unique=True).map(sorted),
    start=st.integers(0, 4990),
    length=st.integers(1, 3000),
)
def test_trimmed_twice_is_trimmed_once(borders: list[int], start: int, length: int) -> None:
    times = [border / RATE for border in borders[: len(borders) // 2 * 2]]
    whole = Segment("a.wav", start, start + length, 0, RATE)
    once = trimmed(whole, times)
    assert trimmed(once, times) == once
    assert whole.start <= once.start < once.end <= whole.end
    assert np.array_equal(speech_within(once, times), speech_within(whole, times))


def test_a_clip_is_cut_to_its_words(clips: Plan) -> None:
    speech = find_speech_in(clips)
    plan = trim(clips, speech)
    cut = {request.utterance_id: request.source for request in plan.requests}
    clip, silent = cut["clip"], cut["silent"]
    assert isinstance(clip, Segment) and isinstance(silent, Segment)
    assert (clip.start / 16_000, clip.end / 16_000) == pytest.approx((0.95, 3.1), abs=0.15)
    assert silent.seconds == 2.0, "an utterance without speech that is found stays whole"
    around = silences(clips, speech)
    assert around["clip"].lead == pytest.approx(1.0, abs=0.1) and around["clip"].trail == pytest.approx(1.0, abs=0.1)
    assert "silent" not in around
    assert keys(trim(plan, find_speech_in(plan))) == keys(plan) != keys(clips)
    assert keys(plan)["silent"] == keys(clips)["silent"]


def experiment(folder: Path, trim: str = "none") -> Config:
    encoders = EncodersConfig(audio=AudioEncoderConfig(name="librosa:prosody", trim=trim))  # type: ignore[arg-type]
    config = Config(work=str(folder), encoders=encoders, features=FeaturesConfig(store=str(folder / "store")))
    config.folder.mkdir(parents=True, exist_ok=True)
    return config


def test_what_an_interrupted_search_found_is_kept(clips: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, look, looked = experiment(tmp_path), speech_search.look_for_speech, []

    def look_twice(wanted: Mapping[Source, Segment]) -> Speech:
        looked.append(wanted)
        if len(looked) == 3:
            raise KeyboardInterrupt
        return look(wanted)

    monkeypatch.setattr(speech_search, "look_for_speech", look_twice)
    with pytest.raises(KeyboardInterrupt):
        SpeechSearch(config, ALONE)(clips)
    assert len(read_speech(config.folder)) == 2
    assert SpeechSearch(config, ALONE)(clips) == find_speech_in(clips)
    assert len(looked) == 4


def test_cached_is_fresh_and_nothing_is_searched_twice(
    clips: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(tmp_path)
    first = SpeechSearch(config, ALONE)
    found = first(clips)
    assert first.hours > 0 and found == find_speech_in(clips) == read_speech(config.folder)
    monkeypatch.setattr(speech_search, "look_for_speech", lambda *_: pytest.fail("it was searched again"))
    written = (config.folder / SPEECH_FILE).stat().st_mtime_ns
    # Another name, other borders: the content is known.
    (tmp_path / "dialogue.flac").rename(tmp_path / "renamed.flac")
    other = plan_audio([Utterance("d", "u", "renamed.flac", 1.0, 6.0)], str(tmp_path), None)
    again = SpeechSearch(config, ALONE)
    for plan in (clips, other):
        assert keys(trim(plan, again(plan))) == keys(trim(plan, found))
    assert again.hours == 0 and (config.folder / SPEECH_FILE).stat().st_mtime_ns == written


def test_a_file_that_cannot_be_searched_is_the_problem_of_its_utterances(clips: Plan, tmp_path: Path) -> None:
    bad = np.zeros(16_000, np.float32)
    bad[8000] = np.nan
    soundfile.write(tmp_path / "bad.wav", bad, 16_000, subtype="FLOAT")
    turns = [Utterance("d", "bad", "bad.wav"), Utterance("d", "clip", "clip.wav")]
    plan = plan_audio(turns, str(tmp_path), None)
    config = experiment(tmp_path)
    speech = SpeechSearch(config, ALONE)(plan)
    cut = trim(plan, speech)
    assert list(keys(cut)) == ["clip"] and [problem.utterance_id for problem in cut.problems] == ["bad"]
    assert "bad.wav" in cut.problems[0].message and "NaN" in cut.problems[0].message
    assert len(read_speech(config.folder)) == 1, "it is searched again when it may be another file"
    assert list(silences(plan, speech)) == ["clip"]


def test_without_the_features_stage_trimming_says_what_to_run(clips: Plan) -> None:
    cut = trim(clips, {})
    assert not cut.requests and all("features stage" in problem.message for problem in cut.problems)


DIGEST = "ab" * 32
GOOD = {"version": VERSION, "speech": {f"{DIGEST} mix": [0.5, 1.25], f"{DIGEST} 1": []}}


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    speech = {(DIGEST, None): [0.5, 1.25], (DIGEST, 1): [], ("cd" * 32, 0): "is damaged"}
    write_speech(tmp_path, speech)
    assert json.loads((tmp_path / SPEECH_FILE).read_text()) == GOOD
    assert read_speech(tmp_path) == {(DIGEST, None): [0.5, 1.25], (DIGEST, 1): []}
    assert read_speech(tmp_path / "new") == {}


@pytest.mark.parametrize("times", [[1.0], [1.0, 0.5], [-1.0, 1.0], [1, 2.0], [True, 2.0], ["a", 2.0], "ab", None, {}])
def test_broken_times_are_told(tmp_path: Path, times: object) -> None:
    (tmp_path / SPEECH_FILE).write_text(json.dumps(GOOD | {"speech": {f"{DIGEST} 0": times}}))
    with pytest.raises(PipelineError, match=rf"speech\.json: wrong value @ speech\['{DIGEST} 0'\]; delete it and run"):
        read_speech(tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "@ version"),
        (json.dumps(GOOD | {"version": "1"}), "@ version"),
        (json.dumps(GOOD | {"version": True}), "@ version"),
        (json.dumps(GOOD | {"speech": [1]}), "@ speech"),
        (json.dumps(GOOD | {"speech": {f"{DIGEST} one": []}}), "@ speech"),
        (json.dumps(GOOD | {"speech": {f"{DIGEST} ²": []}}), "@ speech"),
        (json.dumps(GOOD).replace("1.25", "NaN"), "@ speech"),
        (json.dumps(GOOD).replace("1.25", "Infinity"), "@ speech"),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / SPEECH_FILE).write_text(content)
    with pytest.raises(PipelineError, match=named) as caught:
        read_speech(tmp_path)
    line = str(caught.value)
    assert line.startswith(str(tmp_path / SPEECH_FILE)) and "delete it" in line and "\n" not in line


def test_what_another_version_found_is_found_anew(tmp_path: Path) -> None:
    (tmp_path / SPEECH_FILE).write_text(json.dumps(GOOD | {"version": VERSION + 1}))
    assert read_speech(tmp_path) == {}


def test_channels_and_files_have_speech_of_their_own(tmp_path: Path) -> None:
    words, rate = soundfile.read(CORPUS / FILE, stop=80_000, dtype="float32")
    soundfile.write(tmp_path / "stereo.wav", np.stack([words, np.zeros_like(words)], axis=1), rate)
    turns = [Utterance("d", f"u{channel}", "stereo.wav", channel=channel) for channel in (0, 1, None)]
    plan = plan_audio(turns, str(tmp_path), None)
    speech = find_speech_in(plan)
    assert {channel: bool(times) for (_, channel), times in speech.items()} == {0: True, 1: False, None: True}
    cut = keys(trim(plan, speech))
    assert cut["u1"] == keys(plan)["u1"] and len(set(cut.values())) == 3
    assert replace(plan, requests=()).files == plan.files
