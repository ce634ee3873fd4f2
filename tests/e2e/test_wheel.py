"""The wheel, installed as people install it: one package, whole, beside a project that uses the same names."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lpgnet import __version__
from lpgnet.pipeline import cli
from tests.e2e.workplace import DEMO, ROOT, Workplace

LIBRARY = ("lpgnet", "pipeline", "feature_extractors", "model", "cache")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
SCRIPT = """
import cache, model, pipeline
from lpgnet import EmotionPipeline
import lpgnet.pipeline.predict

assert (cache.WHOSE, model.WHOSE, pipeline.WHOSE) == ("mine", "mine", "mine")
rows = EmotionPipeline.from_pretrained({model!r}, device="cpu")({recording!r})
print(len(list(rows)), lpgnet.pipeline.predict.__file__)
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has the wheel, and sees all else of this one."""

    folder: Path
    gained: set[str]

    @property
    def commands(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    @property
    def packages(self) -> Path:
        return packages_of(self.folder)

    def run(self, command: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment; no path leads to the checkout."""
        words = [str(self.commands / command), *arguments]
        return subprocess.run(words, cwd=cwd, env=clean_environment(), capture_output=True, text=True)


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def packages_of(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "installed_base": str(folder)}))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, where no earlier build leaves files behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*LIBRARY, "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-c", BUILD, str(out)]
    subprocess.run(build, cwd=source, env=clean_environment(), check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    packages = packages_of(folder)
    # Only the names in here are read, not the .pth files of what it points to: no editable install comes along.
    # In ASCII: in the C locale Python 3.11 reads no .pth file that has anything else.
    line = f"import sys; sys.path.append({sysconfig.get_path('purelib')!a})\n"
    (packages / "beside.pth").write_text(line, encoding="ascii")
    before = set(os.listdir(packages))
    # Not the default: pip would see the editable install beside it and remove that instead.
    install = ["-m", "pip", "install", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    done = Environment(folder, set()).run("python", *install, cwd=folder)
    assert done.returncode == 0, done.stderr
    return Environment(folder, set(os.listdir(packages)) - before)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project, with modules of its own that are called as folders of ours are."""
    (tmp_path / "cache").mkdir()
    for path in ("model.py", "pipeline.py", "cache/__init__.py"):
        (tmp_path / path).write_text("WHOSE = 'mine'\n", encoding="utf-8")
    shutil.copytree(DEMO / "recording", tmp_path / "recording")
    return tmp_path


@pytest.fixture(scope="module")
def trained(extracted: Workplace) -> Path:
    assert cli.main(extracted.arguments("train", "--run", "wheel")) == 0
    return extracted.folder / "work" / "small" / "runs" / "wheel"


def files_on_disk() -> set[str]:
    paths = [path for name in (*LIBRARY, "configs/presets") for path in (ROOT / name).rglob("*") if path.is_file()]
    names = (path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts)
    return {name if name.startswith("lpgnet/") else f"lpgnet/{name}" for name in names}


def test_the_wheel_holds_every_file_of_the_library_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith(f"lpgnet-{__version__}.dist-info/")}
    assert names == files_on_disk()
    reports = {f"lpgnet/pipeline/reports/{name}" for name in ("timeline.html", "timeline.js", "card.md")}
    assert {"lpgnet/py.typed", "lpgnet/configs/presets/lpgnet-plus.yaml", *reports} <= names


def test_one_package_is_installed(environment: Environment) -> None:
    assert environment.gained == {"lpgnet", f"lpgnet-{__version__}.dist-info"}


def test_the_command_labels_a_recording_beside_modules_of_the_same_names(
    environment: Environment, project: Path, trained: Path
) -> None:
    arguments = ["predict", "recording/recording.flac", "--model", str(trained), "--out", "out", "--device", "cpu"]
    for command in (["lpgnet"], ["python", "-m", "lpgnet"]):
        shutil.rmtree(project / "out", ignore_errors=True)
        done = environment.run(*command, *arguments, cwd=project)
        assert done.returncode == 0, done.stderr
        assert (project / "out" / "recording.html").exists()
        assert len((project / "out" / "recording.jsonl").read_text(encoding="utf-8").splitlines()) > 3


def test_the_command_finds_a_preset_by_its_name(environment: Environment, project: Path) -> None:
    done = environment.run("lpgnet", "train", "--preset", "lpgnet-plus", "--print_config", cwd=project)
    assert done.returncode == 0 and "distance_bias: true" in done.stdout, done.stderr


def test_python_labels_a_recording_beside_modules_of_the_same_names(
    environment: Environment, project: Path, trained: Path
) -> None:
    recording = project / "recording" / "recording.flac"
    script = SCRIPT.format(model=str(trained), recording=str(recording))
    (project / "label.py").write_text(script, encoding="utf-8")
    done = environment.run("python", "label.py", cwd=project)
    assert done.returncode == 0, done.stderr
    turns, where = done.stdout.split(maxsplit=1)
    assert int(turns) > 3
    assert Path(where.strip()) == environment.packages / "lpgnet" / "pipeline" / "predict.py"


def test_inside_a_checkout_its_own_code_runs(environment: Environment) -> None:
    done = environment.run("python", "-m", "lpgnet", "--help", cwd=ROOT)
    assert done.returncode == 0 and done.stdout.startswith("usage: lpgnet STAGE"), done.stderr
    done = environment.run("python", "-c", "import lpgnet.pipeline; print(lpgnet.pipeline.__file__)", cwd=ROOT)
    assert Path(done.stdout.strip()) == ROOT / "pipeline" / "__init__.py"
