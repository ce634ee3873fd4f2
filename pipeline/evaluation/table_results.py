"""Results of a table: its protocol, and a row for each model with the difference from the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lpgnet.pipeline.common.shared_names import rename_all, shown
from lpgnet.pipeline.config import Config, CorpusConfig, EvaluationConfig, SplitsConfig, TrainingConfig
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.evaluation.analysis import (
    ConditionScores,
    Runs,
    Scores,
    SeenGap,
    SpeakerScores,
    compare_runs,
    labelled_only,
    predictions_of,
    score,
    score_conditions,
    score_speakers,
    speaker_gap,
    text_gap,
)
from lpgnet.pipeline.evaluation.calibration import Calibrated, Calibration, measure_calibration
from lpgnet.pipeline.evaluation.chosen_epochs import ChosenEpoch
from lpgnet.pipeline.evaluation.class_shares import ClassShare, class_shares
from lpgnet.pipeline.evaluation.dimensions import DimensionScores, score_dimensions
from lpgnet.pipeline.evaluation.distributions import DistributionScores, score_distribution
from lpgnet.pipeline.evaluation.inference import FUSED
from lpgnet.pipeline.evaluation.metrics import NAMES, Difference
from lpgnet.pipeline.evaluation.missing import Missing, add_missing
from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE, Outcome, read_predictions, words_seen
from lpgnet.pipeline.evaluation.run_results import RunResults, read_results
from lpgnet.pipeline.evaluation.tables import Job, Row, baseline_of
from lpgnet.pipeline.training.tuned import TuningScores

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class Protocol:
    """How a table was measured.

    Attributes:
        encoders: name of each modality's encoder.
        labels: the class that each of the corpus's codes stands for, or None to ignore the code.
        folds: names of the test splits.
        seeds: number of runs per row and fold.
        bootstrap, confidence: resamples and confidence level of the intervals.
        words_seen: share of labelled utterances whose text is also in training; None without text.
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
    """Mean scores of one fold over the seeds, and how often each class is true and predicted there."""

    wa: float
    ua: float
    weighted_f1: float
    macro_f1: float
    n: float
    class_shares: dict[str, ClassShare] = field(default_factory=dict)


@dataclass(frozen=True)
class RowRun:
    """The epoch that one run of a row chose; None if the run's folder does not say."""

    fold: str
    seed: int
    chosen: ChosenEpoch | None


@dataclass(frozen=True)
class TableRow(Scores):
    """One row: scores over the test utterances of all folds, their mean and deviation over seeds, and by group.

    Attributes:
        model: the row's name.
        type: value of `model.type`.
        training: how its runs were trained, but for the seed.
        parameters: number of the model's parameters, without the encoders.
        heads: scores of the branch heads; the row's own scores are those of the fused head.
        seconds_per_epoch: training time of each run.
        differences: this row − the baseline, by metric, see `analysis.compare_runs`; empty in the baseline itself.
        distribution: scores against the raters' votes; None where nobody voted.
        dimensions: scores of each dimension that the model predicts and raters rated.
        refit: whether the models were trained once more, on the development dialogues too.
        tuned: scores of the encoders that were tuned, by modality, one of each fold.
        runs: the epoch that each run chose.
        dropout: of its models.
        class_shares: how often each class is true and predicted, over the test utterances of all folds.
        text_gap: None unless some utterances have the text of one in training and others have not.
        standardise: whose statistics its inputs are standardized by, as the model's configuration has it.
    """

    model: str
    type: str
    training: TrainingConfig
    parameters: int
    heads: dict[str, Scores]
    folds: dict[str, FoldScores]
    conditions: dict[str, ConditionScores]
    speakers: dict[str, SpeakerScores]
    speaker_gap: SeenGap | None
    calibration: Calibration
    missing: Missing
    seconds_per_epoch: list[float]
    differences: dict[str, Difference]
    distribution: DistributionScores | None = None
    dimensions: dict[str, DimensionScores] = field(default_factory=dict)
    refit: bool = False
    tuned: dict[str, list[TuningScores]] = field(default_factory=dict)
    runs: list[RowRun] = field(default_factory=list)
    dropout: float | None = None
    class_shares: dict[str, ClassShare] = field(default_factory=dict)
    text_gap: SeenGap | None = None
    standardise: str = "corpus"


@dataclass(frozen=True)
class TableResults:
    """The contents of `results.json`.

    Attributes:
        name: name of the experiment.
        table: name of the table.
        baseline: name of the row that all others are compared with.
    """

    name: str
    table: str
    classes: list[str]
    protocol: Protocol
    rows: list[TableRow]
    baseline: str


def describe_table(config: Config, rows: Sequence[Row], jobs: Sequence[Job]) -> TableResults:
    """Summarize the measured runs of a table.

    Raises:
        UsageError: a row was tested on different utterances or labels than the baseline.
        PipelineError: a run's results are missing or damaged.
    """
    runs = {row.name: read_runs([job for job in jobs if job.row == row.name]) for row in rows}
    name = baseline_of(config, list(runs))
    baseline = next(row for row in rows if row.name == name)
    described = []
    for row in rows:
        gaps = _differences(baseline, runs[name], row, runs[row.name]) if row is not baseline else {}
        row_jobs = [job for job in jobs if job.row == row.name]
        described.append(describe_row(row, row_jobs, runs[row.name], gaps))
    protocol = _protocol(baseline.config, jobs, runs[name])
    return TableResults(config.name, config.crossval.table, config.classes, protocol, described, name)


