"""The shipped configs of four corpora, from small trees of made-up sounds to a trained model."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.e2e.workplace import ROOT, Run

RATE = 16_000
CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")


def write_clips(names: Iterable[Path]) -> None:
    """Sounds that differ by their name; no speech."""
    for pitch, path in enumerate(names, start=20):
        path.parent.mkdir(parents=True, exist_ok=True)
        times = np.arange(RATE // 4) / RATE
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * 10 * pitch * times), RATE)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))


def crema_d(root: Path) -> None:
    """Two actors for training, and those that the config tests on; one of their clips is known to be silent."""
    trained = [f"{actor}_{text}_{code}_XX" for actor in (1001, 1002) for text in ("DFA", "TSI") for code in CODES]
    tested = [f"{actor}_MTI_{CODES[actor % 6]}_XX" for actor in range(1074, 1092) if actor != 1076]
    clips = [*trained, *tested, "1076_MTI_SAD_XX"]
    write_clips(root / "AudioWAV" / f"{name}.wav" for name in clips)
    # Every third clip has two emotions with the most votes.
    rows = [f'"{100001 + row}",{row % 3},0,0,0,1,2,"{name}"' for row, name in enumerate(clips)]
    write(root / "processedResults/tabulatedVotes.csv", '"","A","D","F","H","N","S","fileName"', *rows)


def ravdess(root: Path) -> None:
    for actor in ("01", "02", "03", "21", "22", "23", "24"):
        write_clips(root / f"Actor_{actor}" / f"03-01-0{emotion}-01-01-01-{actor}.wav" for emotion in range(1, 9))


def dailytalk(root: Path) -> None:
    emotions = ("no emotion", "happiness", "no emotion", "anger")
    turns = {
        str(dialogue): {str(turn): {"speaker": turn % 2, "emotion": emotion} for turn, emotion in enumerate(emotions)}
        for dialogue in range(10)
    }
    write(root / "metadata.json", json.dumps(turns))
    names = [root / f"data/{dialogue}/{turn}_{turn % 2}_d{dialogue}" for dialogue in range(10) for turn in range(4)]
    write_clips(name.with_suffix(".wav") for name in names)
    for number, name in enumerate(names):
        write(name.with_suffix(".txt"), f"turn {number}")


def msp_podcast(root: Path) -> None:
    """Podcasts with segments in three partitions, some of them without agreement or without a rating."""
    partitions = ("Train", "Train", "Development", "Test1")
    segments = [(podcast, segment) for podcast in range(4) for segment in range(8)]
    rows, raters = [], []
    for podcast, segment in segments:
        name = f"MSP-PODCAST_{podcast:04d}_{segment:04d}"
        partition = partitions[segment % 4]
        arousal = "" if segment == 1 else f"{1 + segment % 7}"
        rows.append(f"{name}.wav,{'AHXN'[segment // 2]},{arousal},{7 - segment % 7},4,{partition},Male,{partition}")
        raters += [f"{name}.wav,WORKER{rater},{'Angry' if rater else 'Happy'},,4,4,4" for rater in range(segment % 4)]
        write(root / f"Transcripts/{name}.txt", f"segment {segment}")
    write_clips(root / f"Audios/MSP-PODCAST_{podcast:04d}_{segment:04d}.wav" for podcast, segment in segments)
    write(root / "Labels/labels_consensus.csv", "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set", *rows)
    write(
        root / "Labels/labels_detailed.csv",
        "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom",
        *raters,
    )


HEARD = ("--corpus.options.label", "perceived", "--training.target", "distribution", "--training.unagreed", "use")


@pytest.mark.parametrize(
    ("make", "options", "counts", "tested"),
    [
        (crema_d, (), "42 utterances in 42 dialogues", {str(actor) for actor in range(1074, 1092)}),
        (crema_d, HEARD, "42 utterances in 42 dialogues", {str(actor) for actor in range(1074, 1092)}),
        (ravdess, (), "56 utterances in 56 dialogues", {f"Actor_{actor}" for actor in range(21, 25)}),
        (dailytalk, (), "40 utterances in 10 dialogues", {"0", "1"}),
        (msp_podcast, (), "32 utterances in 12 dialogues", {"Test1"}),
    ],
)
def test_a_model_is_trained_and_measured(
    make: Callable[[Path], None],
    options: tuple[str, ...],
    counts: str,
    tested: set[str],
    tiny_encoders: Path,
    tmp_path: Path,
    run: Run,
) -> None:
    make(tmp_path / "corpus")
    settings = {
        "work": tmp_path / "work",
        "corpus.root": tmp_path / "corpus",
        "encoders.audio.name": f"hf:{tiny_encoders / 'audio'}",
        "encoders.audio.precision": "fp32",
        "features.store": tmp_path / "work" / "store",
        "features.workers": 0,
        "training.epochs": 2,
        "training.batch_size": 8,
        "evaluation.bootstrap": 20,
    }
    if make in (dailytalk, msp_podcast):
        settings["encoders.text.name"] = f"hf:{tiny_encoders / 'text'}"
    all_options = [*options, *(part for key, value in settings.items() for part in (f"--{key}", str(value)))]
    for stage in ("prepare", "features", "train", "evaluate"):
        code, out, err = run([stage, "--config", str(ROOT / "configs" / f"{make.__name__}.yaml"), *all_options])
        assert code == 0, err
        assert stage != "prepare" or counts in out
    predictions = next((tmp_path / "work").rglob("predictions.jsonl")).read_text().splitlines()
    assert {json.loads(line)["speaker"] for line in predictions} == tested
