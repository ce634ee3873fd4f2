"""What is declared and what is there: packages, their files, imports and dependencies."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LIBRARY = ("lpgnet", "pipeline", "feature_extractors", "model", "cache")
# Modules that type checkers bring along.
TYPES_ONLY = {"_typeshed"}
# The license of one is not everybody's: its tests hold with and without it. The other is for Linux, and no test's.
NOT_IN_DEV = {"opensmile", "atheris"}


@dataclass(frozen=True)
class Import:
    """One third-party module that a file imports."""

    module: str
    deferred: bool
    where: str


def imports_of(folder: str) -> Iterator[Import]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        deferred = {id(node) for block in ast.walk(tree) if defers(block) for node in ast.walk(block)}
        for node in ast.walk(tree):
            for module in {name.partition(".")[0] for name in named_modules(node)}:
                if is_third_party(module, path):
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]
                    yield Import(module, id(node) in deferred, where)


def is_third_party(module: str, importer: Path) -> bool:
    ours = module in ("lpgnet", "tests", "benchmarks") or importer.with_name(f"{module}.py").exists()
    return not ours and module not in sys.stdlib_module_names and module not in TYPES_ONLY


def defers(node: ast.AST) -> bool:
    """Whether what stands in the node is not run when its file is imported."""
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return typing or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def named_modules(node: ast.AST) -> list[str]:
    """The modules that one node imports, also those whose files it finds and reads without importing them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [str(node.module)]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "find_spec" and isinstance(node.args[0], ast.Constant):
        return [str(node.args[0].value)]
    return []


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def distributions_of(module: str) -> set[str]:
    """The names under which what holds a module is installed; its own where it is not installed."""
    return {normal(name) for name in distributions().get(module, [module])}


def declared(*extras: str) -> dict[str, Requirement]:
    """The dependencies, and those of the extras, with what extras they name in turn."""
    lines = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        lines += PROJECT["project"]["optional-dependencies"][extra]
    found: dict[str, Requirement] = {}
    for requirement in map(Requirement, lines):
        if requirement.name == "lpgnet":
            found |= declared(*requirement.extras)
        else:
            found[normal(requirement.name)] = requirement
    return found


EXTRAS = [name for name in PROJECT["project"]["optional-dependencies"] if name not in ("dev", "docs")]


def test_every_package_on_disk_is_declared() -> None:
    folders = {path.parent.relative_to(ROOT) for name in LIBRARY for path in (ROOT / name).rglob("*.py")}
    dotted = {
        ".".join(folder.parts if folder.parts[0] == "lpgnet" else ("lpgnet", *folder.parts)) for folder in folders
    }
    # The presets, which are no code.
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted({*dotted, "lpgnet.configs"})


def test_what_the_library_imports_is_declared() -> None:
    core, all_extras = set(declared()), set(declared(*EXTRAS))
    for one in (found for folder in LIBRARY for found in imports_of(folder)):
        names = distributions_of(one.module)
        assert names & all_extras, f"{one.where} imports {one.module}, which pyproject.toml does not declare"
        assert names & core or one.deferred, f"{one.where}: {one.module} is an extra; import it where it is used"


def test_what_is_declared_is_imported() -> None:
    modules = {found.module for folder in LIBRARY for found in imports_of(folder)}
    imported = {name for module in modules for name in distributions_of(module)}
    assert set(declared()) <= imported


def test_dev_holds_what_the_tests_import() -> None:
    everything = {*declared("dev"), *NOT_IN_DEV}
    for one in (found for folder in ("tests", "examples") for found in imports_of(folder)):
        assert distributions_of(one.module) & everything, f"{one.where} imports {one.module}: add it to dev"


def test_the_tested_versions_are_pinned_and_allowed() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {normal(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert len(pins) == len(lines)
    for name, requirement in declared("dev").items():
        assert name in pins, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"constraints.txt pins {name} to {pins[name]}"


@pytest.mark.parametrize("code", ["import lpgnet", "from lpgnet import __version__", "import lpgnet; dir(lpgnet)"])
def test_the_public_face_alone_imports_nothing(code: str) -> None:
    """Nothing but the standard library: a version is asked for in an instant."""
    report = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True)
    tops = {name.partition(".")[0] for name in done.stdout.split()}
    assert tops - set(sys.stdlib_module_names) == {"lpgnet"}


def test_the_public_face_gives_all_it_names() -> None:
    import lpgnet

    assert dir(lpgnet) == sorted(lpgnet.__all__)
    assert all(getattr(lpgnet, name) is not None for name in lpgnet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'emotion'"):
        _ = lpgnet.emotion


def test_python_m_lpgnet_runs_in_the_checkout() -> None:
    done = subprocess.run([sys.executable, "-m", "lpgnet", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: lpgnet STAGE")


def test_the_image_is_built_from_what_the_build_may_see() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    seen = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"}
    assert copied >= {*LIBRARY, "configs"} and copied | {"constraints.txt"} == seen
    assert all((ROOT / name).exists() for name in seen)
    assert "USER lpgnet" in lines


def test_continuous_integration_names_what_is_there() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    assert jobs["linux"]["strategy"]["matrix"]["python"][0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands
    assert all(
        (ROOT / word).exists() for line in commands for word in line.split() if word.startswith(("tests/", ".ci"))
    )
