"""Search for inputs that break a reader, guided by the lines of the project's code that they reach (atheris).

    pip install -e .[dev,fuzz]
    python tests/hostile/fuzz.py srt --minutes 10     # one reader of readers.py
    python tests/hostile/fuzz.py all --minutes 60     # each in turn, an hour in all

Each reader runs in a process of its own, so that a crash ends that reader only. Inputs are grown from the samples of
`readers.py` by libFuzzer and by `mutations.py`; the ones that reached something new are kept in `build/fuzz/READER`
and the next run begins with them. What `oracle.py` complains about is a find. It is made as small as a few seconds
allow, and written to `tests/hostile/finds/READER`, where `test_damaged_files.py` tries it again in every run of the
tests; of inputs that fail alike only the first is kept. Where the process crashes or hangs, its last input is written
there, and `build/fuzz/READER/log.txt` says where it was. A table tells what was run: reader, executions, finds and
seconds. The readers whose names are in `--skip` are left out. Linux only, and best in an environment of its own:
atheris brings a libFuzzer that nothing else needs.
"""

import argparse
import faulthandler
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import BinaryIO

ROOT = Path(__file__).parents[2]
FINDS = Path(__file__).parent / "finds"
# The oracle stops what is slow; what does not return for so long hangs outside of Python.
HANG_SECONDS = 60
GRACE_SECONDS = 2 * HANG_SECONDS
_STARTED = time.monotonic()
_REPORT_SECONDS = 1.0
_SMALLER_SECONDS = 5.0


def main() -> int:
    """Fuzz one reader, or all of them one after the other, and print the table."""
    sys.path.insert(0, str(ROOT))
    from tests.hostile.readers import READERS

    parser = argparse.ArgumentParser(description="Fuzz the readers; see the top of this file.")
    parser.add_argument("reader", choices=("all", *READERS))
    parser.add_argument("--minutes", type=float, default=10.0, help="of all readers together")
    parser.add_argument("--skip", nargs="*", default=(), choices=READERS, help="readers to leave out of all")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "fuzz", help="where inputs are kept between runs")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    work = chosen.work.resolve()
    if chosen.here:
        search(chosen.reader, 60 * chosen.minutes, work)
    names = [name for name in READERS if name not in chosen.skip] if chosen.reader == "all" else [chosen.reader]
    print(f"{'reader':<22}{'executions':>12}{'finds':>7}{'seconds':>9}", flush=True)
    found = sum(fuzz_apart(name, chosen.minutes / len(names), work) for name in names)
    return 1 if found else 0


def fuzz_apart(name: str, minutes: float, work: Path) -> int:
    """Fuzz a reader in processes of its own, one after a crash of the one before, and print its line of the table.

    Args:
        name: the reader's.
        minutes: for all of them.
        work: folder of what is kept between runs.

    Returns:
        How many inputs were found.
    """
    folder, finds = work / name, FINDS / name
    folder.mkdir(parents=True, exist_ok=True)
    before, executions, code = set(finds.glob("*")), 0, 0
    start, end = time.monotonic(), time.monotonic() + 60 * minutes
    while (left := end - time.monotonic()) > 1:
        (folder / "executions").write_text("0")
        command = [sys.executable, __file__, name, "--minutes", f"{left / 60:.3f}", "--work", str(work), "--here"]
        with (folder / "log.txt").open("ab") as log:
            code = _wait(command, left + GRACE_SECONDS, log)
        executions += (done := int((folder / "executions").read_text() or 0))
        if code:
            _keep_last(folder, finds, code)
        if code == 0 or not done:
            break
    found = set(finds.glob("*")) - before
    ended = f"  ended with {code}, see {folder / 'log.txt'}" if code else ""
    print(f"{name:<22}{executions:>12,}{len(found):>7}{time.monotonic() - start:>9.0f}{ended}", flush=True)
    return len(found)


def _wait(command: list[str], seconds: float, log: BinaryIO) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment) as child:
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            return -9


