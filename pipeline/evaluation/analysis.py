"""Scores with intervals of one or several runs on the same test utterances, overall and by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.corpora.ratings import DIMENSIONS
from lpgnet.pipeline.evaluation.dimensions import agreement_scores, dialogue_moments, is_rated
from lpgnet.pipeline.evaluation.distributions import dialogue_distributions, distribution_scores, has_votes
from lpgnet.pipeline.evaluation.inference import FUSED, Prediction
from lpgnet.pipeline.evaluation.metrics import (
    NAMES,
    Difference,
    Metrics,
    Scoring,
    bootstrap_differences,
    dialogue_confusions,
    overall_scores,
    scores,
    summarize,
)
from lpgnet.pipeline.evaluation.predictions import Outcome, words_seen
from lpgnet.pipeline.training.labels import NO_LABEL

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
class SeenGap:
    """Scores on utterances whose speaker or text is in training, and on the others; `differences` are seen − unseen."""

    seen: Scores
    unseen: Scores
    differences: dict[str, Difference]


def confusions(runs: Runs, classes: Sequence[str], *, head: str = FUSED) -> np.ndarray:
    """Return a confusion matrix per run and dialogue, (runs, dialogues, C, C), dialogues sorted by id."""
    return np.stack([dialogue_confusions(run, classes, head=head) for run in predictions_of(runs)])


def predictions_of(runs: Runs) -> list[list[Prediction]]:
    """Return the predictions of each run, without the facts about their utterances."""
    return [[one.prediction for one in run] for run in runs]


def score(runs: Runs, classes: Sequence[str], config: EvaluationConfig, *, head: str = FUSED) -> Scores:
    """Return the mean scores over the runs, their deviations, and intervals of the means over dialogues."""
    per_dialogue = confusions(runs, classes, head=head)
    found = summarize(per_dialogue, resamples=config.bootstrap, confidence=config.confidence)
    f1 = scores(per_dialogue.sum(1))["f1"]
    return Scores(
        **found.means,
        f1=_by_class(classes, f1.mean(0)),
        confusion=per_dialogue.sum((0, 1)).tolist(),
        n=int(per_dialogue[0].sum()),
        deviations=found.deviations,
        f1_deviations=_by_class(classes, f1.std(0, ddof=1)) if len(runs) > 1 else {},
        intervals=found.intervals,
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


def speaker_gap(runs: Runs, classes: Sequence[str], config: EvaluationConfig) -> SeenGap | None:
    """Compare the scores on speakers who are in training with those on the others; None unless there are both."""
    return _gap(runs, lambda one: one.speaker_seen, classes, config)


def text_gap(runs: Runs, classes: Sequence[str], config: EvaluationConfig) -> SeenGap | None:
    """Compare the scores on utterances whose text is also in training with those on the others, as `speaker_gap`."""
    return _gap(runs, lambda one: bool(one.text_seen), classes, config)


def _gap(
    runs: Runs, is_seen: Callable[[Outcome], bool], classes: Sequence[str], config: EvaluationConfig
) -> SeenGap | None:
    kept = (is_seen, lambda one: not is_seen(one))
    seen, unseen = (_where(runs, keep) for keep in kept)
    if not (seen[0] and unseen[0]):
        return None
    sides = (confusions(_masked(runs, keep), classes) for keep in kept)
    gaps = bootstrap_differences(*sides, resamples=config.bootstrap, confidence=config.confidence)
    return SeenGap(score(seen, classes, config), score(unseen, classes, config), gaps)


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


@dataclass(frozen=True)
class Truth:
    """What predictions are scored against.

    Attributes:
        is_known: whether a prediction's utterance has it.
        matrices: gives those of each dialogue, sorted by id.
        scoring: of their sums.
    """

    is_known: Callable[[Prediction], bool]
    matrices: Callable[[Sequence[Prediction]], np.ndarray]
    scoring: Scoring


VOTES = {"jsd": "JSD", "cross_entropy": "cross-entropy", "macro_f1": "macro F1"}
RATINGS = {"ccc": "CCC", "pearson": "Pearson", "rmse": "RMSE"}


def title(name: str) -> str:
    """Say what a score is by its name, such as `wa`, `jsd.votes` or `ccc.valence`."""
    score, _, truth = name.partition(".")
    return f"{(VOTES | RATINGS)[score]} of {truth}" if truth else NAMES[score]


def truths(classes: Sequence[str]) -> list[Truth]:
    """Return labels, votes and the ratings of each dimension, whose scores have names that `title` knows."""
    return [
        Truth(lambda one: one.label != NO_LABEL, partial(dialogue_confusions, classes=classes), overall_scores),
        Truth(has_votes, dialogue_distributions, partial(_scores_of, "votes", distribution_scores)),
        *(
            Truth(
                partial(is_rated, dimension=name),
                partial(dialogue_moments, dimension=name),
                partial(_scores_of, name, agreement_scores),
            )
            for name in DIMENSIONS
        ),
    ]


def _scores_of(truth: str, scoring: Scoring, sums: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}.{truth}": values for name, values in scoring(sums).items()}


def score_known(predictions: Sequence[Prediction], classes: Sequence[str]) -> dict[str, float]:
    """Return the scores of one run against each truth that some utterances have, and `ccc`, the mean of all CCC."""
    found: dict[str, float] = {}
    for truth in truths(classes):
        if known := [one for one in predictions if truth.is_known(one)]:
            scores = truth.scoring(truth.matrices(known).sum(0))
            found |= {name: float(values) for name, values in scores.items()}
    if rated := [found[name] for name in found if name.startswith("ccc.")]:
        found["ccc"] = float(np.mean(rated))
    return found


def paired(first: Runs, second: Runs, classes: Sequence[str]) -> Iterator[tuple[Scoring, np.ndarray, np.ndarray]]:
    """Yield a scoring, and each side's matrices (runs, dialogues, I, J), for each truth that some utterances have.

    Only the utterances count that all runs of both sides have it for.
    """
    sides = [predictions_of(side) for side in (first, second)]
    for truth in truths(classes):
        ids = set.intersection(*({p.utterance_id for p in run if truth.is_known(p)} for side in sides for run in side))
        if ids:
            ours, theirs = (
                np.stack([truth.matrices([p for p in run if p.utterance_id in ids]) for run in side]) for side in sides
            )
            yield truth.scoring, ours, theirs


def compare_runs(
    first: Runs, second: Runs, classes: Sequence[str], *, resamples: int, confidence: float
) -> dict[str, Difference]:
    """Return first − second of the mean scores over runs, by a paired bootstrap over dialogues.

    Returns:
        By `wa`, `ua`, `weighted_f1`, `macro_f1`; where both sides have votes, `jsd.votes`, `cross_entropy.votes` and
        `macro_f1.votes`; where they have ratings and predictions of valence, `ccc.valence`, `pearson.valence`
        and `rmse.valence`, and so on.
    """
    return {
        name: difference
        for scoring, *sides in paired(first, second, classes)
        for name, difference in bootstrap_differences(
            *sides, resamples=resamples, confidence=confidence, scoring=scoring
        ).items()
    }
