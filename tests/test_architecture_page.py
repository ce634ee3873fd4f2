"""The walks of docs/architecture.md: every file and function that they name is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STEPS = re.findall(r"^\| `([\w/]+\.py)` \| `(\w+)` \|", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.M)


@pytest.mark.parametrize(("file", "function"), STEPS)
def test_a_step_names_a_function_of_its_file(file: str, function: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_there_are_three_walks() -> None:
    assert len(STEPS) >= 20