def _keep_last(folder: Path, finds: Path, code: int) -> None:
    """Copy the input that the process was reading when it died to the finds."""
    if (folder / "last").exists():
        data = (folder / "last").read_bytes()
        finds.mkdir(parents=True, exist_ok=True)
        (finds / f"ended-with-{abs(code)}-{sha256(data).hexdigest()[:6]}").write_bytes(data)


def search(name: str, seconds: float, work: Path) -> None:
    """Fuzz a reader in this process, which ends with it.

    Args:
        name: the reader's.
        seconds: from the start of the process.
        work: folder of what is kept between runs.
    """
    import atheris

    folder = work / name
    corpus, samples = folder / "corpus", folder / "samples"
    for place in (corpus, samples):
        place.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["lpgnet"]):
        from tests.hostile.mutations import MOST_BYTES, mutate
        from tests.hostile.oracle import complaint
        from tests.hostile.readers import make_reader

        reader = make_reader(name)
        shutil.rmtree(folder / "laid", ignore_errors=True)
        laid = reader.lay(folder / "laid")
    (folder / "last").unlink(missing_ok=True)
    (folder / "last").symlink_to(laid / reader.file)
    for number, sample in enumerate(reader.samples):
        (samples / str(number)).write_bytes(sample)
    run = _Run(lambda data: complaint(reader, laid, data), folder / "executions", FINDS / name, seconds)

    def damage(data: bytes, most: int, seed: int) -> bytes:
        if seed % 2:
            return atheris.Mutate(data, most)  # type: ignore[no-any-return]
        return mutate((data, *reader.samples[:1], data), Random(seed))[:most]

    options = ["-rss_limit_mb=0", f"-max_len={MOST_BYTES}", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus), str(folder / "samples")], run, custom_mutator=damage)
    atheris.Fuzz()


class _Run:
    """One execution after the other: counts them, keeps each new kind of find, and ends the process in time."""

    def __init__(self, complain: Callable[[bytes], str | None], count_file: Path, finds: Path, seconds: float) -> None:
        self._complain, self._count_file, self._finds = complain, count_file, finds
        self._end, self._next_report = _STARTED + seconds, 0.0
        self._known: set[str] = set()
        self._count = 0

    def __call__(self, data: bytes) -> None:
        found = self._complain(data)
        self._count += 1
        if found is not None and found not in self._known:
            self._known.add(found)
            self._keep(data, found)
        now = time.monotonic()
        if now > self._next_report:
            self._count_file.write_text(str(self._count))
            self._next_report = now + _REPORT_SECONDS
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        if now > self._end:
            self._count_file.write_text(str(self._count))
            sys.stdout.flush()
            os._exit(0)

    def _keep(self, data: bytes, found: str) -> None:
        small = self._smaller(data, found)
        print("FIND", found, small[:200], flush=True)
        self._finds.mkdir(parents=True, exist_ok=True)
        name = file_name(found)
        if (self._finds / name).exists():
            name += f"-{sha256(small).hexdigest()[:6]}"
        (self._finds / name).write_bytes(small)

    def _smaller(self, data: bytes, found: str) -> bytes:
        """Leave out what the same complaint does not need, in halves, quarters, ... for some seconds."""
        end, size = time.monotonic() + _SMALLER_SECONDS, len(data) // 2
        while size and time.monotonic() < end:
            without = (data[:at] + data[at + size :] for at in range(0, len(data), size))
            fails = next((less for less in self._in_time(without, end) if self._complain(less) == found), None)
            data, size = (data, size // 2) if fails is None else (fails, min(size, len(fails) // 2))
        return data

    @staticmethod
    def _in_time(candidates: Iterator[bytes], end: float) -> Iterator[bytes]:
        return (data for data in candidates if time.monotonic() < end)


def file_name(found: str) -> str:
    """Make a file name of a complaint: its words, and a digest that tells longer ones apart."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", found).strip("-")[:60]
    return f"{words}-{sha256(found.encode()).hexdigest()[:6]}"


if __name__ == "__main__":
    sys.exit(main())
