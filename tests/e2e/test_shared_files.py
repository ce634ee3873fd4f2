"""What a run and a table write names no folder of this machine; what it names is found from the project's folder."""

from pathlib import Path

import pytest

from tests.e2e.workplace import RECORDING, Run, Workplace


def test_no_file_tells_where_it_was_made(
    workplace: Workplace, tiny_encoders: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The configuration names corpus, encoders, store and work folder by absolute paths, some of them elsewhere."""
    home = tiny_encoders.parent
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(workplace.folder)
    folder = workplace.folder / "work" / "small"
    table = ["--crossval.seeds", "1", "--crossval.folds", "one", "--crossval.workers", "1"]
    overlay = workplace.folder / "overlay.yaml"
    overlay.write_text("model: {kernel_size: 1}\n")
    assert run(workplace.arguments("train"))[0] == 0
    assert run(workplace.arguments("evaluate"))[0] == 0
    assert run(workplace.arguments("crossval", *table, "--crossval.overlays", f'["{overlay}"]'))[0] == 0
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]
    names = {path.name for path in files}
    assert {"config.yaml", "README.md", "config.json", "report.html", "results.json", "metrics.json"} <= names
    for path in files:
        for place in {str(home), str(workplace.folder), str(tiny_encoders)}:
            assert place.encode() not in path.read_bytes(), f"{path} tells of {place}"
    assert "hf:../" not in (folder / "runs/default/best/README.md").read_text()

    own = ["--config", "work/small/runs/default/config.yaml"]
    for stage in ("train", "evaluate"):
        code, _, err = run([stage, *own])
        assert code == 0, err
    assert "up to date" in run(["train", *own])[2]
    monkeypatch.chdir(tmp_path.parent)
    model = ["--model", str(folder / "runs" / "default"), "--out", str(tmp_path / "out")]
    code, _, err = run(["predict", str(RECORDING), *model, "--formats", "jsonl"])
    assert code == 0, err
