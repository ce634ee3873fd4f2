"""The arrows: pipeline imports the other three, which import nothing of the project; its rooms import downwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "feature_extractors", "model", "cache")
# A room imports those before it; the stages stand above them all.
ROOMS = (
    *("common", "corpora", "embeddings", "recordings", "training", "tuning"),
    *("evaluation", "searching", "reports", "labelling"),
)
STAGES = {path.stem for path in (ROOT / "pipeline").glob("*.py")} - {
    *("__init__", "config", "errors", "model_config", "presets")
}


def modules(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}:{node.lineno} imports relatively"
            names.add(node.module)
    return names


def imported(path: Path) -> set[str]:
    """The packages that a file imports: those of this project by their own name, others by their first."""
    names = (module.split(".") for module in modules(path))
    return {parts[1] if parts[0] == "lpgnet" and len(parts) > 1 else parts[0] for parts in names}


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_the_three_can_be_lifted_out(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        others = imported(path) & set(PACKAGES) - {package}
        assert not others, f"{path} imports {others}"


def test_every_room_is_on_the_list() -> None:
    folders = {path.parent.relative_to(ROOT / "pipeline").parts[:1] for path in (ROOT / "pipeline").rglob("*.py")}
    assert folders - {()} == {(room,) for room in ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_downwards(room: str) -> None:
    above = {*STAGES, *ROOMS[ROOMS.index(room) + 1 :]}
    for path in (ROOT / "pipeline" / room).rglob("*.py"):
        inside = {name.split(".")[2] for name in modules(path) if name.startswith("lpgnet.pipeline.")}
        assert not inside & above, f"{path} imports {inside & above}"


def test_model_needs_torch_and_the_hub_alone() -> None:
    """safetensors is what both keep weights in."""
    further = set().union(*(imported(path) for path in (ROOT / "model").rglob("*.py"))) - sys.stdlib_module_names
    assert further == {"model", "torch", "huggingface_hub", "safetensors"}
    code = "import sys, lpgnet.model.registry; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_cache_needs_no_torch() -> None:
    assert not any({"torch", "transformers"} & imported(path) for path in (ROOT / "cache").rglob("*.py"))


@pytest.mark.parametrize(
    "module",
    [
        "lpgnet",
        "lpgnet.cache",
        "lpgnet.feature_extractors",
        "lpgnet.model.configuration",
        "lpgnet.pipeline.cli",
        "lpgnet.pipeline.features",
    ],
)
def test_what_must_start_fast_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_nothing_unpickles() -> None:
    """Loading is by safetensors, JSON, or torch with weights_only=True."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert not imported(path) & {"pickle", "joblib", "dill", "shelve"}, path
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                    settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    safe = settings.get("weights_only") == "True" or settings.get("allow_pickle") == "False"
                    assert safe, f"{path}:{node.lineno}"
