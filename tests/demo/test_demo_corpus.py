"""The embedded default: what it must hold, measured on the files themselves."""

import csv
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForCTC, AutoTokenizer

DEMO = Path(__file__).parents[2] / "examples" / "demo"
CORPUS, RECORDING, ENCODERS = DEMO / "corpus", DEMO / "recording", DEMO / "encoders"
MEBIBYTE = 2**20
Rows = list[dict[str, str]]
LABELS = ("ang", "hap", "neu", "sad")
DIMENSIONS = ("valence", "arousal", "dominance")


def _table(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


@pytest.fixture(scope="module")
def utterances() -> Rows:
    return _table(CORPUS / "utterances.csv")


@pytest.fixture(scope="module")
def truth() -> Rows:
    return _table(CORPUS / "truth.csv")


@pytest.fixture(scope="module")
def cues(truth: Rows) -> dict[str, str]:
    return {row["utterance_id"]: row["cue"] for row in truth}


def test_folder_stays_small() -> None:
    assert _size(DEMO) <= 15 * MEBIBYTE
    assert _size(ENCODERS) <= 6 * MEBIBYTE


def test_table_has_only_what_a_model_may_read(utterances: Rows) -> None:
    columns = "dialogue_id,utterance_id,audio,start,end,speaker,session,text,label"
    raters = "votes.ang,votes.hap,votes.neu,votes.sad,valence,arousal,dominance"
    assert ",".join(utterances[0]) == f"{columns},{raters}"


def test_corpus_is_large_enough(utterances: Rows) -> None:
    assert len({row["dialogue_id"] for row in utterances}) >= 24
    assert len(utterances) >= 240
    assert len({row["utterance_id"] for row in utterances}) == len(utterances)


def test_dialogues_are_contiguous(utterances: Rows) -> None:
    order = [row["dialogue_id"] for row in utterances]
    assert sum(a != b for a, b in pairwise(order)) == len(set(order)) - 1


def test_sessions_have_voices_of_their_own(utterances: Rows) -> None:
    pairs = {(row["session"], row["speaker"]) for row in utterances}
    assert len(pairs) == len({speaker for _, speaker in pairs}) == 6
    assert set(Counter(session for session, _ in pairs).values()) == {2}


def test_emotions_are_balanced_in_every_session(utterances: Rows) -> None:
    for session in ("1", "2", "3"):
        counts = Counter(row["label"] for row in utterances if row["session"] == session)
        assert set(counts) == set(LABELS)
        assert min(counts.values()) >= 0.9 * max(counts.values())


def test_each_third_shows_the_emotion_in_its_own_way(utterances: Rows, cues: dict[str, str]) -> None:
    assert set(cues) == {row["utterance_id"] for row in utterances}
    for label in LABELS:
        counts = Counter(cues[row["utterance_id"]] for row in utterances if row["label"] == label)
        assert set(counts) == {"voice", "words", "both"}
        assert all(0.28 <= count / counts.total() <= 0.38 for count in counts.values())


def test_raters_name_another_emotion_as_often_as_is_stated(utterances: Rows, cues: dict[str, str]) -> None:
    """Five of them hear each utterance; where voice and words both show the emotion, fewer are mistaken."""
    assert all(sum(int(row[f"votes.{label}"]) for label in LABELS) == 5 for row in utterances)
    for cue, share in {"voice": 0.25, "words": 0.25, "both": 0.1}.items():
        rows = [row for row in utterances if cues[row["utterance_id"]] == cue]
        others = sum(5 - int(row[f"votes.{row['label']}"]) for row in rows)
        assert others / (5 * len(rows)) == pytest.approx(share, abs=4 * (share * (1 - share) / (5 * len(rows))) ** 0.5)


def test_raters_are_mistaken_for_a_near_emotion_more_often(utterances: Rows) -> None:
    votes = {label: sum(int(row[f"votes.{label}"]) for row in utterances if row["label"] == "sad") for label in LABELS}
    assert votes["sad"] > votes["neu"] > 3 * votes["ang"] > 3 * votes["hap"]


def test_ratings_are_the_truth_and_the_noise_that_is_stated(utterances: Rows, truth: Rows) -> None:
    """The mean of five ratings with a deviation of 0.7, which rounding widens and the scale's ends narrow."""
    for dimension in DIMENSIONS:
        said = np.array([float(row[dimension]) for row in utterances])
        true = np.array([float(row[dimension]) for row in truth])
        assert min(said.min(), true.min()) >= 1 and max(said.max(), true.max()) <= 5
        assert (said - true).std() == pytest.approx((0.7**2 + 1 / 12) ** 0.5 / 5**0.5, abs=0.04)
        assert abs((said - true).mean()) < 0.05


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_the_generator_makes_the_corpus_again(tmp_path: Path) -> None:
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    if " 1.51 " not in version:
        pytest.skip(f"the corpus was made by espeak-ng 1.51, not {version}")
    for name in [*DEMO.glob("*.py"), DEMO / "lexicon.toml"]:
        shutil.copy(name, tmp_path)
    subprocess.run([sys.executable, "make_corpus.py"], cwd=tmp_path, check=True)
    for folder in ("corpus", "recording"):
        made = {path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / folder).rglob("*.*")}
        assert made == {path.relative_to(DEMO): path.read_bytes() for path in (DEMO / folder).rglob("*.*")}


