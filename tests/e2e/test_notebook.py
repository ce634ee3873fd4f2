"""The notebook runs from its first cell to its last, and is kept without outputs."""

import json
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.e2e.workplace import DEMO, ROOT, reduce_corpus

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the notebook reads, with less of the corpus."""
    reduce_corpus(tmp_path / "examples" / "demo" / "corpus")
    for name in ("encoders", "recording"):
        shutil.copytree(DEMO / name, tmp_path / "examples" / "demo" / name)
    (tmp_path / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "demo.yaml", tmp_path / "configs")
    return tmp_path


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel of this very Python, that imports this checkout."""
    folder = tmp_path / "jupyter" / "kernels" / "this"
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "this", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return "this"


def test_the_notebook_is_kept_without_outputs(notebook: nbformat.NotebookNode) -> None:
    assert len(notebook.cells) == 10
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert str(os.path.expanduser("~")) not in NOTEBOOK.read_text(encoding="utf-8")


def test_the_notebook_runs_from_corpus_to_timeline(
    notebook: nbformat.NotebookNode, checkout: Path, kernel: str
) -> None:
    cell = notebook.cells[1]
    assert '"--training.epochs", "40"' in cell.source
    cell.source = cell.source.replace('"--training.epochs", "40"', '"--training.epochs", "2"')
    client = NotebookClient(notebook, timeout=None, kernel_name=kernel)
    client.execute(cwd=str(checkout / "examples"))
    printed = "".join(output.get("text", "") for output in notebook.cells[8].outputs)
    assert len(printed.splitlines()) > 3 and "(text" in printed and "audio" in printed
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[6].outputs)
    made = {path.name for path in (checkout / "work" / "quickstart" / "timelines").iterdir()}
    assert {"recording.html", "recording.csv", "recording.jsonl"} <= made
