"""A model of what many hours of audio cost on many machines: how long, how much, what is lost, and where it ends.

Run `python benchmarks/scale.py`; it takes some minutes, prints Markdown tables and draws build/scale.svg. `--write`
puts the tables into docs/scale.md and draws docs/scale.svg. No cluster was measured: figures follow from

- speeds of encoders, read from the tables of docs/benchmarks.md (of a GPU: as old as they are said to be there), and
  what the features stage takes for a turn before any encoder works, read from there too;
- what this script measures: a request in the driver's plan (bytes), decoding a turn, failing to decode a damaged one,
  and writing a chunk's shard;
- the project's own rules: which requests make up a chunk (`ray_extraction.cut`), how processes of one launch share
  work (`balance`), bytes of a row in the store;
- assumptions, which are options of this script where they matter: the lengths of turns, what a request to object
  storage takes, how long a lost machine is away, and a made-up price.

How chunks find encoders, and what a lost machine costs, is simulated (`scheduling.py`).
"""

import argparse
import math
import re
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from page import PAGE, ROOT, make_parser, publish
from scheduling import Cluster, Loss, Outcome, run_chunks, run_parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lpgnet.pipeline.embeddings.plan import Request

SCALE_PAGE = ROOT / "docs" / "scale.md"
PICTURE = "scale.svg"
HOUR = 3600
# Lengths of turns are log-normal: the median (seconds) and the deviation of the logarithm. Their mean is 4.5 s, as
# IEMOCAP's, and one in a thousand lasts more than 48 s.
MEDIAN_SECONDS, DEVIATION = 3.0, 0.9
MEAN_SECONDS = MEDIAN_SECONDS * math.exp(DEVIATION**2 / 2)
MILLION_HOURS = 1_000_000
# Every tenth encoder at half its speed: another model of a processor or GPU, or other work beside it.
SLOW_EVERY, SLOW = 10, 0.5
ENCODERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SHOWN = (1, 10, 100, 1000)
# Of Amazon's S3, a second and prefix; and what one list returns.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
PUTS, GETS, LISTED = 3_500, 5_500, 1_000
# Rows of the page of benchmarks: this project's extraction, by precision, and growth.
OURS = re.compile(r"^\| \(c\) this project, (\w+) \| ([\d.]+) \|", re.MULTILINE)
GROWTH = re.compile(r"^\| ([\d,]+) \| ([\d.]+) \| ([\d,]+) \|$", re.MULTILINE)
# Of a row in a store beside its values, and of a key in a reader's memory (docs/store.md).
ROW_BYTES, INDEX_BYTES = 36, 24
# What processes of a launch have not yet made durable when they end (seconds, at most).
FLUSH_SECONDS = 30
SAMPLE_RATE, SAMPLE_BYTES = 16_000, 4


@dataclass(frozen=True)
class Machine:
    """An encoder of sound and one of words on a processor or a GPU.

    Attributes:
        audio: seconds of audio a second.
        text: turns a second.
        is_gpu: decides how large chunks are, and whether an hour has a price.
    """

    name: str
    audio: float
    text: float
    is_gpu: bool


@dataclass(frozen=True)
class Setting:
    """What is kept of a turn: vectors of so many numbers of so many bytes."""

    name: str
    layers: int
    width: int
    bytes: int

    @property
    def row_bytes(self) -> int:
        """Of a turn in the store."""
        return self.layers * self.width * self.bytes + ROW_BYTES


SETTINGS = (
    Setting("base, all layers, float32", 13, 768, 4),
    Setting("base, all layers, bfloat16", 13, 768, 2),
    Setting("base, last layer, float32", 1, 768, 4),
    Setting("large, all layers, float32", 25, 1024, 4),
)


@dataclass(frozen=True)
class Measured:
    """What this script measures on the machine that it runs on.

    Attributes:
        request_bytes: of a turn in the driver's plan.
        decode_seconds: for a turn of the mean length, FLAC at 16 kHz, on one core.
        damaged_seconds: until a damaged file of that length is given up.
        shard_seconds: writing and reading back the shard of a GPU's full chunk on a local disk.
    """

    request_bytes: float
    decode_seconds: float
    damaged_seconds: float
    shard_seconds: float


