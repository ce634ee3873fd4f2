"""How a benchmark prints its tables, and puts them into the documentation; it measures nothing itself.

Importing it lets threads wait as those of the commands do, so it comes before torch.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import time

import psutil

from lpgnet.pipeline.common.threads import settle_threads

settle_threads()
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
# What a processor must have for its speed in bf16 and fp32 to be understood (Linux's names).
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def make_parser(about: str) -> argparse.ArgumentParser:
    """Return a parser of a benchmark's options that knows `--write`; `about` is its docstring."""
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into the documentation")
    return parser


def add_other_packages() -> None:
    """Let the packages that a benchmark compares with be imported from the folder that peers.py tells how to fill.

    Only where it compares: one of them brings a package `tests`, which would hide this project's own.
    """
    sys.path.append(str(ROOT / "build" / "peers"))


def publish(lines: Iterable[str], *, script: str, write: bool, how: str, page: Path = PAGE) -> None:
    """Print lines while they are measured, under the machine and above the time it took; `write` puts all into a page.

    Args:
        lines: Markdown, made while it is measured.
        script: name of the benchmark's file, which the marks in the page have.
        write: whether to put them into the page.
        how: what was run, such as "3 rounds".
        page: the page with the marks.

    Raises:
        SystemExit: the page has no such marks; nothing was measured.
    """
    if write:
        _around_marks(script, page)
    shown = [f"{machine()}; {how}:", ""]
    print("\n".join(shown), flush=True)
    for line in _timed(lines):
        print(line, flush=True)
        shown.append(line)
    if write:
        write_between_marks(shown, script, page)


def _timed(lines: Iterable[str]) -> Iterator[str]:
    """Add how long it took since this process began."""
    yield from lines
    yield ""
    yield f"Measured in {(time() - psutil.Process().create_time()) / 60:.1f} minutes."


def machine() -> str:
    """Return the machine in words: processor, instructions, memory, versions, how threads wait, load."""
    import torch

    name, flags = _processor()
    has = ", ".join(flag for flag in INSTRUCTIONS if flag in flags) or "no vector instructions known of"
    memory = psutil.virtual_memory().total / 2**30
    sleeping = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    waiting = "threads sleep while they wait, " if sleeping else ""
    return (
        f"{name} ({has}), {len(psutil.Process().cpu_affinity())} cores, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{waiting}load {os.getloadavg()[0]:.1f} at the start"
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


def write_between_marks(lines: Sequence[str], script: str, page: Path = PAGE) -> None:
    """Put lines into a page, between the comments that name the script; all else stays as it is.

    Raises:
        SystemExit: the page has no such comments, or has them twice.
    """
    before, after = _around_marks(script, page)
    page.write_text("\n".join([before, *lines, after]), encoding="utf-8")


def _around_marks(script: str, page: Path) -> tuple[str, str]:
    """Return what stands up to the end of the first mark, and from the second on."""
    begin, end = f"<!-- benchmarks/{script} -->", f"<!-- /benchmarks/{script} -->"
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise SystemExit(f"{page}: must have one line {begin} and below it one line {end}")
    before, _, rest = text.partition(begin)
    return before + begin, end + rest.partition(end)[2]
