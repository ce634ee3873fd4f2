"""How well the models do on made-up conversations that stand for a real corpus, and what each variant is worth.

Run `python benchmarks/accuracy.py`; it prints Markdown tables, and `--write` puts them into docs/benchmarks.md. The
conversations are those of conversations.py: with all effects, and `simple`, where nothing that the variants are for is
in the data. Every model is trained for each of five sessions held out, with each seed, by the project's own trainer and
splits; the epoch is chosen on development dialogues. Scores are weighted F1 of all test turns, means over the seeds;
the spread is the standard deviation over the sessions; differences are to other rows, by a paired bootstrap over
dialogues. Seconds are processor seconds of one run, in a process of one thread.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from conversations import CODES, LIKE_IEMOCAP, SESSIONS, SIMPLE, Conversations, converse
from page import make_parser, publish

from lpgnet.feature_extractors import EncoderSpec
from lpgnet.model import load_model
from lpgnet.pipeline.common.files import from_json, write_json
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.common.side_by_side import default_workers, run_side_by_side
from lpgnet.pipeline.config import Config, SplitsConfig, parse_config
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance
from lpgnet.pipeline.corpora.ratings import DIMENSIONS
from lpgnet.pipeline.embeddings.plan import Embeddings
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.inference import Prediction, predict_dialogues
from lpgnet.pipeline.evaluation.metrics import bootstrap_differences, dialogue_confusions, mean_scores
from lpgnet.pipeline.training.checkpoints import EpochLog
from lpgnet.pipeline.training.dialogues import make_dialogues
from lpgnet.pipeline.training.freshness import BEST_FOLDER, LOG_FILE
from lpgnet.pipeline.training.runs import LoadedCorpus
from lpgnet.pipeline.training.selection import Selection
from lpgnet.pipeline.training.splits import make_folds
from lpgnet.pipeline.training.trainer import train_run

EFFECTS = {"conversations": LIKE_IEMOCAP, "simple": SIMPLE}
LABELS = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"} | dict.fromkeys(CODES[5:])
CLASSES = ("angry", "happy", "neutral", "sad")
RESULT_FILE = "result.json"
METRIC = "weighted_f1"
PRESET = "lpgnet-plus"


@dataclass(frozen=True)
class Run:
    """One training: a row of the table, on one corpus, with one session held out and one seed."""

    row: str
    config: Config
    corpus: str
    fold: str
    seed: int
    folder: Path


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        dev: weighted F1 of the best epoch on the development dialogues.
        seconds: of the processor, to train.
        confusions: of each test dialogue, by id.
    """

    dev: float
    epoch: int
    seconds: float
    parameters: int
    confusions: dict[str, list[list[float]]]


def rows() -> dict[str, Config]:
    """The rows of the table by name; all have the project's recipe, and the preset has its own beside it."""
    networks: dict[str, dict[str, Any]] = {
        "concat": {"type": "concat"},
        "text": {"type": "text"},
        "audio": {"type": "audio"},
        "sdt-256": {"type": "sdt", "hidden_size": 256},
        "sdt-256, not told who speaks": {"type": "sdt", "hidden_size": 256, "speaker_embedding": False},
        "sdt-128": {"type": "sdt", "hidden_size": 128},
        "lpgnet": {"type": "lpgnet"},
    }
    return {name: make_config(model) for name, model in networks.items()} | {PRESET: make_config({}, preset=PRESET)}


def variants() -> dict[str, Config]:
    """LPGNet at the preset's width, and each variant by itself upon it."""
    width = {"type": "lpgnet", "hidden_size": 128}
    alone: dict[str, dict[str, Any]] = {
        "lpgnet, d = 128": {},
        "context_norm": {"context_norm": "layer"},
        "distance_bias": {"distance_bias": True},
        "voice_neighbours": {"voice_neighbours": True},
        "speaker_turn_bias": {"speaker_turn_bias": True},
        "local_layers": {"local_layers": 2},
    }
    return {name: make_config(width | model) for name, model in alone.items()} | {
        PRESET: make_config({}, preset=PRESET)
    }


