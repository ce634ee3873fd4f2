"""Every benchmark has its tables in one page of the documentation, with the machine, and writes nothing else there."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench import benchmarks, run_all
from benchmarks.page import publish, write_between_marks

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^<!-- benchmarks/(\S+) -->\n(.*?)^<!-- /benchmarks/\1 -->$", re.M | re.S)
BLOCKS = [(name, block, page.name) for page in PAGES for name, block in BLOCK.findall(page.read_text("utf-8"))]
SCRIPTS = [path.name for path in benchmarks().values()]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=200)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_has_one_block(script: str) -> None:
    assert [name for name, _, _ in BLOCKS].count(script) == 1


def test_a_block_has_its_benchmark() -> None:
    marks = [name for page in PAGES for name in re.findall(r"<!-- /?benchmarks/(\S+) -->", page.read_text("utf-8"))]
    assert set(marks) == set(SCRIPTS)
    assert len(marks) == 2 * len(BLOCKS)


@pytest.mark.parametrize(("script", "block"), [(name, block) for name, block, _ in BLOCKS])
def test_a_block_says_its_machine_and_how_long_it_took(script: str, block: str) -> None:
    first, *_, last = block.strip().splitlines()
    assert all(fact in first for fact in (" cores, ", " GiB, ", ", Python ", ", torch ", ", load ")), first
    assert re.fullmatch(r"Measured in [\d.]+ minutes\.", last)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_tells_its_options(script: str) -> None:
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--write" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_settles_threads_before_torch_reads_how_they_wait(script: str) -> None:
    command = [sys.executable, "-X", "importtime", ROOT / "benchmarks" / script, "--help"]
    told = subprocess.run(command, capture_output=True, text=True).stderr
    imported = [line.rpartition("|")[2].strip() for line in told.splitlines()]
    assert "torch" not in imported[: imported.index("page")]


@given(before=TEXT, old=TEXT, after=TEXT, lines=st.lists(TEXT))
def test_nothing_but_the_block_changes(
    tmp_path_factory: pytest.TempPathFactory, before: str, old: str, after: str, lines: list[str]
) -> None:
    page = tmp_path_factory.mktemp("page") / "page.md"
    begin, end = "<!-- benchmarks/one.py -->", "<!-- /benchmarks/one.py -->"
    other = "<!-- benchmarks/two.py -->\nkept\n<!-- /benchmarks/two.py -->\n"
    page.write_text(f"{before}{begin}{old}{end}{other}{after}", encoding="utf-8")
    write_between_marks(lines, "one.py", page)
    assert page.read_text("utf-8") == "\n".join([f"{before}{begin}", *lines, f"{end}{other}{after}"])


@pytest.mark.parametrize(
    "text",
    [
        "no marks",
        "<!-- benchmarks/one.py -->",
        "<!-- /benchmarks/one.py --> <!-- benchmarks/one.py -->",
        2 * "<!-- benchmarks/one.py --> <!-- /benchmarks/one.py -->",
    ],
)
def test_a_page_without_marks_is_refused_before_anything_is_measured(tmp_path: Path, text: str) -> None:
    page, measured = tmp_path / "page.md", []
    page.write_text(text)
    with pytest.raises(SystemExit, match="must have one line"):
        publish((measured.append(n) or "" for n in range(1)), script="one.py", write=True, how="", page=page)
    assert not measured
    assert page.read_text() == text


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    codes = {"first.py": "print('made')", "second.py": "raise SystemExit(3)", "third.py": "import sys; print(sys.argv)"}
    for name, code in codes.items():
        (tmp_path / name).write_text(code)
    assert run_all([tmp_path / name for name in codes]) == 1
    printed, said = capfd.readouterr()
    assert printed == f"made\n{[str(tmp_path / 'third.py'), '--write']}\n"
    lines = re.sub(r"\d+ s\b", "N s", said).splitlines()
    assert lines[:3] == ["first.py, 1 of 3", "first.py: done after N s", "second.py, 2 of 3"]
    assert lines[3] == "second.py: failed after N s"
    assert lines[-1] == "benchmarks: 2 of 3 done in N s; failed: second.py"
    assert run_all([tmp_path / "first.py"]) == 0


def test_pictures_of_the_pages_are_there() -> None:
    for page in PAGES[1:]:
        for name in re.findall(r"!\[[^\]]+\]\(([^)#?:]+)\)", page.read_text("utf-8")):
            assert (page.parent / name).is_file(), f"{page.name}: {name}"


def test_equal_figures_of_growth_draw_equal_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    growth = import_module("growth")
    subject = growth.Subject("predict", "turns of a recording", (10, 100), {"one": None, "other": None})
    points = [growth.Point(10, 1.0, 100.0), growth.Point(100, 30.0, 120.0)]
    found = {"predict": {"one": points, "other": points[:1]}}
    for name in ("first.svg", "second.svg"):
        growth.draw([subject, subject], found, tmp_path / name)
    picture = (tmp_path / "first.svg").read_text("utf-8")
    assert picture == (tmp_path / "second.svg").read_text("utf-8")
    for words in ("predict", "turns of a recording", "processor time each (ms)", "memory (MB)", "one", "other"):
        assert f">{words}</text>" in picture
