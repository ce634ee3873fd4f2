"""Damaged checkpoints and models: the newest sound one is resumed from, and the run ends as if nothing had happened."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.checkpoints import set_damaged_aside
from lpgnet.pipeline.training.freshness import run_inputs
from lpgnet.pipeline.training.runs import check_same_protocol, training_cost
from tests.pipeline.tensors import make_config, make_corpus, make_split, train
from tests.pipeline.training.test_training import StoppedTrainer, make_trainer

CONFIG = make_config(epochs=5, modality_dropout=0.3)
NEWEST, BEFORE = "checkpoints/epoch-00003.safetensors", "checkpoints/epoch-00002.safetensors"
BEST = ("best/model.safetensors", "best/config.json")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    rng = random.Random(len(content))
    for place in rng.sample(range(len(content)), 4):
        content[place] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def flip_numbers(path: Path) -> None:
    """Flip the last bits of four of the numbers, which nothing but a digest notices."""
    content = bytearray(path.read_bytes())
    for place in range(len(content) - 64, len(content), 16):
        content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE: list[Callable[[Path], None]] = [flip, flip_numbers, cut, empty, Path.unlink]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    make_trainer(CONFIG, folder).fit()
    return folder


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The same run, stopped after the third of five epochs."""
    with pytest.raises(KeyboardInterrupt):
        make_trainer(CONFIG, tmp_path / "run", StoppedTrainer).fit()
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        Path(BEFORE).name,
        Path(NEWEST).name,
    ]
    return tmp_path / "run"


