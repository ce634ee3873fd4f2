"""Runs the benchmarks one after another: each writes its tables, and the machine, into the documentation.

Run `python benchmarks/bench.py [NAME ...]`, or `make bench`, on a machine that does nothing else. One that fails leaves
its tables as they were, and the others go on; the exit code is then 1.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

FOLDER = Path(__file__).parent
# What benchmarks share.
HELPERS = ("bench", "conversations", "page", "peers", "processes", "scheduling", "training_run")


def benchmarks() -> dict[str, Path]:
    """Return every benchmark by name; that which takes more than half an hour is the last."""
    found = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if path.stem not in HELPERS}
    return dict(sorted(found.items(), key=lambda item: item[0] == "accuracy"))


def run_all(scripts: Sequence[Path]) -> int:
    """Run scripts with `--write`, tell how long each took, and return the exit code."""
    started, failed = perf_counter(), []
    for number, script in enumerate(scripts, 1):
        _say(f"{script.name}, {number} of {len(scripts)}")
        begun = perf_counter()
        code = subprocess.run([sys.executable, str(script), "--write"]).returncode
        if code:
            failed.append(script.name)
        _say(f"{script.name}: {'done' if not code else 'failed'} after {perf_counter() - begun:.0f} s")
    ending = f"; failed: {', '.join(failed)}" if failed else ""
    _say(f"benchmarks: {len(scripts) - len(failed)} of {len(scripts)} done in {perf_counter() - started:.0f} s{ending}")
    return 1 if failed else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run those that are named, or all."""
    known = benchmarks()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of: {', '.join(known)}")
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")
    return run_all([known[name] for name in names or known])


if __name__ == "__main__":
    sys.exit(main())
