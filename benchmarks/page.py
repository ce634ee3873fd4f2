"""How a benchmark prints its tables, and puts them into the documentation; it measures nothing itself."""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
# What a processor must have for its speed in bf16 and fp32 to be understood (Linux's names).
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def make_parser(about: str) -> argparse.ArgumentParser:
    """Return a parser of a benchmark's options that knows `--write`; `about` is its docstring."""
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into the documentation")
    return parser


def publish(lines: Iterable[str], *, script: str, write: bool, how: str, page: Path = PAGE) -> None:
    """Print lines while they are measured, the machine above them; with `write`, put them into the page.

    Args:
        lines: Markdown, made while it is measured.
        script: name of the benchmark's file, which the marks in the page have.
        write: whether to put them into the page.
        how: what was run, such as "3 rounds".
        page: the page with the marks.
    """
    shown = [f"{machine()}; {how}:", ""]
    print("\n".join(shown), flush=True)
    for line in lines:
        print(line, flush=True)
        shown.append(line)
    if write:
        write_between_marks(shown, script, page)


def machine() -> str:
    """Return the machine in words: the processor with what matters to its speed, memory, versions, load, threads."""
    name, flags = _processor()
    has = ", ".join(flag for flag in INSTRUCTIONS if flag in flags) or "no vector instructions known of"
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{name} ({has}), {len(psutil.Process().cpu_affinity())} cores, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )


def _processor() -> tuple[str, frozenset[str]]:
    """Return the processor's name and its instructions, as Linux tells them; elsewhere only a name."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in told)}
    name = f"{facts.get('model name', platform.machine())} (model {facts.get('model', '?')})"
    return name, frozenset(facts.get("flags", "").split())


def print_table(table: Callable[[Path, int], Iterator[str]], *, script: str, about: str, seeds: str) -> None:
    """Print a table while it is measured, and write it between its marks in the page with `--write`.

    Args:
        table: yields the lines, given a folder for files and the number of seeds.
        script: name of the benchmark's file.
        about: its docstring.
        seeds: what they are the number of.
    """
    parser = make_parser(about)
    parser.add_argument("--seeds", type=int, default=3, help=seeds)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = table(Path(folder), options.seeds)
        publish(lines, script=script, write=options.write, how=f"{options.seeds} {seeds}")


def write_between_marks(lines: Sequence[str], script: str, page: Path = PAGE) -> None:
    """Put lines into a page, between the comments that name the script."""
    begin, end = f"<!-- benchmarks/{script} -->", f"<!-- /benchmarks/{script} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    page.write_text("\n".join([f"{before}{begin}", *lines, f"{end}{after}"]), encoding="utf-8")