@dataclass(frozen=True)
class Assumed:
    """What is measured nowhere: options of this script.

    Attributes:
        put_seconds: for a chunk's shard in object storage, while its encoder waits.
        away: how long a lost machine is away, until its encoders work again (seconds).
        price: of a GPU for an hour; made up.
    """

    put_seconds: float
    away: float
    price: float


def machines(page: str) -> list[Machine]:
    """Read the speeds of this project's extraction by encoders of base size from the page of benchmarks.

    The first two rows of a precision are those of the processor, audio and text, and the last two those of the GPU.
    """
    fp32, bf16 = (_speeds(page, precision) for precision in ("fp32", "bf16"))
    return [
        Machine("two cores, fp32", *fp32[:2], is_gpu=False),
        Machine("H100, fp32", *fp32[-2:], is_gpu=True),
        Machine("H100, bf16", *bf16[-2:], is_gpu=True),
    ]


def _speeds(page: str, precision: str) -> list[float]:
    return [float(speed) for found, speed in OURS.findall(page) if found == precision]


@dataclass(frozen=True)
class Planning:
    """What the features stage takes for a turn of a large corpus, both modalities together, before any encoder works.

    Attributes:
        bytes: that it holds.
        seconds: of the processor.
    """

    bytes: float
    seconds: float


def planning(page: str) -> Planning:
    """Read what planning takes from the page of benchmarks: from the two largest corpora there."""
    rows = GROWTH.findall(page.partition("**features, nothing")[2])
    (few, _, low), (many, milliseconds, high) = ([float(cell.replace(",", "")) for cell in row] for row in rows[1:3])
    return Planning((high - low) * 1e6 / (many - few), milliseconds / 1e3)


def turns(hours: float) -> list[float]:
    """Draw the lengths of as many turns as make up so many hours (seconds, to hundredths)."""
    import numpy as np

    drawn = np.random.default_rng(0).lognormal(math.log(MEDIAN_SECONDS), DEVIATION, round(hours * HOUR / MEAN_SECONDS))
    lengths: list[float] = np.maximum(drawn.round(2), 0.1).tolist()
    return lengths


def bounds(*, is_gpu: bool) -> tuple[float, float]:
    """Return what the smallest and the largest chunk of audio cost (seconds of it), as extraction on Ray has them."""
    from lpgnet.pipeline.embeddings.extraction import CHUNK_COST, GPU_FACTOR
    from lpgnet.pipeline.embeddings.ray_extraction import CPU_FACTOR

    unit = CHUNK_COST["audio"]
    return unit / 2, unit * (GPU_FACTOR if is_gpu else CPU_FACTOR)


def chunk(lengths: Sequence[float], *, encoders: int, least: float, most: float) -> list[float]:
    """Cut turns into chunks as extraction on Ray does, and return the seconds of audio of each."""
    from lpgnet.pipeline.embeddings.extraction import cost
    from lpgnet.pipeline.embeddings.ray_extraction import cut

    # Turns of equal length share a request: it is their length alone that matters here.
    requests = {length: _request(length) for length in set(lengths)}
    chunks = cut([requests[length] for length in lengths], encoders=encoders, least=least, most=most)
    return [sum(map(cost, chunk)) for chunk in chunks]


def _request(seconds: float, number: int = 0) -> "Request":
    from lpgnet.pipeline.corpora.audio import Segment
    from lpgnet.pipeline.embeddings.plan import Request

    start = 1_000_000 + number
    # In a million samples a second no length is rounded.
    segment = Segment(f"calls/{number // 100}.flac", start, start + round(seconds * 1e6), None, 1_000_000)
    return Request(f"call{number // 100}_turn{number % 100}", number.to_bytes(16, "big"), segment)


def speeds(machine: Machine, encoders: int, *, slow: bool) -> list[float]:
    """Return how fast so many encoders are; every tenth at half its speed where `slow`."""
    return [machine.audio * (SLOW if slow and number % SLOW_EVERY == 1 else 1.0) for number in range(encoders)]


WAYS = ("by number", "by seconds", "chunks")


