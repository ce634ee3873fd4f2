"""Scores with intervals of one or several runs on the same test utterances, overall and by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.inference import FUSED, Prediction
from lpgnet.pipeline.evaluation.metrics import (
    NAMES,
    Difference,
    Metrics,
    bootstrap_differences,
    bootstrap_intervals,
    dialogue_confusions,
    scores,
)
from lpgnet.pipeline.evaluation.predictions import Outcome, words_seen
from lpgnet.pipeline.training.dialogues import NO_LABEL

# The test predictions of each run: a single run, or one per seed with the predictions of all folds.
Runs = Sequence[Sequence[Outcome]]


@dataclass(frozen=True)
class Scores(Metrics):
    """Mean scores over several runs; `confusion` is the sum over the runs, `n` counts the utterances of one run.

    Attributes:
        deviations, f1_deviations: standard deviations over the runs; empty for a single run.
        intervals: bootstrap intervals of the means over dialogues; empty without resamples.
    """

    deviations: dict[str, float]
    f1_deviations: dict[str, float]
    intervals: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class ConditionScores(Scores):
    """The scores of one condition.

    Attributes:
        words_seen: share of labelled utterances whose text is also in training or development; None without text.
    """

    words_seen: float | None


@dataclass(frozen=True)
class SpeakerScores:
    """One speaker's scores, and whether the speaker is also in training or development."""

    wa: float
    ua: float
    n: int
    intervals: dict[str, tuple[float, float]]
    seen: bool


@dataclass(frozen=True)
class SpeakerGap:
    """Scores on speakers who are in training and on those who are not; `differences` are seen − unseen."""

    seen: Scores
    unseen: Scores
    differences: dict[str, Difference]


def confusions(runs: Runs, classes: Sequence[str], *, head: str = FUSED) -> np.ndarray:
    """Return a confusion matrix per run and dialogue, (runs, dialogues, C, C), dialogues sorted by id."""
    return np.stack([dialogue_confusions(_predictions(run), classes, head=head) for run in runs])


def _predictions(run: Sequence[Outcome]) -> list[Prediction]:
    return [one.prediction for one in run]


def score(runs: Runs, classes: Sequence[str], config: EvaluationConfig, *, head: str = FUSED) -> Scores:
    """Return the mean scores over the runs, their deviations, and intervals of the means over dialogues."""
    per_dialogue = confusions(runs, classes, head=head)
    values = scores(per_dialogue.sum(1))
    several = len(runs) > 1
    return Scores(
        **{name: float(values[name].mean()) for name in NAMES},
        f1=_by_class(classes, values["f1"].mean(0)),
        confusion=per_dialogue.sum((0, 1)).tolist(),
        n=int(per_dialogue[0].sum()),
        deviations={name: float(values[name].std(ddof=1)) for name in NAMES} if several else {},
        f1_deviations=_by_class(classes, values["f1"].std(0, ddof=1)) if several else {},
        intervals=bootstrap_intervals(per_dialogue, resamples=config.bootstrap, confidence=config.confidence),
    )


def _by_class(classes: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(classes, values.tolist(), strict=True))


def score_conditions(runs: Runs, classes: Sequence[str], config: EvaluationConfig) -> dict[str, ConditionScores]:
    """Return the scores of each condition that the corpus names."""
    groups = _by_group(runs, lambda one: one.condition)
    return {
        name: ConditionScores(**vars(score(group, classes, config)), words_seen=words_seen(group[0]))
        for name, group in groups.items()
    }


def score_speakers(runs: Runs, classes: Sequence[str], config: EvaluationConfig) -> dict[str, SpeakerScores]:
    """Return the scores of each speaker of the test split."""
    groups = _by_group(runs, lambda one: one.speaker)
    return {name: _score_speaker(group, score(group, classes, config)) for name, group in groups.items()}


def _score_speaker(group: Runs, values: Scores) -> SpeakerScores:
    intervals = {name: interval for name, interval in values.intervals.items() if name in ("wa", "ua")}
    seen = any(one.speaker_seen for one in group[0])
    return SpeakerScores(wa=values.wa, ua=values.ua, n=values.n, intervals=intervals, seen=seen)


def _by_group(runs: Runs, group_of: Callable[[Outcome], str | None]) -> dict[str, list[list[Outcome]]]:
    """Group the labelled outcomes by name, sorted by name; those without a name are left out."""
    names = sorted({name for one in _known(runs[0]) if (name := group_of(one)) is not None})
    return {name: [[one for one in _known(run) if group_of(one) == name] for run in runs] for name in names}


def speaker_gap(runs: Runs, classes: Sequence[str], config: EvaluationConfig) -> SpeakerGap | None:
    """Compare the scores on speakers who are in training with those on the others; None unless there are both."""
    seen, unseen = _where(runs, _is_seen), _where(runs, _is_unseen)
    if not (_known(seen[0]) and _known(unseen[0])):
        return None
    sides = (confusions(_masked(runs, keep), classes) for keep in (_is_seen, _is_unseen))
    gaps = bootstrap_differences(*sides, resamples=config.bootstrap, confidence=config.confidence)
    return SpeakerGap(score(seen, classes, config), score(unseen, classes, config), gaps)


def _is_unseen(one: Outcome) -> bool:
    return not one.speaker_seen


def _is_seen(one: Outcome) -> bool:
    return one.speaker_seen


def _where(runs: Runs, keep: Callable[[Outcome], bool]) -> list[list[Outcome]]:
    return [[one for one in _known(run) if keep(one)] for run in runs]


def _masked(runs: Runs, keep: Callable[[Outcome], bool]) -> list[list[Outcome]]:
    """Remove the labels where `keep` is false, so that every dialogue keeps its index."""
    return [[one if keep(one) else _without_label(one) for one in run] for run in runs]


def _without_label(one: Outcome) -> Outcome:
    return replace(one, prediction=replace(one.prediction, label=NO_LABEL))


def labelled_only(runs: Runs) -> list[list[Outcome]]:
    """Leave out unlabelled utterances, and with them dialogues that have no labelled ones."""
    return [_known(run) for run in runs]


def _known(run: Sequence[Outcome]) -> list[Outcome]:
    return [one for one in run if one.prediction.label != NO_LABEL]
