"""How costs grow: with the turns of a recording, the turns of a dialogue, and the utterances of a corpus.

Run `python benchmarks/growth.py`; it needs about 2 GB of disk, prints Markdown tables and draws build/growth.svg.
`--write` puts the tables into docs/benchmarks.md and draws docs/growth.svg. Every figure is of a process of its own:
processor seconds of all its threads, and the most memory that it held.

- **predict**: the demo's recording over and over, with its transcript, by the demo's encoders and an LPGNet with random
  weights, to all outputs; the model is loaded before the time begins.
- **train**: steps of 4 dialogues of as many turns each, of random embeddings (13 x 768 and 1 x 768), by the project's
  trainer; the median of some steps. Memory is that beyond the dialogues.
- **features**: the whole command, Python's start included, of a made-up corpus of which everything is in the store:
  10,000 utterances a recording and 100 a dialogue, audio and text by the demo's encoders. Recordings are silence,
  utterances 10 ms long, and rows in the store one number under the real keys: none is read here.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import TYPE_CHECKING

from page import ROOT, make_parser, publish
from predict import RECORDING, make_demo_model, make_recording, run
from processes import in_a_process, memory, peak_memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lpgnet.pipeline.training.runs import LoadedCorpus

PICTURE = "growth.svg"
RECORDING_TURNS = (100, 300, 1_000, 3_000, 10_000)
DIALOGUE_TURNS = (100, 300, 1_000)
MODELS = ("lpgnet", "lpgnet-plus")
UTTERANCES = (10_000, 100_000, 1_000_000)
STEPS = 3
KINDS = ("CPU ms each", "memory (MB)")
# Of the made-up corpus.
PER_RECORDING, PER_DIALOGUE, PER_SESSION, RATE, SAMPLES = 10_000, 100, 2_500, 8_000, 80


@dataclass(frozen=True)
class Point:
    """What something of one size took: processor seconds and memory (MB)."""

    size: int
    seconds: float
    memory: float

    @property
    def milliseconds(self) -> float:
        """For one of its parts."""
        return 1e3 * self.seconds / self.size


@dataclass(frozen=True)
class Subject:
    """What is measured at several sizes: a table, and a column of the picture.

    Attributes:
        title: for the table.
        size: what there are so many of.
        lines: by name, what measures it at a size.
        sizes: in growing order.
    """

    title: str
    size: str
    sizes: Sequence[int]
    lines: dict[str, Callable[[int], Point]]


def measure_predict(folder: Path, turns: int) -> Point:
    """Label a recording of about so many turns."""
    lines = RECORDING.with_suffix(".truth.csv").read_text(encoding="utf-8").splitlines()
    recording = make_recording(folder, round(turns / (len(lines) - 1)))
    found = run(recording, folder / "demo" / "model", "all")
    recording.unlink()
    return Point(found["turns"], found["cpu"], found["peak"])


def measure_training(name: str, turns: int) -> Point:
    """Take some steps of 4 dialogues; call it in a fresh process."""
    from models import make_trainer

    from lpgnet.pipeline.config import Config, parse_config

    corpus = random_corpus(turns)
    preset = [] if name == "lpgnet" else ["--preset", name]
    model = parse_config("crossval", preset, Config).model
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(model, corpus, Path(folder), "cpu", "no")
        before = memory()
        trainer.raw_model.train()
        seconds = []
        for epoch in range(STEPS + 1):
            started = process_time()
            trainer.step(next(trainer.steps(epoch)))
            seconds.append(process_time() - started)
    size = turns * len(corpus.dialogues)
    return Point(turns, median(seconds[1:]) * turns / size, peak_memory() - before)


def random_corpus(turns: int) -> "LoadedCorpus":
    """Make 4 dialogues of random embeddings."""
    import numpy as np
    from training_run import SIZES

    from lpgnet.feature_extractors import EncoderSpec
    from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance
    from lpgnet.pipeline.embeddings.plan import Embeddings
    from lpgnet.pipeline.training.dialogues import make_dialogues
    from lpgnet.pipeline.training.runs import LoadedCorpus

    rng = np.random.default_rng(0)
    utterances = tuple(
        Utterance(f"d{dialogue}", f"d{dialogue}.{turn}", speaker="AB"[turn % 2], label="abcd"[rng.integers(4)])
        for dialogue in range(4)
        for turn in range(turns)
    )
    rows = {utterance.utterance_id: row for row, utterance in enumerate(utterances)}
    embeddings = {
        name: Embeddings(rng.standard_normal((len(rows), *size), np.float32), rows) for name, size in SIZES.items()
    }
    manifest = Manifest(Corpus("made up", "", "table", 1), utterances)
    dialogues = make_dialogues(manifest, embeddings, {c: c for c in "abcd"}, drop_unlabelled=False)
    specs = {name: EncoderSpec(name, name, "all", "mean", "fp32", None, None, False, name) for name in SIZES}
    return LoadedCorpus(tuple(dialogues), specs, "made up")


def measure_features(folder: Path, utterances: int) -> Point:
    """Run the command on a corpus of which everything is in the store."""
    work = folder / str(utterances)
    in_a_process(__file__, "--fill", work, utterances)
    return Point(utterances, **in_a_process(__file__, "--features", work))


def features(work: Path) -> dict[str, float]:
    """Run the command; call it in a fresh process."""
    from lpgnet.pipeline.cli import main

    code = main(["features", "--config", str(work / "config.json")])
    if code:
        raise SystemExit(code)
    return {"seconds": process_time(), "memory": peak_memory()}


def fill(work: Path, utterances: int) -> None:
    """Write a corpus as the prepare stage does, look for speech, and put a row of one number under every key."""
    import numpy as np

    from lpgnet.pipeline.common.processes import current_launch
    from lpgnet.pipeline.config import Config, parse_config
    from lpgnet.pipeline.corpora.manifest import read_manifest
    from lpgnet.pipeline.embeddings.prepared import encoded_modalities, prepare_modality
    from lpgnet.pipeline.embeddings.speech_search import SpeechSearch

    write_corpus(work, utterances)
    config = parse_config("features", ["--config", str(work / "config.json")], Config)
    manifest, row = read_manifest(config.folder), np.zeros((1, 1), np.float32)
    search = SpeechSearch(config, current_launch())
    for modality in encoded_modalities(config.encoders):
        prepared = prepare_modality(config, manifest, modality, find=search)
        with prepared.stored.own.writer(prepared.spec.to_dict()) as writer:
            for request in prepared.plan.requests:
                writer.add(request.key, row, n_frames=1)


def write_corpus(work: Path, utterances: int) -> None:
    """Write the configuration, the recordings, and the manifest."""
    import numpy as np
    import soundfile

    from lpgnet.pipeline.common.files import write_json
    from lpgnet.pipeline.corpora.manifest import CORPUS_FILE, MANIFEST_FILE, Corpus

    folder = work / "big"
    folder.mkdir(parents=True)
    encoders = {name: {"name": f"hf:examples/demo/encoders/{name}", "precision": "fp32"} for name in ("audio", "text")}
    store = {"store": str(work / "store")}
    values = {"name": "big", "work": str(work), "corpus": {"root": str(work)}, "encoders": encoders, "features": store}
    (work / "config.json").write_text(json.dumps(values))
    for number in range(-(-utterances // PER_RECORDING)):
        # Of other lengths, so that no two are the same file.
        silence = np.zeros(PER_RECORDING * SAMPLES + number, np.int16)
        soundfile.write(work / f"{number}.flac", silence, RATE)
    with (folder / MANIFEST_FILE).open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in map(manifest_row, range(utterances)))
    write_json(folder / CORPUS_FILE, Corpus("big", str(work), "table", 1))


def manifest_row(number: int) -> dict[str, object]:
    """Return a line of the manifest."""
    recording, place = divmod(number, PER_RECORDING)
    return {
        "dialogue_id": f"d{number // PER_DIALOGUE}",
        "utterance_id": f"u{number}",
        "audio": f"{recording}.flac",
        "start": place * SAMPLES / RATE,
        "end": (place + 1) * SAMPLES / RATE,
        "text": f"words of utterance {number}",
        "speaker": f"s{number // PER_SESSION}.{number % 2}",
        "session": f"s{number // PER_SESSION}",
        "label": "a",
    }


def subjects(folder: Path, options: argparse.Namespace) -> list[Subject]:
    """Return all that is measured."""
    make_demo_model(folder / "demo")
    return [
        Subject(
            "predict",
            "turns of a recording",
            options.recording_turns,
            {"predict": lambda n: measure_predict(folder, n)},
        ),
        Subject(
            "train",
            "turns of a dialogue",
            options.dialogue_turns,
            {name: lambda n, name=name: Point(**in_a_process(__file__, "--train", name, n)) for name in MODELS},  # type: ignore[misc]
        ),
        Subject(
            "features, nothing to do",
            "utterances of a corpus",
            options.utterances,
            {"features": lambda n: measure_features(folder, n)},
        ),
    ]


def table(subject: Subject, found: dict[str, list[Point]]) -> Iterator[str]:
    """Yield the lines of a subject's table while they are measured, and keep the points."""
    names = list(subject.lines)
    yield f"**{subject.title}**"
    yield ""
    measured = (f"{one}{kind}" for one in (f"{name}: " if len(names) > 1 else "" for name in names) for kind in KINDS)
    yield f"| {subject.size} | {' | '.join(measured)} |"
    yield f"|---:|{'---:|' * len(KINDS) * len(names)}"
    for size in subject.sizes:
        points = [subject.lines[name](size) for name in names]
        for name, point in zip(names, points, strict=True):
            found.setdefault(name, []).append(point)
        cells = (f"{point.milliseconds:.3g} | {point.memory:,.0f}" for point in points)
        yield f"| {points[0].size:,} | {' | '.join(cells)} |"
    yield ""


