"""docs/model.md: what it names exists, its examples run, its figures are right, and its drawing is the script's."""

import doctest
import importlib
import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from lpgnet.model import LPGNetConfig, LPGNetForEmotionRecognition

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
CODE = re.findall(r"\[`([A-Za-z_.]+)`\]\(\.\./model/(\w+)\.py\)", PAGE)
LINKS = re.findall(r"\]\((?!http)([^)]+)\)", PAGE)


@pytest.mark.parametrize(("name", "module"), CODE)
def test_what_the_page_names_is_in_that_file(name: str, module: str) -> None:
    found = importlib.import_module(f"lpgnet.model.{module}")
    for part in name.split("."):
        found = vars(found)[part]
    assert found.__module__ == f"lpgnet.model.{module}"


def test_every_step_has_its_code() -> None:
    rows = re.findall(r"^\| ([0-8]|2, 3) \| .*$", PAGE.split("## What is")[0], re.MULTILINE)
    assert rows == ["0", "1", "2, 3", "4", "5", "6", "7", "8"] and len(CODE) >= len(rows)


@pytest.mark.parametrize("link", LINKS)
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link.partition("#")[0]).exists()


def test_every_field_and_every_ablation_of_the_model_is_told() -> None:
    told = set(re.findall(r"`(\w+)`", PAGE))
    about_its_making = {"id2label", "label_map", "encoders", "text_context_turns", "audio_trim", "audio_silence"}
    about_its_making |= {"calibration_temperature"}
    assert {entry.name for entry in fields(LPGNetConfig)} - about_its_making <= told
    for path in (ROOT / "configs" / "ablations").glob("*.yaml"):
        assert ("model" not in yaml.safe_load(path.read_text())) or f"../configs/ablations/{path.name}" in LINKS


def test_its_number_of_parameters_is_that_of_the_defaults() -> None:
    assert f"{LPGNetForEmotionRecognition().num_parameters():,} parameters" in PAGE


def test_its_example_runs() -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, {})


@pytest.mark.parametrize("module", ["lpgnet.model", "lpgnet.model.lpgnet"])
def test_the_examples_in_the_code_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted and not result.failed


def test_the_drawing_is_that_of_the_script() -> None:
    spec = importlib.util.spec_from_file_location("draw_model", ROOT / "docs" / "draw_model.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TARGET.read_text(encoding="utf-8") == script.draw()
