"""Thousands of short recordings through `predict --engine ray --formats parquet`: memory, and a killed driver.

Run `python benchmarks/many_recordings.py`; it prints a table, and `--write` puts it into docs/benchmarks.md. The
recordings are made up: pieces of 3 to 10 s, cut at random places out of the demo's recording, which is synthetic
speech. They are labelled by voice with the demo's encoders and a model of random weights. The command is killed by
SIGKILL when half of the recordings are in the dataset, and run again. Memory is that of the command's own process,
which gives the work out: the processes that do it are Ray's.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep

import psutil
from page import ROOT, make_parser, publish
from predict import RECORDING, make_demo_model

SECONDS = (3.0, 10.0)


def make_recordings(folder: Path, count: int) -> Path:
    """Cut recordings out of the demo's."""
    import numpy as np
    import soundfile

    waveform, rate = soundfile.read(RECORDING, dtype="int16")
    numbers = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        length = int(numbers.uniform(*SECONDS) * rate)
        first = int(numbers.integers(0, len(waveform) - length))
        soundfile.write(folder / f"{number:06}.flac", waveform[first : first + length], rate)
    return folder


@dataclass
class Watched:
    """A run of the command.

    Attributes:
        code: its exit code; negative where it was killed.
        megabytes: of its own process when so many recordings were in the dataset.
    """

    code: int
    seconds: float
    megabytes: dict[int, float] = field(default_factory=dict)

    def memory_at(self, count: int) -> float:
        """Give the memory when at least so many recordings were done (MB)."""
        return next(value for done, value in sorted(self.megabytes.items()) if done >= count)


class Done:
    """How many recordings are in a dataset; every part is read once."""

    def __init__(self, dataset: Path) -> None:
        self._dataset, self._counts = dataset, dict[Path, int]()

    def count(self) -> int:
        """Count them."""
        import pyarrow.parquet as pq

        for part in set(self._dataset.glob("*.parquet")) - set(self._counts):
            self._counts[part] = len(pq.read_table(part, columns=["timeline"])["timeline"].unique())
        return sum(self._counts.values())


def watch(command: list[str], dataset: Path, *, kill_at: int | None = None) -> Watched:
    """Run the command and look at its memory; kill it when so many recordings are done."""
    started, done, found = perf_counter(), Done(dataset), dict[int, float]()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told)
        own = psutil.Process(process.pid)
        while process.poll() is None:
            sleep(0.5)
            try:
                # A process that has just ended has none.
                if rss := own.memory_info().rss:
                    found[done.count()] = rss / 1e6
            except psutil.Error:
                break
            if kill_at and done.count() >= kill_at:
                children = own.children(recursive=True)
                os.kill(process.pid, signal.SIGKILL)
                psutil.wait_procs(children, timeout=60)
        code = process.wait()
        told.seek(0)
        if code not in (0, 1, -signal.SIGKILL):
            raise SystemExit(told.read().decode(errors="replace"))
    return Watched(code, perf_counter() - started, found)


def table(folder: Path, count: int) -> Iterator[str]:
    """Measure, and give the lines of the table."""
    recordings, model = make_recordings(folder / "recordings", count), make_demo_model(folder)
    dataset = folder / "out" / "timelines.parquet"
    command = [sys.executable, "-m", "lpgnet", "predict", str(recordings), "--model", str(model)]
    command += ["--out", str(folder / "out"), "--formats", "parquet", "--diarizer", "none", "--device", "cpu"]
    command += ["--modalities", "audio", "--engine", "ray", "--ray.address", "local"]
    killed = watch(command, dataset, kill_at=count // 2)
    kept = {part: part.read_bytes() for part in dataset.iterdir()}
    n_kept = Done(dataset).count()
    resumed = watch(command, dataset)
    again = watch(command, dataset)
    unchanged = all(part.read_bytes() == content for part, content in kept.items())
    labelled, failed = read(folder / "out", count)
    yield "| run | recordings done | recordings/s | memory at a tenth (MB) | at the end (MB) |"
    yield "|---|---|---|---|---|"
    rows = (("killed at half", killed, n_kept), ("resumed", resumed, count - n_kept), ("once more", again, 0))
    for name, run, n_done in rows:
        speed = f"{n_done / run.seconds:.1f}" if n_done else f"({run.seconds:.0f} s)"
        tenth = run.memory_at(count // 10)
        yield f"| {name} | {n_done:,} | {speed} | {tenth:.0f} | {run.megabytes[max(run.megabytes)]:.0f} |"
    yield ""
    yield (
        f"{labelled:,} of {count:,} recordings have rows, {failed:,} failed (nobody speaks in them), {len(kept)} parts "
        f"of the killed run are {'as they were' if unchanged else 'CHANGED'}; pandas, polars and DuckDB read the same."
    )


def read(out: Path, count: int) -> tuple[int, int]:
    """Read the dataset with three programs, and return how many recordings are in it and how many failed.

    Raises:
        SystemExit: they read different things, a row is twice, or recordings are missing.
    """
    import duckdb
    import pandas
    import polars

    dataset = str(out / "timelines.parquet")
    by_pandas = pandas.read_parquet(dataset)
    by_polars = polars.read_parquet(dataset)
    found = duckdb.sql(
        f"SELECT count(*), count(DISTINCT recording), count(DISTINCT (timeline, turn)) FROM '{dataset}/*.parquet'"
    ).fetchall()[0]
    n_recordings = by_pandas["recording"].nunique()
    failed = len(pandas.read_parquet(out / "failed.parquet"))
    expected = (len(by_polars), by_polars["recording"].n_unique(), len(by_pandas))
    if found != expected or n_recordings != found[1] or n_recordings + failed != count:
        raise SystemExit(f"DuckDB found {found}, the others {expected}; {failed} of {count} failed")
    return n_recordings, failed


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="how many recordings are made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        how = f"{options.count:,} recordings of 3 to 10 s, a process of Ray that labels for each processor"
        publish(table(Path(folder), options.count), script="many_recordings.py", write=options.write, how=how)


if __name__ == "__main__":
    main()
