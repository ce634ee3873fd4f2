"""The shipped configs of corpora that are no conversations, from made-up clips to a measured model."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.e2e.workplace import ROOT, Run

RATE = 16_000
CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")


def write_clips(folder: Path, names: Iterable[str]) -> None:
    """Sounds that differ by their name; no speech."""
    folder.mkdir(parents=True)
    for pitch, name in enumerate(names, start=20):
        times = np.arange(RATE // 4) / RATE
        soundfile.write(folder / f"{name}.wav", 0.3 * np.sin(2 * np.pi * 10 * pitch * times), RATE)


@pytest.fixture
def crema_d(tmp_path: Path) -> Path:
    """Two actors for training, and those that the config tests on; one of their clips is known to be silent."""
    trained = [f"{actor}_{text}_{code}_XX" for actor in (1001, 1002) for text in ("DFA", "TSI") for code in CODES]
    tested = [f"{actor}_MTI_{CODES[actor % 6]}_XX" for actor in range(1074, 1092) if actor != 1076]
    root = tmp_path / "CREMA-D"
    write_clips(root / "AudioWAV", [*trained, *tested, "1076_MTI_SAD_XX"])
    rows = [f'"{100001 + row}",1,0,0,0,{row % 4},2,"{name}"' for row, name in enumerate([*trained, *tested])]
    (root / "processedResults").mkdir()
    (root / "processedResults/tabulatedVotes.csv").write_text(
        "\n".join(['"","A","D","F","H","N","S","fileName"', *rows, ""])
    )
    return root


@pytest.fixture
def ravdess(tmp_path: Path) -> Path:
    emotions = {f"Actor_{actor:02d}": range(1, 9) for actor in (1, 2, 3, 21, 22, 23, 24)}
    root = tmp_path / "RAVDESS"
    for actor, numbers in emotions.items():
        write_clips(root / actor, [f"03-01-{emotion:02d}-01-01-01-{actor[-2:]}" for emotion in numbers])
    return root


@pytest.mark.parametrize(
    ("corpus", "clips", "tested", "held_out"),
    [
        ("crema_d", 42, 18, [str(actor) for actor in range(1074, 1092)]),
        ("ravdess", 56, 32, [f"Actor_{actor}" for actor in range(21, 25)]),
    ],
)
def test_a_model_is_trained_and_measured(
    corpus: str,
    clips: int,
    tested: int,
    held_out: list[str],
    request: pytest.FixtureRequest,
    tiny_encoders: Path,
    tmp_path: Path,
    run: Run,
) -> None:
    root: Path = request.getfixturevalue(corpus)
    work = tmp_path / "work"
    settings = {
        "work": work,
        "corpus.root": root,
        "encoders.audio.name": f"hf:{tiny_encoders / 'audio'}",
        "encoders.audio.precision": "fp32",
        "features.store": work / "store",
        "features.workers": 0,
        "training.epochs": 2,
        "training.batch_size": 8,
        "evaluation.bootstrap": 20,
    }
    options = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    for stage in ("prepare", "features", "train", "evaluate"):
        code, out, err = run([stage, "--config", str(ROOT / "configs" / f"{corpus}.yaml"), *options])
        assert code == 0, err
        assert stage != "prepare" or f"{clips} utterances in {clips} dialogues" in out
    predictions = next(work.rglob("predictions.jsonl")).read_text().splitlines()
    speakers = {json.loads(line)["speaker"] for line in predictions}
    assert len(predictions) == tested
    assert speakers == set(held_out)
