"""Trackers: nothing beside our own log unless asked for, and a missing one is told before training."""

from pathlib import Path

import pytest

from lpgnet.pipeline.config import TrainingConfig
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.training import trainer
from tests.pipeline.tensors import make_config, make_corpus, train


def test_tensorboard_writes_its_own_files_where_it_is_asked_for(tmp_path: Path) -> None:
    assert TrainingConfig().tracker == "none"
    corpus = make_corpus("text", dialogues=24)
    train(corpus, make_config(epochs=1), tmp_path / "none")
    train(corpus, make_config(epochs=1, tracker="tensorboard"), tmp_path / "tensorboard")
    assert not list((tmp_path / "none").rglob("events.out.*"))
    assert list((tmp_path / "tensorboard" / "logs").rglob("events.out.*"))


@pytest.mark.parametrize(
    ("tracker", "package"), [("tensorboard", "lpgnet[tracking]"), ("wandb", "wandb"), ("trackio", "trackio")]
)
def test_a_tracker_that_is_not_installed_is_named_with_its_package(
    tracker: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        train(make_corpus("text", dialogues=24), make_config(epochs=1, tracker=tracker), tmp_path / "run")
    assert f"pip install '{package}'" in str(caught.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