def _differences(baseline: Row, reference: Runs, row: Row, runs: Runs) -> dict[str, Difference]:
    _check_same_test(baseline, reference, row, runs)
    settings = baseline.config.evaluation
    classes = baseline.config.classes
    return compare_runs(runs, reference, classes, resamples=settings.bootstrap, confidence=settings.confidence)


def _check_same_test(baseline: Row, reference: Runs, row: Row, runs: Runs) -> None:
    """Refuse a table whose rows were tested on different utterances: their differences would be meaningless."""
    tested = [{(o.prediction.utterance_id, o.prediction.label) for o in labelled_only(r)[0]} for r in (reference, runs)]
    if row.config.classes != baseline.config.classes or tested[0] != tested[1]:
        raise UsageError(
            f"{row.name} is tested on different utterances or labels than {baseline.name}; an overlay must not change "
            "labels or splits: make a separate table"
        )


def _protocol(config: Config, jobs: Sequence[Job], runs: Runs) -> Protocol:
    named = {"text": config.encoders.text.name, "audio": config.encoders.audio.name}
    return Protocol(
        corpus=CorpusConfig(**rename_all(vars(config.corpus), shown)),
        encoders={modality: shown(name) for modality, name in named.items() if name},
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
    """Read the test predictions of one row: a list per seed, with all its folds."""
    seeds: dict[int, list[Outcome]] = {}
    for job in jobs:
        outcomes, _ = read_predictions(job.folder / PREDICTIONS_FILE)
        seeds.setdefault(job.config.training.seed, []).extend(outcomes)
    return list(seeds.values())


def describe_row(row: Row, jobs: Sequence[Job], runs: Runs, gaps: dict[str, Difference]) -> TableRow:
    """Summarize the runs of one row."""
    measured = [read_results(job.folder) for job in jobs]
    classes, settings = row.config.classes, row.config.evaluation
    return TableRow(
        **vars(score(runs, classes, settings)),
        model=row.name,
        type=row.config.model.type,
        training=row.config.training,
        parameters=measured[0].parameters,
        heads={head: score(runs, classes, settings, head=head) for head in measured[0].heads if head != FUSED},
        folds=_score_folds(jobs, measured, row.config),
        conditions=score_conditions(runs, classes, settings),
        speakers=score_speakers(runs, classes, settings),
        speaker_gap=speaker_gap(runs, classes, settings),
        calibration=_calibration(jobs, measured, settings),
        missing=add_missing([run.missing for run in measured]),
        seconds_per_epoch=[run.training.seconds_per_epoch for run in measured if run.training],
        differences=gaps,
        distribution=score_distribution(predictions_of(runs), settings),
        dimensions=score_dimensions(predictions_of(runs), _ranges(measured), settings),
        refit=row.config.crossval.refit,
        tuned=_tuned({job.fold: run for job, run in zip(jobs, measured, strict=True)}),
        runs=[RowRun(job.fold, job.config.training.seed, run.chosen) for job, run in zip(jobs, measured, strict=True)],
        dropout=measured[0].dropout,
        class_shares=class_shares(runs, classes, settings),
        text_gap=text_gap(runs, classes, settings),
        standardise=row.config.model.settings().get("standardise", "corpus"),
    )


def _tuned(folds: Mapping[str, RunResults]) -> dict[str, list[TuningScores]]:
    """Return the scores of each modality's tuned encoders, one of each fold: its runs share it."""
    modalities = {name: None for run in folds.values() for name in run.tuned}
    return {name: [run.tuned[name] for run in folds.values() if name in run.tuned] for name in modalities}


def _ranges(measured: Sequence[RunResults]) -> Ranges:
    """Return the range of each dimension that is rated in some fold."""
    return {name: (scores.low, scores.high) for run in measured for name, scores in run.dimensions.items()}


def _score_folds(jobs: Sequence[Job], measured: Sequence[RunResults], config: Config) -> dict[str, FoldScores]:
    folds: dict[str, list[tuple[Job, Scores]]] = {}
    for job, run in zip(jobs, measured, strict=True):
        folds.setdefault(job.fold, []).append((job, run.fused))
    return {
        fold: FoldScores(
            **{name: sum(getattr(scores, name) for _, scores in runs) / len(runs) for name in (*NAMES, "n")},
            class_shares=class_shares(read_runs([job for job, _ in runs]), config.classes, config.evaluation),
        )
        for fold, runs in folds.items()
    }


def _calibration(jobs: Sequence[Job], measured: Sequence[RunResults], settings: EvaluationConfig) -> Calibration:
    """Measure a row without and with the temperature of each of its runs."""
    seeds: dict[int, list[Calibrated]] = {}
    for job, run in zip(jobs, measured, strict=True):
        (predictions,) = predictions_of(read_runs([job]))
        (temperature,) = run.calibration.temperatures
        seeds.setdefault(job.config.training.seed, []).append((predictions, temperature))
    return measure_calibration(list(seeds.values()), settings)
