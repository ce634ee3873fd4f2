"""What the predictions of one or several runs on the same test utterances say: scores, by group too, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.inference import FUSED, Prediction
from lpgnet.pipeline.evaluation.metrics import (
    NAMES,
    bootstrap_differences,
    bootstrap_intervals,
    dialogue_confusions,
    scores,
)
from lpgnet.pipeline.evaluation.predictions import Outcome, words_seen
from lpgnet.pipeline.training.dialogues import NO_LABEL

# The test predictions of each run: one run, or one a seed with all folds together.
Runs = Sequence[Sequence[Outcome]]


def confusions(runs: Runs, classes: Sequence[str], *, head: str = FUSED) -> np.ndarray:
    """(runs, dialogues, C, C), the dialogues in the order of their ids."""
    return np.stack([dialogue_confusions(_predictions(run), classes, head=head) for run in runs])


def _predictions(run: Sequence[Outcome]) -> list[Prediction]:
    return [one.prediction for one in run]


def score(runs: Runs, classes: Sequence[str], config: EvaluationConfig, *, head: str = FUSED) -> dict[str, Any]:
    """Mean scores over the runs, their deviations, and intervals of the means over dialogues.

    Returns:
        Each metric and `f1` per class; `deviations` and `f1_deviations` (empty for one run); `intervals`; `confusion`
        summed over the runs; `n` labelled utterances.
    """
    per_dialogue = confusions(runs, classes, head=head)
    values = scores(per_dialogue.sum(1))
    several = len(runs) > 1
    return {
        **{name: float(values[name].mean()) for name in NAMES},
        "f1": _by_class(classes, values["f1"].mean(0)),
        "deviations": {name: float(values[name].std(ddof=1)) for name in NAMES} if several else {},
        "f1_deviations": _by_class(classes, values["f1"].std(0, ddof=1)) if several else {},
        "intervals": bootstrap_intervals(per_dialogue, resamples=config.bootstrap, confidence=config.confidence),
        "confusion": per_dialogue.sum((0, 1)).tolist(),
        "n": int(per_dialogue[0].sum()),
    }


def _by_class(classes: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(classes, values.tolist(), strict=True))


def score_conditions(runs: Runs, classes: Sequence[str], config: EvaluationConfig) -> dict[str, dict[str, Any]]:
    """The scores of each condition that the corpus tells, with the share of its words that stand in training."""
    found = sorted({one.condition for one in _known(runs[0]) if one.condition is not None})
    groups = {name: _where(runs, lambda one, name=name: one.condition == name) for name in found}  # type: ignore[misc]
    return {
        name: {**score(group, classes, config), "words_seen": words_seen(group[0])} for name, group in groups.items()
    }


def score_speakers(runs: Runs, classes: Sequence[str], config: EvaluationConfig) -> dict[str, dict[str, Any]]:
    """WA and UA of each speaker of the test split, and whether the speaker was in training too."""
    found = sorted({one.speaker for one in _known(runs[0]) if one.speaker is not None})
    rows = {}
    for name in found:
        group = _where(runs, lambda one, name=name: one.speaker == name)  # type: ignore[misc]
        values = score(group, classes, config)
        kept = {key: values[key] for key in ("wa", "ua", "n")}
        seen = any(one.speaker_seen for one in group[0])
        rows[name] = {**kept, "intervals": {k: v for k, v in values["intervals"].items() if k in kept}, "seen": seen}
    return rows


def speaker_gap(runs: Runs, classes: Sequence[str], config: EvaluationConfig) -> dict[str, Any] | None:
    """Scores on speakers who are in training and on those who are not, and their difference; None without both."""
    groups = {"seen": _where(runs, _is_seen), "unseen": _where(runs, lambda one: not _is_seen(one))}
    if not all(_known(group[0]) for group in groups.values()):
        return None
    seen, unseen = (confusions(_masked(runs, keep), classes) for keep in (_is_seen, lambda one: not _is_seen(one)))
    gaps = bootstrap_differences(seen, unseen, resamples=config.bootstrap, confidence=config.confidence)
    return {
        **{name: score(group, classes, config) for name, group in groups.items()},
        "differences": {name: asdict(gap) for name, gap in gaps.items()},
    }


def _is_seen(one: Outcome) -> bool:
    return one.speaker_seen


def _where(runs: Runs, keep: Callable[[Outcome], bool]) -> list[list[Outcome]]:
    return [[one for one in _known(run) if keep(one)] for run in runs]


def _masked(runs: Runs, keep: Callable[[Outcome], bool]) -> list[list[Outcome]]:
    """The runs with no label where `keep` is false, so that every dialogue stays in its place."""
    return [[one if keep(one) else _without_label(one) for one in run] for run in runs]


def _without_label(one: Outcome) -> Outcome:
    return replace(one, prediction=replace(one.prediction, label=NO_LABEL))


def labelled_only(runs: Runs) -> list[list[Outcome]]:
    """The runs without unlabelled utterances: a dialogue that has no other counts in no comparison."""
    return [_known(run) for run in runs]


def _known(run: Sequence[Outcome]) -> list[Outcome]:
    return [one for one in run if one.prediction.label != NO_LABEL]
