"""A reduced demo corpus and tiny checkpoints, on which the commands themselves are run."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lpgnet.pipeline import cli
from tests.e2e.workplace import DEMO, Run, Workplace, reduce_corpus, write_config

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav2vec2 and a RoBERTa of a few thousand random weights, in Hugging Face layout."""
    import torch
    from transformers import (
        AutoTokenizer,
        RobertaConfig,
        RobertaModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
    )

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoders")
    audio = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2Model(audio).save_pretrained(folder / "audio")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "audio")
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "encoders" / "text")
    tokenizer.save_pretrained(folder / "text")
    text = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=130,
        pad_token_id=tokenizer.pad_token_id,
    )
    RobertaModel(text).save_pretrained(folder / "text")
    return folder


@pytest.fixture(scope="session")
def extracted(tmp_path_factory: pytest.TempPathFactory, tiny_encoders: Path) -> Workplace:
    """A workplace whose embeddings are cached; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("extracted")
    reduce_corpus(folder / "corpus")
    workplace = Workplace(folder, folder / "corpus", folder / "x.yaml")
    write_config(workplace.config, workplace.corpus, tiny_encoders, folder / "work")
    for stage in ("prepare", "features"):
        assert cli.main(workplace.arguments(stage)) == 0
    return workplace


@pytest.fixture
def workplace(extracted: Workplace, tmp_path: Path, tiny_encoders: Path) -> Workplace:
    """A copy of the workplace, to break, without the runs that other tests trained in it."""
    shutil.copytree(extracted.folder, tmp_path, ignore=shutil.ignore_patterns("runs"), dirs_exist_ok=True)
    copy = Workplace(tmp_path, tmp_path / "corpus", tmp_path / "x.yaml")
    write_config(copy.config, copy.corpus, tiny_encoders, tmp_path / "work")
    assert cli.main(copy.arguments("prepare")) == 0
    return copy


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process."""

    def run_command(arguments: list[str]) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def missing(what: str) -> None:
    """Skip where something is not installed, but not in continuous integration."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing; the browser tests must run here")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("the Python package playwright")
    if not CHROMIUM.exists():
        missing(str(CHROMIUM))
    with sync_playwright() as playwright:
        options = ["--autoplay-policy=no-user-gesture-required", "--no-sandbox"]
        # In the C locale Chromium opens no file whose path has an umlaut.
        settings = {**os.environ, "LC_ALL": "C.UTF-8"}
        instance = playwright.chromium.launch(executable_path=str(CHROMIUM), args=options, env=settings)
        yield instance
        instance.close()


@pytest.fixture(scope="session")
def trained(extracted: Workplace) -> Path:
    """The folder of a run that is trained."""
    assert cli.main(extracted.arguments("train", "--run", "trained")) == 0
    return extracted.folder / "work" / "small" / "runs" / "trained"
