"""Which settings to try next: Optuna's sampler, asked so that the same answers lead to the same questions."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lpgnet.pipeline.errors import MissingExtraError
from lpgnet.pipeline.searching.space import Choices, Interval, Settings, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

EXTRA = "search"


def check_installed() -> None:
    """Refuse to search without Optuna.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import optuna  # noqa: F401 (it is there or not)
    except ImportError:
        raise MissingExtraError(f"lpgnet search needs the extra '{EXTRA}': pip install 'lpgnet[{EXTRA}]'") from None


def sampler_name() -> str:
    """Name the sampler and its version, another one of which may choose other settings."""
    import optuna

    return f"Optuna {optuna.__version__}, TPE"


class Proposals:
    """Asks for settings and is told their scores, by the trials' numbers.

    The study is in memory: what was tried is in `results.json`, from which it is told again. A sampler is made anew
    for each trial and seeded by its number, so that a search that was stopped goes on as if it had not been. TPE
    (Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization) takes trials without a score for bad ones
    ("constant liar"), so that those that run at once differ.

    Args:
        space: to choose from.
        seed: of the whole search.
        minimize: whether lower scores are better.
    """

    def __init__(self, space: Space, *, seed: int, minimize: bool) -> None:
        import optuna

        self._space, self._seed = space, seed
        self._distributions = {key: _distribution(one) for key, one in space.items()}
        with _quiet():
            self._study = optuna.create_study(direction="minimize" if minimize else "maximize")

    def ask(self, number: int, fixed: Settings | None = None) -> Settings:
        """Return the settings of the next trial: those that are given, or the sampler's choice."""
        from optuna.samplers import TPESampler

        with _quiet():
            if fixed is not None:
                self._study.enqueue_trial({key: _coded(self._space[key], value) for key, value in fixed.items()})
            self._study.sampler = TPESampler(seed=_seed_of(self._seed, number))
            trial = self._study.ask(self._distributions)
        return {key: _decoded(self._space[key], trial.params[key]) for key in self._space}

    def tell(self, number: int, score: float | None) -> None:
        """Tell the score of a trial; None where it has none, which teaches the sampler nothing."""
        from optuna.trial import TrialState

        with _quiet():
            self._study.tell(number, score, state=TrialState.FAIL if score is None else None)


def _distribution(one: Choices | Interval) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(one, Choices):
        return CategoricalDistribution([json.dumps(value) for value in one.values])
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=one.step)
    return FloatDistribution(one.low, one.high, log=one.log)


def _coded(one: Choices | Interval, value: Any) -> Any:
    """A value as Optuna has it: of a list as JSON, since it takes no lists as choices."""
    return json.dumps(value) if isinstance(one, Choices) else value


def _decoded(one: Choices | Interval, value: Any) -> Any:
    return json.loads(value) if isinstance(one, Choices) else value


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's own messages away: what was tried is told here."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