def tables(all_subjects: Sequence[Subject], picture: Path) -> Iterator[str]:
    """Yield the lines of all tables, and draw the picture when they are measured."""
    found: dict[str, dict[str, list[Point]]] = {subject.title: {} for subject in all_subjects}
    for subject in all_subjects:
        yield from table(subject, found[subject.title])
    draw(all_subjects, found, picture)


def draw(all_subjects: Sequence[Subject], found: dict[str, dict[str, list[Point]]], picture: Path) -> None:
    """Draw time and memory of every subject over its size."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    # White, so that it is read on a dark page too; the same figures give the same file.
    plt.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9})
    figure, axes = plt.subplots(len(KINDS), len(all_subjects), figsize=(9, 5), sharex="col", layout="constrained")
    for column, subject in enumerate(all_subjects):
        lines = found[subject.title]
        axes[0][column].set_title(subject.title)
        axes[1][column].set_xlabel(subject.size)
        draw_lines(axes[0][column], {name: [(p.size, p.milliseconds) for p in of] for name, of in lines.items()})
        draw_lines(axes[1][column], {name: [(p.size, p.memory) for p in of] for name, of in lines.items()})
    axes[0][0].set_ylabel("processor time each (ms)")
    axes[1][0].set_ylabel("memory (MB)")
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, metadata={"Date": None, "Creator": None}, facecolor="white")


def draw_lines(axes: "Axes", lines: dict[str, list[tuple[int, float]]]) -> None:
    """Draw lines by name on logarithmic axes."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    for marker, (name, points) in zip("os^", lines.items(), strict=False):
        axes.plot(*zip(*points, strict=True), marker=marker, label=name)
    values = [value for points in lines.values() for _, value in points]
    axes.set(xscale="log", yscale="log", ylim=(min(values) / 3, max(values) * 3))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color="0.88")
    if len(lines) > 1:
        axes.legend(frameon=False)


def main() -> None:
    """Measure every point, print the tables and draw the picture."""
    parser = make_parser(__doc__)
    for name, sizes in (
        ("recording-turns", RECORDING_TURNS),
        ("dialogue-turns", DIALOGUE_TURNS),
        ("utterances", UTTERANCES),
    ):
        parser.add_argument(f"--{name}", type=int, nargs="+", default=sizes, help="sizes to measure")
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--fill", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(asdict(measure_training(options.train[0], int(options.train[1])))))
    elif options.fill:
        fill(Path(options.fill[0]), int(options.fill[1]))
        print("{}")
    elif options.features:
        print(json.dumps(features(options.features)))
    else:
        publish_all(options)


def publish_all(options: argparse.Namespace) -> None:
    """Measure, print and draw everything."""
    picture = ROOT / ("docs" if options.write else "build") / PICTURE
    with tempfile.TemporaryDirectory() as folder:
        lines = tables(subjects(Path(folder), options), picture)
        publish(lines, script="growth.py", write=options.write, how="one run of each size")


if __name__ == "__main__":
    main()
