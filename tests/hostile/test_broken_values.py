"""A broken value in any field of a configuration, or of a file that the project reads, gets one line that names it."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from lpgnet.pipeline import cli
from lpgnet.pipeline.config import Config, ExportConfig, PredictionConfig, ServeConfig
from tests.hostile.broken import config_fields, impossible, nested
from tests.hostile.budget import cases

SECTIONS = {"train": Config, "predict": PredictionConfig, "serve": ServeConfig, "export": ExportConfig}
CONFIG_CASES = [
    (stage, key, value)
    for stage, section in SECTIONS.items()
    for key, kind in config_fields(section)
    for value in impossible(kind)
]


def drawn(every: list[Any], share: float) -> list[Any]:
    """The same cases each time, all of them where the budget allows."""
    return Random(0).sample(every, min(len(every), cases(share)))


def one_line(code: int, error: str) -> str:
    """What a command says that fails: one line, for people."""
    assert code in (1, 2), error
    assert "Traceback" not in error and "unexpected" not in error
    (line,) = [line for line in error.splitlines() if "error:" in line]
    assert error.splitlines()[-1] == line and line.startswith("lpgnet: error: ")
    return line


@pytest.mark.parametrize(("stage", "key", "value"), drawn(CONFIG_CASES, 0.3))
def test_a_broken_value_in_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, key: str, value: Any
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(nested(key.split("."), value)))
    line = one_line(cli.main([stage, "--config", str(path)]), capsys.readouterr().err)
    assert "x.yaml" in line and key in line
