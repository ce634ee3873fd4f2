"""What a search has tried, and whether it has looked at the test data: the contents of its `results.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, TypeAlias

from lpgnet.pipeline.config import Select
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.analysis import Scores
from lpgnet.pipeline.searching.space import Settings, Space

RESULTS_FILE = "results.json"

Score: TypeAlias = Literal["weighted_f1", "macro_f1", "uar", "ccc", "loss"]


def compared_by(select: Select) -> Score:
    """Return the score that trials are compared by: that which the epoch is chosen by, or weighted F1 if none is."""
    return "weighted_f1" if select == "last" else select


@dataclass(frozen=True)
class Trial:
    """One choice of settings.

    Attributes:
        number: from 0 on, in the order in which they were chosen.
        settings: the value of each searched field, by dotted key.
        scores: development score of each seed, by fold; none where a run failed.
        seconds: training time of all its runs, one after another.
        same_as: number of the earlier trial that trains the same model, whose scores these are.
        reason: why a run failed.
    """

    number: int
    settings: Settings
    scores: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    same_as: int | None = None
    reason: str | None = None

    @property
    def score(self) -> float | None:
        """The mean over folds and seeds, or None where a run failed."""
        found = [score for seeds in self.scores.values() for score in seeds]
        return fmean(found) if found else None


@dataclass(frozen=True)
class Look:
    """The one time that a study looks at the test data.

    Attributes:
        when: date and time, as ISO 8601 has it.
        trials: how many there were by then.
        trial: number of the one that was measured, the best of those.
        scores: over the test utterances of all folds; None until they are measured.
    """

    when: str
    trials: int
    trial: int
    scores: Scores | None = None


@dataclass(frozen=True)
class SearchResults:
    """The contents of `results.json`.

    Attributes:
        name: of the experiment.
        study: of the search.
        select: the development score that trials are compared by, see `compared_by`.
        sampler: what chose the settings, with its version.
        inputs: all that decides what a trial scores, see `study.study_inputs`: a study goes on with the same alone.
        configured: number of the trial with the configuration's own values, None where the space has not all of them.
        trials: in order.
        test: None as long as the test data were not looked at.
    """

    name: str
    study: str
    select: Score
    sampler: str
    inputs: dict[str, Any]
    configured: int | None = None
    trials: list[Trial] = field(default_factory=list)
    test: Look | None = None

    @property
    def lower_is_better(self) -> bool:
        """Whether the score is one of which less is better."""
        return self.select == "loss"

    def ranked(self) -> list[Trial]:
        """Return the trials that have a score, the best first; of equal ones the first that was tried."""
        sign = 1 if self.lower_is_better else -1
        scored = [trial for trial in self.trials if trial.score is not None]
        return sorted(scored, key=lambda trial: sign * (trial.score or 0.0))

    @property
    def best(self) -> Trial | None:
        """The trial with the best score, if any has one."""
        return next(iter(self.ranked()), None)

    def knows_test(self, trial: Trial) -> bool:
        """Whether the trial was chosen when the study had looked at the test data."""
        return self.test is not None and trial.number >= self.test.trials


def check_trials(results: SearchResults, space: Space, path: Path) -> None:
    """Refuse trials that no search of this space has written.

    Args:
        results: that were read.
        space: of the study.
        path: of the file.

    Raises:
        PipelineError: names the file, the trial and the field.
    """
    anew = "delete the study's folder to search anew"
    for number, trial in enumerate(results.trials):
        if wrong := _wrong(number, trial, space):
            raise PipelineError(f"{path}: trials[{number}]: {wrong}; {anew}")
    if results.configured not in (None, 0):
        raise PipelineError(f"{path}: configured is {results.configured}, not 0; {anew}")
    if (look := results.test) and not _is_possible(look, results.trials):
        raise PipelineError(f"{path}: test: trial {look.trial} of {look.trials} is none that has a score; {anew}")


def _is_possible(look: Look, trials: Sequence[Trial]) -> bool:
    return 0 <= look.trial < look.trials <= len(trials) and trials[look.trial].score is not None


def _wrong(number: int, trial: Trial, space: Space) -> str | None:
    """Say which field of a trial cannot be what was written, or None."""
    if trial.number != number:
        return f"number is {trial.number}"
    if outside := [key for key in space if key not in trial.settings or trial.settings[key] not in space[key]]:
        return f"settings.{outside[0]} is not in the space"
    if trial.settings.keys() != space.keys():
        return "settings have a field that is not searched"
    if not all(seeds and all(map(math.isfinite, seeds)) for seeds in trial.scores.values()):
        return "scores are not finite numbers"
    if bool(trial.scores) == (trial.reason is not None):
        return "reason is given with scores, or neither of them"
    if trial.same_as is not None and not 0 <= trial.same_as < number:
        return f"same_as is {trial.same_as}"
    return None


@dataclass(frozen=True)
class Chance:
    """What chance alone makes of scores.

    Attributes:
        deviation: standard deviation of one run's score between seeds.
        gain: by how much the best mean of that many equally good trials lies above their common one, on average.
    """

    deviation: float
    gain: float


def chance(trials: Sequence[Trial]) -> Chance | None:
    """Say how far luck with the seeds alone puts the best trial above the others; None with one seed.

    The mean of the highest of n independent normal deviates is about the quantile (n - 0.375) / (n + 0.25) (Blom 1958,
    Statistical Estimates and Transformed Beta-Variables).
    """
    from scipy.stats import norm

    scores = [trial.scores for trial in trials if trial.scores and trial.same_as is None]
    variances = [stdev(seeds) ** 2 for folds in scores for seeds in folds.values() if len(seeds) > 1]
    if not variances or len(scores) < 2:
        return None
    deviation, n = math.sqrt(fmean(variances)), len(scores)
    runs = sum(map(len, scores[0].values()))
    return Chance(deviation, deviation / math.sqrt(runs) * float(norm.ppf((n - 0.375) / (n + 0.25))))


def spread(scores: Mapping[str, Sequence[float]]) -> float | None:
    """Return the standard deviation over all runs of a trial; None of one run."""
    found = [score for seeds in scores.values() for score in seeds]
    return stdev(found) if len(found) > 1 else None
