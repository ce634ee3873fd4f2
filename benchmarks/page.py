"""How a benchmark prints its table, and puts it into docs/benchmarks.md; it measures nothing itself."""

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def print_table(table: Callable[[Path, int], Iterator[str]], *, script: str, about: str, seeds: str) -> None:
    """Print a table while it is measured, and write it between its marks in the page with `--write`.

    Args:
        table: yields the lines, given a folder for files and the number of seeds.
        script: name of the benchmark's file.
        about: its docstring.
        seeds: what they are the number of.
    """
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help=seeds)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    lines = [f"{platform.system()}, Python {platform.python_version()}; {options.seeds} {seeds}:", ""]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        for line in table(Path(folder), options.seeds):
            print(line, flush=True)
            lines.append(line)
    if options.write:
        write_between_marks(lines, script)


def write_between_marks(lines: Sequence[str], script: str) -> None:
    """Put lines into the page, between the comments that name the script."""
    begin, end = f"<!-- benchmarks/{script} -->", f"<!-- /benchmarks/{script} -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text("\n".join([f"{before}{begin}", *lines, f"{end}{after}"]), encoding="utf-8")
