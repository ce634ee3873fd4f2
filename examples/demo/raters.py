"""Made-up raters of the demo: each names a feeling and rates valence, arousal and dominance, and each errs."""

from collections import Counter
from dataclasses import dataclass

import language
import numpy as np
from speech import Manner, Vector, impression

RATERS = 5  # each hears every utterance
SCALE = (1, 5)  # lowest and highest rating
DIMENSIONS = ("valence", "arousal", "dominance")
# The probability that a rater names another feeling than the label's, by where the feeling shows.
MISHEARD = {"voice": 0.25, "words": 0.25, "both": 0.1}

_STRENGTH = 0.6  # of what voice and words tell together: where both show a feeling it is twice as strong
_NEARNESS = 0.4  # another feeling is named e times less often for each such distance in valence and arousal
_SPREAD = 0.7  # standard deviation of a rater's rating, before it is rounded to a whole number


@dataclass(frozen=True)
class Opinion:
    """What all raters said of one utterance.

    Attributes:
        votes: raters by the feeling they named.
        ratings: the raters' mean by dimension, on the scale.
    """

    votes: Counter[str]
    ratings: dict[str, float]


def truth(words: str, manner: Manner) -> Vector:
    """Return the true valence, arousal and dominance on the scale: what the words tell, and the manner as spoken.

    Args:
        words: the feeling that the words tell, or "plain".
        manner: how they were spoken.
    """
    told = _STRENGTH * (language.impression(words) + impression(manner))
    low, high = SCALE
    return np.clip((low + high) / 2 + told * (high - low) / 2, low, high)


def ask(label: str, cue: str, true: Vector, rng: np.random.Generator) -> Opinion:
    """Let every rater hear an utterance; `true` is as `truth` gives it."""
    names = [label if rng.random() >= MISHEARD[cue] else _another(label, true, rng) for _ in range(RATERS)]
    noisy = true + rng.normal(0, _SPREAD, (RATERS, len(DIMENSIONS)))
    means = np.clip(np.round(noisy), *SCALE).mean(axis=0)
    return Opinion(Counter(names), dict(zip(DIMENSIONS, map(float, means), strict=True)))


def _another(label: str, true: Vector, rng: np.random.Generator) -> str:
    """Name another feeling, those near the utterance in valence and arousal more often."""
    others = [name for name in language.LABELS if name != label]
    far = np.array([np.linalg.norm((_place(name) - true)[:2]) for name in others])
    weights = np.exp(-far / (_NEARNESS * (SCALE[1] - SCALE[0]) / 2))
    return str(rng.choice(others, p=weights / weights.sum()))


def _place(feeling: str) -> Vector:
    """Return a feeling's own place on the scale."""
    low, high = SCALE
    return (low + high) / 2 + language.impression(feeling) * (high - low) / 2
