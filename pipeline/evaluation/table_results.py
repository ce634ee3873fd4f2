"""What a table holds: its protocol, and a row for each model, with its difference from the first row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lpgnet.pipeline.config import Config, CorpusConfig, SplitsConfig, TrainingConfig
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.evaluation.analysis import (
    ConditionScores,
    Runs,
    Scores,
    SpeakerGap,
    SpeakerScores,
    confusions,
    labelled_only,
    score,
    score_conditions,
    score_speakers,
    speaker_gap,
)
from lpgnet.pipeline.evaluation.calibration import Calibration, Reliability, add_up
from lpgnet.pipeline.evaluation.inference import FUSED
from lpgnet.pipeline.evaluation.metrics import NAMES, Difference, bootstrap_differences
from lpgnet.pipeline.evaluation.missing import Missing, add_missing
from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE, Outcome, read_predictions, words_seen
from lpgnet.pipeline.evaluation.run_results import RunResults, read_results
from lpgnet.pipeline.evaluation.tables import Job, Row

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class Protocol:
    """How a table was measured.

    Attributes:
        encoders: name of each modality's encoder.
        labels: the corpus's code to the class it counts as, or None to ignore the code.
        folds: names of the test splits.
        seeds: runs of each row and fold.
        bootstrap, confidence: of the intervals.
        words_seen: share of labelled utterances whose words stand verbatim in training; None without words.
    """

    corpus: CorpusConfig
    encoders: dict[str, str]
    labels: dict[str, str | None]
    splits: SplitsConfig
    folds: list[str]
    seeds: int
    training: TrainingConfig
    bootstrap: int
    confidence: float
    words_seen: float | None


@dataclass(frozen=True)
class FoldScores:
    """The scores of one fold, the mean over seeds."""

    wa: float
    ua: float
    weighted_f1: float
    macro_f1: float
    n: float


@dataclass(frozen=True)
class TableCalibration:
    """The calibration of all runs' test utterances together, and each run's temperature."""

    temperatures: list[float]
    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class TableRow(Scores):
    """One row: scores over the test utterances of all folds together, mean and deviation over seeds, and by group.

    Attributes:
        model: the row's name.
        type: of the model.
        parameters: of the model, without the encoders.
        heads: the branch heads; the row's own scores are the fused head's.
        seconds_per_epoch: of each run.
        differences: from the first row, by metric; empty in that row.
    """

    model: str
    type: str
    parameters: int
    heads: dict[str, Scores]
    folds: dict[str, FoldScores]
    conditions: dict[str, ConditionScores]
    speakers: dict[str, SpeakerScores]
    speaker_gap: SpeakerGap | None
    calibration: TableCalibration
    missing: Missing
    seconds_per_epoch: list[float]
    differences: dict[str, Difference]


@dataclass(frozen=True)
class TableResults:
    """What `results.json` holds; `name` is the experiment's, `table` the table's."""

    name: str
    table: str
    classes: list[str]
    protocol: Protocol
    rows: list[TableRow]


def describe_table(config: Config, rows: Sequence[Row], jobs: Sequence[Job]) -> TableResults:
    """Sum up the measured runs of a table.

    Raises:
        UsageError: a row was tested on other utterances or labels than the first.
        PipelineError: what a run has measured is missing or damaged.
    """
    runs = {row.name: read_runs([job for job in jobs if job.row == row.name]) for row in rows}
    first = rows[0]
    described = []
    for row in rows:
        gaps = _differences(first, runs[first.name], row, runs[row.name]) if row is not first else {}
        described.append(describe_row(row, [job for job in jobs if job.row == row.name], runs[row.name], gaps))
    protocol = _protocol(config, jobs, runs[first.name])
    return TableResults(config.name, config.crossval.table, config.classes, protocol, described)


def _differences(first: Row, reference: Runs, row: Row, runs: Runs) -> dict[str, Difference]:
    _check_same_test(first, reference, row, runs)
    settings = first.config.evaluation
    sides = (confusions(labelled_only(side), first.config.classes) for side in (runs, reference))
    return bootstrap_differences(*sides, resamples=settings.bootstrap, confidence=settings.confidence)


def _check_same_test(first: Row, reference: Runs, row: Row, runs: Runs) -> None:
    """Refuse a table whose rows were tested on different utterances: their differences would mean nothing."""
    tested = [{(o.prediction.utterance_id, o.prediction.label) for o in labelled_only(r)[0]} for r in (reference, runs)]
    if row.config.classes != first.config.classes or tested[0] != tested[1]:
        raise UsageError(
            f"{row.name} is tested on other utterances or labels than {first.name}; an overlay must leave labels and "
            "splits as they are: make a table of its own"
        )


def _protocol(config: Config, jobs: Sequence[Job], runs: Runs) -> Protocol:
    named = {"text": config.encoders.text.name, "audio": config.encoders.audio.name}
    return Protocol(
        corpus=config.corpus,
        encoders={modality: name for modality, name in named.items() if name},
        labels=config.labels,
        splits=config.splits,
        folds=list(dict.fromkeys(job.fold for job in jobs)),
        seeds=config.crossval.seeds,
        training=config.training,
        bootstrap=config.evaluation.bootstrap,
        confidence=config.evaluation.confidence,
        words_seen=words_seen(runs[0]),
    )


def read_runs(jobs: Sequence[Job]) -> list[list[Outcome]]:
    """The test predictions of one row: a list a seed, its folds one after another."""
    seeds: dict[int, list[Outcome]] = {}
    for job in jobs:
        outcomes, _ = read_predictions(job.folder / PREDICTIONS_FILE)
        seeds.setdefault(job.config.training.seed, []).extend(outcomes)
    return list(seeds.values())


def describe_row(row: Row, jobs: Sequence[Job], runs: Runs, differences: dict[str, Difference]) -> TableRow:
    """Sum up one row's runs."""
    measured = [read_results(job.folder) for job in jobs]
    classes, settings = row.config.classes, row.config.evaluation
    return TableRow(
        **vars(score(runs, classes, settings)),
        model=row.name,
        type=row.config.model.type,
        parameters=measured[0].parameters,
        heads={head: score(runs, classes, settings, head=head) for head in measured[0].heads if head != FUSED},
        folds=_score_folds(jobs, measured),
        conditions=score_conditions(runs, classes, settings),
        speakers=score_speakers(runs, classes, settings),
        speaker_gap=speaker_gap(runs, classes, settings),
        calibration=_add_calibrations([run.calibration for run in measured]),
        missing=add_missing([run.missing for run in measured]),
        seconds_per_epoch=[run.training.seconds_per_epoch for run in measured if run.training],
        differences=differences,
    )


def _score_folds(jobs: Sequence[Job], measured: Sequence[RunResults]) -> dict[str, FoldScores]:
    folds: dict[str, list[Scores]] = {}
    for job, run in zip(jobs, measured, strict=True):
        folds.setdefault(job.fold, []).append(run.fused)
    return {fold: _mean(runs) for fold, runs in folds.items()}


def _mean(runs: Sequence[Scores]) -> FoldScores:
    return FoldScores(**{name: sum(getattr(run, name) for run in runs) / len(runs) for name in (*NAMES, "n")})


def _add_calibrations(measured: Sequence[Calibration]) -> TableCalibration:
    return TableCalibration(
        temperatures=[one.temperature for one in measured],
        before=add_up([one.before for one in measured]),
        after=add_up([one.after for one in measured]),
    )