def shared_out(way: str, lengths: Sequence[float], cluster: Cluster, *, is_gpu: bool) -> Outcome:
    """Run a corpus: cut into parts of equal numbers of turns, or of equal seconds of audio, or into chunks."""
    from lpgnet.pipeline.common.processes import balance

    encoders = len(cluster.speeds)
    if way == "chunks":
        least, most = bounds(is_gpu=is_gpu)
        return run_chunks(chunk(lengths, encoders=encoders, least=least, most=most), cluster)
    if way == "by seconds":
        return run_parts(balance(lengths, lengths, encoders), replace(cluster, overhead=0.0))
    edges = [len(lengths) * number // encoders for number in range(encoders + 1)]
    return run_parts([lengths[a:b] for a, b in pairwise(edges)], replace(cluster, overhead=0.0))


@dataclass(frozen=True)
class Case:
    """A corpus of so many hours on up to so many encoders of a kind."""

    title: str
    machine: Machine
    hours: float
    most: int


@dataclass(frozen=True)
class Point:
    """What so many encoders come to, by the way that work is shared out, and whether some are slow."""

    encoders: int
    outcomes: dict[tuple[str, bool], tuple[Outcome, float]]


def efficiencies(case: Case, overhead: float) -> list[Point]:
    """Simulate a case for all numbers of encoders."""
    lengths, points = turns(case.hours), []
    for encoders in (count for count in ENCODERS if count <= case.most):
        outcomes = {}
        for slow in (False, True):
            cluster = Cluster(speeds(case.machine, encoders, slow=slow), overhead)
            for way in WAYS:
                outcome = shared_out(way, lengths, cluster, is_gpu=case.machine.is_gpu)
                outcomes[way, slow] = (outcome, outcome.efficiency(cluster))
        points.append(Point(encoders, outcomes))
    return points


def efficiency_table(case: Case, points: Sequence[Point]) -> Iterator[str]:
    """Yield a case's table."""
    yield f"**{case.title}**"
    yield ""
    heads = [f"{way}{', some slow' if slow else ''}" for slow in (False, True) for way in WAYS]
    yield f"| encoders | hours of audio each | minutes, chunks | {' | '.join(heads)} |"
    yield f"|---:|---:|---:|{'---:|' * len(heads)}"
    for point in points:
        if point.encoders in SHOWN:
            minutes = point.outcomes["chunks", False][0].seconds / 60
            cells = [f"{point.outcomes[way, slow][1]:.0%}" for slow in (False, True) for way in WAYS]
            each = case.hours / point.encoders
            yield f"| {point.encoders:,} | {each:,.6g} | {minutes:,.3g} | {' | '.join(cells)} |"
    yield ""


def lose_one_an_hour(machines: int, each: int, hours: float, away: float) -> list[Loss]:
    """Lose a machine after every hour, in turns, with all its encoders."""
    return [
        Loss(hour * HOUR, [(hour - 1) % machines * each + number for number in range(each)], away)
        for hour in range(1, math.ceil(hours) + 1)
    ]


def losses_table(kinds: Sequence[tuple[Machine, int, int]], assumed: Assumed, shard_seconds: float) -> Iterator[str]:
    """Yield what a machine lost every hour costs: on Ray by simulation, in a launch by what is certain."""
    hours = 4.0
    yield f"**A machine lost every hour**, in {hours:g} hours of work; a machine is back after {assumed.away:g} s"
    yield ""
    yield (
        "| machines | encoders on each | a chunk takes | chunks lost | encoder seconds lost | of all | work done, Ray "
        "| work done, launch that is started again |"
    )
    yield f"|---|{'---:|' * 7}"
    for machine, count, each in kinds:
        most = bounds(is_gpu=machine.is_gpu)[1]
        overhead = assumed.put_seconds + shard_seconds if machine.is_gpu else assumed.put_seconds
        cluster = Cluster(speeds(machine, count * each, slow=False), overhead)
        seconds = most / machine.audio + overhead
        chunks = [most] * round(hours * HOUR * count * each / seconds)
        calm = run_chunks(chunks, cluster)
        outcome = run_chunks(chunks, cluster, lose_one_an_hour(count, each, hours, assumed.away))
        launch = (HOUR - FLUSH_SECONDS / 2 - assumed.away) / HOUR
        lost = outcome.lost / (outcome.seconds * count * each)
        yield (
            f"| {count} of {machine.name} | {each} | {seconds:.3g} s | {outcome.losses} | {outcome.lost:,.0f} | "
            f"{lost:.2%} | {calm.seconds / outcome.seconds:.1%} | {launch:.1%} |"
        )
    yield ""


def million_table(kinds: Sequence[Machine], measured: Measured, assumed: Assumed) -> Iterator[str]:
    """Yield time and cost of a million hours, by base encoders of sound and words."""
    count = MILLION_HOURS * HOUR / MEAN_SECONDS
    yield f"**A million hours of audio**, {count / 1e6:,.0f} million turns, by encoders of base size"
    yield ""
    yield (
        f"| on | its hours, audio | its hours, text | waiting for storage | hours on 100 | money at {assumed.price:g} "
        "an hour (made up) | cores that decode for one | sound read, MB/s each | decoded, MB/s each | shards, audio |"
    )
    yield f"|---|{'---:|' * 9}"
    for machine in kinds:
        audio, text = MILLION_HOURS / machine.audio, count / machine.text / HOUR
        most = bounds(is_gpu=machine.is_gpu)[1]
        shards = MILLION_HOURS * HOUR / most
        waiting = shards * (assumed.put_seconds + (measured.shard_seconds if machine.is_gpu else 0)) / HOUR
        total = audio + text + waiting
        cores = machine.audio / MEAN_SECONDS * measured.decode_seconds
        money = f"{total * assumed.price:,.0f}" if machine.is_gpu else ""
        # FLAC of speech at 16 kHz takes about half of 16-bit samples.
        read, decoded = (machine.audio * SAMPLE_RATE * size / 1e6 for size in (1, SAMPLE_BYTES))
        yield (
            f"| {machine.name} | {audio:,.0f} | {text:,.0f} | {waiting:,.0f} | {total / 100:,.1f} | {money} | "
            f"{cores:.2g} | {read:,.1f} | {decoded:,.1f} | {shards:,.0f} |"
        )
    yield ""


def storage_table() -> Iterator[str]:
    """Yield what is kept of a turn and of a million hours, for one modality."""
    count = MILLION_HOURS * HOUR / MEAN_SECONDS
    most = bounds(is_gpu=True)[1]
    yield "**What is kept**, of one modality"
    yield ""
    yield "| encoder | bytes a turn | MB a shard, of a GPU | TB of a million hours | GB of a million turns |"
    yield "|---|---:|---:|---:|---:|"
    for setting in SETTINGS:
        size = setting.row_bytes
        shard = size * most / MEAN_SECONDS / 1e6
        yield f"| {setting.name} | {size:,} | {shard:.3g} | {size * count / 1e12:.3g} | {size / 1e3:.3g} |"
    yield ""


def damage_table(measured: Measured) -> Iterator[str]:
    """Yield what damaged files cost where one in a hundred is."""
    good, bad = measured.decode_seconds, measured.damaged_seconds
    share = 0.01
    yield "**One file in a hundred is damaged**"
    yield ""
    yield "| decoding a turn | until a damaged one is given up | decoding takes | of a million turns are lacking |"
    yield "|---:|---:|---:|---:|"
    change = (share * bad + (1 - share) * good) / good - 1
    yield f"| {good * 1e3:.2f} ms | {bad * 1e3:.2f} ms | {change:+.2%} | {share * 1e6:,.0f}, and no other |"
    yield ""


def limits_table(machine: Machine, measured: Measured, planned: Planning, memory: float) -> Iterator[str]:
    """Yield where it ends: what grows with the corpus or with the encoders, and how far it reaches."""
    count = MILLION_HOURS * HOUR / MEAN_SECONDS
    most = bounds(is_gpu=True)[1]
    shards, puts = MILLION_HOURS * HOUR / most, machine.audio / most
    rows = [
        *in_memory(memory, planned, measured, count),
        (
            f"planning: {planned.seconds * 1e3:.3g} ms of the driver's processor a turn",
            f"{planned.seconds * count / HOUR:,.0f} hours",
            f"{HOUR / planned.seconds * MEAN_SECONDS / HOUR:,.0f} hours of audio an hour",
        ),
        (
            "opening a store at an address: the head of each shard",
            f"{shards / LISTED:,.0f} lists, {shards:,.0f} GETs: {shards / GETS / 60:.2g} minutes at {GETS:,} a second",
            f"{GETS * 60:,.0f} shards a minute; the driver does, its encoders read no shard",
        ),
        (
            f"shards put by {machine.name}",
            f"{shards:,.0f}",
            f"{PUTS / puts:,.0f} encoders in one prefix, at {puts:.2g} a second each",
        ),
        (
            "and looked for once by who put them: a HEAD each, no list",
            f"{shards:,.0f}",
            f"{GETS / puts:,.0f} encoders in one prefix",
        ),
        (
            "training: rows of all layers, in a file in the work folder",
            f"{SETTINGS[0].row_bytes * count / 1e12:,.3g} TB",
            f"{1e12 / SETTINGS[0].row_bytes / 1e6:,.0f} million turns a TB of disk",
        ),
    ]
    yield f"**Where it ends**, with a driver that has {memory:g} GB of memory"
    yield ""
    yield "| what grows | for a million hours | reaches |"
    yield "|---|---|---|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def in_memory(memory: float, planned: Planning, measured: Measured, count: float) -> Iterator[tuple[str, str, str]]:
    """Yield what the driver holds of every turn: what it is, for a million hours, and how far it reaches."""
    kinds = {
        "memory: manifest, plan and keys of both modalities (measured)": planned.bytes,
        "of it a request, for each modality": measured.request_bytes,
        "of it a key of the store, for each modality": INDEX_BYTES,
    }
    for name, size in kinds.items():
        reached = memory * 1e9 / size
        hours = reached * MEAN_SECONDS / HOUR
        yield (
            f"{name}: {size:,.0f} bytes a turn",
            f"{size * count / 1e9:,.0f} GB",
            f"{reached / 1e6:,.0f} million turns, {hours:,.0f} hours",
        )


def measure(folder: Path) -> Measured:
    """Measure what the model needs and no page has."""
    import numpy as np
    import soundfile

    from lpgnet.pipeline.corpora.audio import Segment
    from lpgnet.pipeline.embeddings.extraction import decode
    from lpgnet.pipeline.embeddings.plan import Problem, Request

    rng, samples = np.random.default_rng(0), round(MEAN_SECONDS * SAMPLE_RATE)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(200):
        path, good = folder / f"{number}.flac", number % 2 == 0
        soundfile.write(path, 0.1 * rng.standard_normal(samples).cumsum() / 30, SAMPLE_RATE)
        if not good:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        request = Request(str(number), b"", Segment(str(path), 0, samples, None, SAMPLE_RATE))
        started = perf_counter()
        item = decode(request, SAMPLE_RATE)
        seconds[good].append(perf_counter() - started)
        if isinstance(item, Problem) == good:
            raise SystemExit(f"{path}: {item}")
    return Measured(request_bytes(), median(seconds[True]), median(seconds[False]), shard_seconds(folder))


def request_bytes(count: int = 20_000) -> float:
    """Return what a request takes in a plan (bytes)."""
    tracemalloc.start()
    requests = tuple(_request(MEAN_SECONDS, number) for number in range(count))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / len(requests)


def shard_seconds(folder: Path) -> float:
    """Return how long it takes to make a GPU's full chunk durable on this disk."""
    import numpy as np

    from lpgnet.cache import FeatureStore

    setting = SETTINGS[0]
    values = np.random.default_rng(0).standard_normal((setting.layers, setting.width), np.float32)
    store, found = FeatureStore(folder, "0" * 32), []
    rows = round(bounds(is_gpu=True)[1] / MEAN_SECONDS)
    for round_ in range(5):
        started = perf_counter()
        with store.writer({}) as writer:
            for number in range(rows):
                writer.add((round_ * rows + number).to_bytes(16, "big"), values, n_frames=1)
        found.append(perf_counter() - started)
    return median(found)


def tables(options: argparse.Namespace, picture: Path) -> Iterator[str]:
    """Yield all tables, and draw the picture."""
    page = PAGE.read_text(encoding="utf-8")
    cpu, gpu32, gpu16 = machines(page)
    assumed = Assumed(options.put, options.away, options.price)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder))
    yield from given(measured, assumed, [cpu, gpu32, gpu16])
    cases = [
        Case("100 hours on processors", cpu, 100, 1000),
        Case("1,000 hours on GPUs, bf16", gpu16, 1000, 100),
    ]
    found = {}
    yield "**Efficiency**: the part of the encoders' time that embeds"
    yield ""
    for case in cases:
        overhead = assumed.put_seconds + (measured.shard_seconds if case.machine.is_gpu else 0.0)
        found[case.title] = efficiencies(case, overhead)
        yield from efficiency_table(case, found[case.title])
    draw(found, picture)
    yield from losses_table([(cpu, 10, 1), (cpu, 100, 1), (gpu16, 10, 4)], assumed, measured.shard_seconds)
    yield from damage_table(measured)
    yield from million_table([cpu, gpu32, gpu16], measured, assumed)
    yield from storage_table()
    yield from limits_table(gpu16, measured, planning(page), options.memory)