def make_config(model: dict[str, Any], training: dict[str, Any] | None = None, *, preset: str | None = None) -> Config:
    """Make a row's configuration: a preset's, or the project's defaults, but for what is given."""
    config = parse_config("crossval", ["--preset", preset] if preset else [], Config)
    return replace(
        config,
        labels=dict(LABELS),
        model=replace(config.model, **model),
        training=replace(config.training, **{"device": "cpu"} | (training or {})),
        splits=SplitsConfig("session"),
    )


@lru_cache(maxsize=2)
def corpus_of(name: str) -> LoadedCorpus:
    """Make the conversations of that name, as a corpus that is ready for training."""
    made = converse(EFFECTS[name])
    utterances = [_utterance(made, row, turn) for row, turn in enumerate(_turns(made))]
    rows = {utterance.utterance_id: row for row, utterance in enumerate(utterances)}
    embeddings = {"text": Embeddings(made.text, rows), "audio": Embeddings(made.audio, rows)}
    about = Corpus("made up", "", "table", 1, ranges=dict.fromkeys(DIMENSIONS, (1.0, 5.0)))
    dialogues = make_dialogues(Manifest(about, tuple(utterances)), embeddings, LABELS, drop_unlabelled=False)
    specs = {one: EncoderSpec(one, one, "all", "mean", "fp32", None, None, False, one) for one in embeddings}
    return LoadedCorpus(tuple(dialogues), specs, name, ranges=about.ranges)


def _turns(made: Conversations) -> np.ndarray:
    """The number of each turn in its dialogue."""
    starts = np.searchsorted(made.dialogue, made.dialogue)
    return np.asarray(np.arange(len(starts)) - starts)


def _utterance(made: Conversations, row: int, turn: int) -> Utterance:
    session, label = SESSIONS[made.session[row]], int(made.labels[row])
    dialogue = f"{session}_{made.dialogue[row]:03d}"
    return Utterance(
        dialogue,
        f"{dialogue}.{turn}",
        speaker=f"{session}{'FM'[made.speaker[row]]}",
        session=session,
        label=None if label < 0 else CODES[label],
        votes={code: float(count) for code, count in zip(CODES, made.votes[row], strict=True) if count},
        **{name: float(value) for name, value in zip(DIMENSIONS, made.ratings[row], strict=True)},
    )


def make_runs(table: dict[str, Config], corpora: Sequence[str], seeds: int, folder: Path) -> list[Run]:
    """List every training of the table, those of one seed together."""
    return [
        Run(
            row,
            replace(config, training=replace(config.training, seed=seed)),
            corpus,
            fold,
            seed,
            folder / corpus / row / fold / str(seed),
        )
        for seed in range(seeds)
        for corpus in corpora
        for row, config in table.items()
        for fold in SESSIONS
    ]


def do_run(run: Run) -> None:
    """Train and test, unless that was done."""
    if (run.folder / RESULT_FILE).exists():
        return
    # One that was stopped half-way would go on, and take less time than it takes.
    shutil.rmtree(run.folder, ignore_errors=True)
    corpus = corpus_of(run.corpus)
    split = next(split for split in make_folds(corpus.dialogues, run.config.splits) if split.name == run.fold)
    started = process_time()
    train_run(run.config, corpus, split, run.folder, make_accelerator(run.config.training.device), measure_development)
    seconds = process_time() - started
    model = load_model(run.folder / BEST_FOLDER)
    best = _best(run)
    found = _confusions(predict_dialogues(model, split.test))
    result = Result(best.dev[METRIC], best.epoch, seconds, model.num_parameters(), found)
    write_json(run.folder / RESULT_FILE, result)


def _best(run: Run) -> EpochLog:
    lines = (run.folder / LOG_FILE).read_text().splitlines()
    log = [from_json(json.loads(line), EpochLog, where=str(run.folder)) for line in lines]
    return Selection.by(run.config.training).best(log)


def _confusions(predictions: Sequence[Prediction]) -> dict[str, list[list[float]]]:
    names = sorted({one.dialogue_id for one in predictions})
    return dict(zip(names, dialogue_confusions(predictions, CLASSES).tolist(), strict=True))