def test_words_that_tell_nothing_come_with_every_label(utterances: Rows, cues: dict[str, str]) -> None:
    """Where the voice alone tells, the words are drawn from the same few whatever the label."""
    told = [row for row in utterances if cues[row["utterance_id"]] == "voice"]
    words = {label: {w for r in told if r["label"] == label for w in r["text"].split()} for label in ("ang", "sad")}
    assert len(words["ang"] & words["sad"]) >= 0.7 * len(words["ang"] | words["sad"])


def test_a_label_tells_little_of_the_next(utterances: Rows) -> None:
    """Otherwise the dialogue alone would stand in for a modality."""
    turns = [(a, b) for a, b in pairwise(utterances) if a["dialogue_id"] == b["dialogue_id"]]
    same = sum(a["label"] == b["label"] for a, b in turns) / len(turns)
    assert 0.15 <= same <= 0.35


@pytest.mark.parametrize("path", sorted((CORPUS / "audio").iterdir()), ids=lambda path: path.stem)
def test_turns_lie_in_their_file_and_are_heard(path: Path, utterances: Rows) -> None:
    audio, rate = sf.read(path)
    assert rate == 16_000
    assert audio.ndim == 1
    turns = [row for row in utterances if row["audio"] == f"audio/{path.name}"]
    spans = [(float(row["start"]), float(row["end"])) for row in turns]
    assert spans
    assert all(0 <= start < end <= len(audio) / rate for start, end in spans)
    assert all(end < start for (_, end), (start, _) in pairwise(spans))
    assert all(audio[round(start * rate) : round(end * rate)].std() > 0.01 for start, end in spans)


def test_recording_is_a_minute_of_two_voices_with_subtitles() -> None:
    info = sf.info(RECORDING / "recording.flac")
    assert (info.samplerate, info.channels) == (16_000, 1)
    assert 40 <= info.duration <= 80
    truth = _table(RECORDING / "recording.truth.csv")
    assert len({row["speaker"] for row in truth}) == 2
    subtitles = (RECORDING / "recording.srt").read_text(encoding="utf-8").split("\n\n")
    spoken = [cue.strip().splitlines()[2] for cue in subtitles]
    assert spoken == [f"{row['speaker']}: {row['text']}" for row in truth]
    assert float(truth[-1]["end"]) <= info.duration


def test_recording_has_voices_that_the_corpus_does_not(utterances: Rows) -> None:
    truth = _table(RECORDING / "recording.truth.csv")
    assert not {row["speaker"] for row in truth} & {row["speaker"] for row in utterances}


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_encoder_loads_whole(modality: str) -> None:
    _, report = AutoModel.from_pretrained(ENCODERS / modality, output_loading_info=True)
    assert all(name.startswith("pooler.") for name in report["missing_keys"])
    assert not report["mismatched_keys"]


def test_audio_encoder_spells_with_its_letter_head() -> None:
    model, report = AutoModelForCTC.from_pretrained(ENCODERS / "audio", output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(ENCODERS / "audio")
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert AutoFeatureExtractor.from_pretrained(ENCODERS / "audio").sampling_rate == 16_000
    logits = model.eval()(torch.zeros(1, 16_000)).logits
    assert logits.shape == (1, 49, len(tokenizer))
    assert tokenizer.unk_token_id not in tokenizer("I AM HERE").input_ids


def test_text_encoder_knows_the_words_of_the_corpus(utterances: Rows) -> None:
    tokenizer = AutoTokenizer.from_pretrained(ENCODERS / "text")
    for text in {row["text"] for row in utterances}:
        assert str(tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)).strip() == text


def test_readme_says_that_it_is_synthetic() -> None:
    readme = (DEMO / "README.md").read_text(encoding="utf-8").lower()
    assert "synthetic" in readme
    assert "espeak-ng" in readme