def assert_same(one: Path, other: Path) -> None:
    """Two runs ended in the same weights, the same best model and the same log."""
    for name in ("checkpoints/epoch-00005.safetensors", BEST[0]):
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(values, second[key]) for key, values in first.items()), name
    assert (one / BEST[1]).read_text() == (other / BEST[1]).read_text()
    logs = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in (one, other)]
    assert all(a | {"train_seconds": 0} == b | {"train_seconds": 0} for a, b in zip(*logs, strict=True))


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("files", [(NEWEST,), (NEWEST, BEFORE), (BEFORE,), BEST[:1], BEST[1:]], ids=len)
def test_a_damaged_run_ends_like_an_uninterrupted_one(
    files: tuple[str, ...],
    damage: Callable[[Path], None],
    whole: Path,
    stopped: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if damage is flip_numbers and files == BEST[1:]:
        pytest.skip("it has no numbers")
    for name in files:
        damage(stopped / name)
    make_trainer(CONFIG, stopped).fit()
    assert_same(stopped, whole)
    said = capsys.readouterr().err
    anew = files == (NEWEST, BEFORE) or files[0] in BEST
    if damage is not Path.unlink:
        assert all(Path(name).name in said and f"{name}~1" in kept(stopped) for name in files if name == NEWEST)
        assert ("training starts anew" in said) == anew
    resumed_after = {(NEWEST,): 2, (BEFORE,): 3}.get(files, 0)
    assert (f"resuming after epoch {resumed_after}" in said) == (resumed_after > 0)


def kept(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_what_is_set_aside_is_not_deleted(stopped: Path) -> None:
    content = (stopped / NEWEST).read_bytes()[:-100]
    for _ in range(2):
        (stopped / NEWEST).write_bytes(content)
        assert set_damaged_aside(stopped / "checkpoints")
    for number in (1, 2):
        assert (stopped / f"{NEWEST}~{number}").read_bytes() == content
    make_trainer(CONFIG, stopped).fit()
    assert (stopped / f"{NEWEST}~1").read_bytes() == content


def test_a_checkpoint_without_digest_is_not_trusted(stopped: Path, whole: Path, capsys: Any) -> None:
    with safe_open(stopped / NEWEST, framework="pt") as file:
        notes = {"state": file.metadata()["state"]}
    save_file(load_file(stopped / NEWEST), stopped / NEWEST, metadata=notes)
    make_trainer(CONFIG, stopped).fit()
    assert "is no checkpoint with a digest; it is now epoch-00003.safetensors~1" in capsys.readouterr().err
    assert_same(stopped, whole)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", [*BEST, "metrics.jsonl", "done.json"])
def test_a_finished_run_that_changed_is_not_done(
    name: str, damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, config, folder = make_corpus("text", dialogues=24), make_config(epochs=2), tmp_path / "run"
    train(corpus, config, folder)
    before = {path: (folder / path).read_bytes() for path in BEST}
    damage(folder / name)
    capsys.readouterr()
    train(corpus, config, folder)
    said = capsys.readouterr().err
    assert "up to date" not in said
    if name != "done.json":  # which is all that says that it was done, and what changed
        assert f"{folder} was done, but since then {name} went away or changed; it is trained again" in said
    assert {path: (folder / path).read_bytes() for path in BEST} == before
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    train(corpus, config, folder)
    assert "up to date" in capsys.readouterr().err


@pytest.mark.parametrize("keeps", [False, True])
def test_a_finished_run_drops_its_checkpoints(keeps: bool, tmp_path: Path) -> None:
    config, folder = make_config(epochs=2, keep_checkpoints=keeps), tmp_path / "run"
    train(make_corpus("text", dialogues=24), config, folder)
    assert (folder / "done.json").exists() and all((folder / name).exists() for name in BEST)
    assert (folder / "checkpoints").exists() == keeps
    assert len(list(folder.rglob("epoch-*"))) == 2 * keeps


def test_checkpoints_that_a_kill_left_to_a_finished_run_are_dropped_later(tmp_path: Path) -> None:
    corpus, folder = make_corpus("text", dialogues=24), tmp_path / "run"
    train(corpus, make_config(epochs=1, keep_checkpoints=True), folder)
    assert (folder / "checkpoints").exists()
    train(corpus, make_config(epochs=1), folder)
    assert not (folder / "checkpoints").exists() and (folder / "done.json").exists()


def test_what_was_set_aside_outlives_the_run(tmp_path: Path) -> None:
    corpus, folder = make_corpus("text", dialogues=24), tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    train(corpus, make_config(epochs=1), folder)
    (folder / "done.json").unlink()
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "epoch-00001.safetensors~1").write_bytes(b"damaged")
    train(corpus, make_config(epochs=1), folder)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["epoch-00001.safetensors~1"]


def test_keeping_checkpoints_makes_no_other_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, folder = make_corpus("text", dialogues=24), tmp_path / "run"
    train(corpus, make_config(epochs=1), folder)
    capsys.readouterr()
    train(corpus, make_config(epochs=1, keep_checkpoints=True), folder)
    assert "up to date" in capsys.readouterr().err


@pytest.mark.parametrize("keeps", [False, True])
def test_a_finished_run_whose_log_changed_keeps_its_model_until_it_has_another(keeps: bool, tmp_path: Path) -> None:
    """With a checkpoint the end is near, without one the training starts anew, and the model is set aside."""
    corpus, config, folder = make_corpus("text", dialogues=24), make_config(epochs=3, keep_checkpoints=keeps), tmp_path
    train(corpus, config, folder / "run")
    before = (folder / "run" / BEST[0]).read_bytes()
    (folder / "run" / "metrics.jsonl").write_text("")
    train(corpus, config, folder / "run")
    assert (folder / "run" / BEST[0]).read_bytes() == before
    assert (folder / "run" / "best~1").exists() != keeps


def test_a_temperature_that_was_changed_is_no_result_of_training(tmp_path: Path) -> None:
    """The model still loads, and is wrong."""
    corpus, config, folder = make_corpus("text", dialogues=24), make_config(epochs=2), tmp_path / "run"
    train(corpus, config, folder)
    path = folder / "best" / "config.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"calibration_temperature": 0.5}))
    train(corpus, config, folder)
    assert path.read_text() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"epoch": null}', "\x00", '{"epoch": "x"}'])
@pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json"])
def test_what_tells_of_a_training_is_read_or_refused_in_one_line(name: str, content: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(make_corpus("text", dialogues=24), make_config(epochs=1), folder)
    (folder / name).write_text(content)
    with pytest.raises(PipelineError, match=re.escape(str(folder / name))) as caught:
        training_cost(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{}", '{"training": null}', '{"training": 5, "labels": [], "fold": {}}', "[]", ""])
def test_a_run_whose_inputs_are_damaged_is_not_measured(content: str, tmp_path: Path) -> None:
    corpus, config = make_corpus("text", dialogues=24), make_config(epochs=1)
    train(corpus, config, tmp_path / "run")
    (tmp_path / "run" / "inputs.json").write_text(content)
    with pytest.raises(PipelineError, match=re.escape(str(tmp_path / "run"))):
        check_same_protocol(tmp_path / "run", run_inputs(config, corpus, make_split(corpus).name))