def read_result(run: Run) -> Result:
    """Read what came of a run."""
    return from_json(json.loads((run.folder / RESULT_FILE).read_text()), Result, where=str(run.folder))


@dataclass(frozen=True)
class Scores:
    """What a row scores, by all of its runs.

    Attributes:
        dev, test: weighted F1, means over folds and seeds.
        spread: standard deviation of the folds' test scores, each a mean over the seeds.
        seconds: median of a run's.
        confusions: (seeds, dialogues, C, C).
    """

    dev: float
    test: float
    spread: float
    seconds: float
    parameters: int
    confusions: np.ndarray


def scores_of(row: str, runs: Sequence[Run]) -> Scores:
    """Sum up the runs of a row."""
    found = [(run, read_result(run)) for run in runs if run.row == row]
    folds = {fold: np.mean([_f1(result) for run, result in found if run.fold == fold]) for fold in SESSIONS}
    seeds: dict[int, dict[str, list[list[float]]]] = {}
    for run, result in found:
        seeds.setdefault(run.seed, {}).update(result.confusions)
    confusions = np.array([[by_dialogue[name] for name in sorted(by_dialogue)] for by_dialogue in seeds.values()])
    return Scores(
        dev=float(np.mean([result.dev for _, result in found])),
        test=float(np.mean(list(folds.values()))),
        spread=float(np.std(list(folds.values()), ddof=1)),
        seconds=float(np.median([result.seconds for _, result in found])),
        parameters=found[0][1].parameters,
        confusions=confusions,
    )


def _f1(result: Result) -> float:
    return float(mean_scores(np.array(list(result.confusions.values())).sum(0)[None, None])[METRIC][0])


def table(folder: Path, seeds: int) -> Iterator[str]:
    """Yield the lines of both tables, when all of their runs are done."""
    yield "**Conversations with all effects**"
    yield ""
    yield from table_of("conversations", rows(), ("sdt-256", "lpgnet"), folder, seeds)
    yield ""
    yield "**Simple conversations**"
    yield ""
    yield from table_of("simple", variants(), ("lpgnet, d = 128",), folder, seeds)


def table_of(
    corpus: str, networks: dict[str, Config], baselines: Sequence[str], folder: Path, seeds: int
) -> Iterator[str]:
    """Yield the lines of one table, when all of its runs are done."""
    runs = make_runs(networks, [corpus], seeds, folder)
    for number, _ in enumerate(run_side_by_side(do_run, runs, workers=default_workers("cpu")), 1):
        print(f"\r{corpus}: {number} of {len(runs)} runs", end="", file=sys.stderr)
    yield f"| model | dev | test | spread | {' | '.join(f'test - {one}' for one in baselines)} | parameters | seconds |"
    yield f"|---|---:|---:|---:|{'---|' * len(baselines)}---:|---:|"
    scores = {row: scores_of(row, runs) for row in networks}
    for row, own in scores.items():
        yield line(row, own, [scores[baseline] for baseline in baselines])


def line(row: str, own: Scores, baselines: Sequence[Scores]) -> str:
    """Return a row of the table."""
    gains = " | ".join("" if own is baseline else gain(own, baseline) for baseline in baselines)
    return (
        f"| {row} | {own.dev:.3f} | {own.test:.3f} | {own.spread:.3f} | {gains} "
        f"| {own.parameters / 1e6:.2f} M | {own.seconds:.1f} |"
    )


def gain(own: Scores, baseline: Scores) -> str:
    """Return the difference to a baseline, and its interval."""
    difference = bootstrap_differences(own.confusions, baseline.confusions, resamples=2000, confidence=0.95)[METRIC]
    low, high = difference.interval
    return f"{difference.value:+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs for each fold (default: 3)")
    parser.add_argument("--folder", type=Path, help="for the runs: those that are done there are not trained again")
    options = parser.parse_args()
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as folder:
        lines, earlier = table(Path(folder), options.seeds), len(list(Path(folder).rglob(RESULT_FILE)))
        how = f"{options.seeds} runs for each fold" + (f", {earlier} of all runs made before" if earlier else "")
        publish(lines, script="accuracy.py", write=options.write, how=how)


if __name__ == "__main__":
    main()