def given(measured: Measured, assumed: Assumed, kinds: Sequence[Machine]) -> Iterator[str]:
    """Yield what the model is given."""
    yield "| given | value | from |"
    yield "|---|---:|---|"
    for machine in kinds:
        yield f"| audio, {machine.name} | {machine.audio:,.1f} x real time | benchmarks |"
        yield f"| text, {machine.name} | {machine.text:,.1f} turns/s | benchmarks |"
    yield f"| a turn, mean of log-normal lengths | {MEAN_SECONDS:.1f} s | assumed |"
    yield f"| a request in the driver's plan | {measured.request_bytes:,.0f} bytes | measured here |"
    yield f"| a shard of a GPU's full chunk, to a local disk | {measured.shard_seconds * 1e3:,.0f} ms | measured here |"
    yield f"| the same to object storage, besides | {assumed.put_seconds * 1e3:,.0f} ms | assumed (`--put`) |"
    yield ""


def draw(found: dict[str, list[Point]], picture: Path) -> None:
    """Draw the efficiency over the number of encoders."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    # White, so that it is read on a dark page too; the same figures give the same file.
    plt.rcParams.update({"svg.hashsalt": "scale", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9})
    figure, axes = plt.subplots(1, len(found), figsize=(9, 3.2), sharey=True, layout="constrained", squeeze=False)
    for column, (title, points) in enumerate(found.items()):
        draw_case(axes[0][column], title, points)
    axes[0][0].set_ylabel("efficiency")
    axes[0][0].legend(frameon=False)
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, metadata={"Date": None, "Creator": None}, facecolor="white")
    plt.close(figure)


def draw_case(axes: "Axes", title: str, points: Sequence[Point]) -> None:
    """Draw one case: a line for each way, dashed where some encoders are slow."""
    from matplotlib.ticker import NullFormatter

    for color, way in zip(("C2", "C1", "C0"), WAYS, strict=True):
        for slow, style in ((False, "-"), (True, "--")):
            values = [point.outcomes[way, slow][1] for point in points]
            label = f"{way}{', some slow' if slow else ''}"
            axes.plot([point.encoders for point in points], values, style, color=color, marker="o", ms=3, label=label)
    axes.set(xscale="log", ylim=(0, 1.05), xlabel="encoders")
    axes.set_title(title)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="0.88")


def main() -> None:
    """Measure, simulate, print the tables and draw the picture."""
    parser = make_parser(__doc__)
    parser.add_argument("--price", type=float, default=2.0, help="of a GPU for an hour, made up (default: 2)")
    parser.add_argument("--put", type=float, default=0.2, help="seconds that a chunk's shard takes to object storage")
    parser.add_argument("--away", type=float, default=300.0, help="seconds until a lost machine works again")
    parser.add_argument("--memory", type=float, default=64.0, help="of the driver (GB)")
    options = parser.parse_args()
    picture = ROOT / ("docs" if options.write else "build") / PICTURE
    how = "a model; what it is given is in the first table"
    publish(tables(options, picture), script="scale.py", write=options.write, how=how, page=SCALE_PAGE)


if __name__ == "__main__":
    main()
