"""Which voices are one speaker's: by one method, the same each time, whether the number is known or not."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from lpgnet.pipeline.recordings.diarizers.base import SpeakerCount

# Two groups are two speakers if voices of one and the other are less alike than this share of how alike voices of one
# group are. The two of the telephone conversation have 0.68, and one of them, cut in two, 0.76; what a synthesizer
# varies of one voice has up to 0.95, and is not told apart by itself.
SAME_SPEAKER = 0.75
# How alike three seconds each of one speaker are (0.83 to 0.87 in the telephone conversation), for groups of one piece,
# in which there is no pair to tell it by.
WITHIN = 0.85
# Where nobody says how many there are: no more than these, each of whom speaks for so long (seconds, or a share of
# the speech where that is less).
MOST_SPEAKERS, LEAST_SECONDS, LEAST_SHARE = 20, 2.0, 0.15
# Pieces of speech that are clustered, which takes memory by their square; the others go to the nearest speaker.
MOST_PIECES = 4000


def group_voices(voices: np.ndarray, seconds: np.ndarray, count: SpeakerCount) -> np.ndarray:
    """Group pieces of speech by their speakers: Ward's method on the unit sphere, cut at a number of groups.

    Where the number is not given, it is the largest for which all groups are different speakers.

    Args:
        voices: `(n, width)`, one embedding a piece, n > 0.
        seconds: `(n,)`, how long the pieces are.
        count: how many speakers there are, as far as somebody knows.

    Returns:
        `(n,)` the speaker of each piece, from 0 on.
    """
    voices = voices / np.linalg.norm(voices, axis=1, keepdims=True)
    chosen = np.arange(len(voices))
    if len(voices) > MOST_PIECES:
        # At random, but the same ones each time: every n-th would miss who speaks every other n-th time.
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MOST_PIECES, replace=False))
    labels = _grouped(voices[chosen], seconds[chosen], count)
    means = mean_voices(voices[chosen], seconds[chosen], labels)
    everybody = nearest(voices, means)
    everybody[chosen] = labels
    return everybody


def _grouped(voices: np.ndarray, seconds: np.ndarray, count: SpeakerCount) -> np.ndarray:
    least, most = count.bounds(len(voices))
    if most == 1:
        return np.zeros(len(voices), int)
    tree = linkage(voices, "ward")
    numbers = range(most, least, -1) if count.most else range(min(most, max(least, MOST_SPEAKERS)), least, -1)
    cuts = (_cut(tree, number) for number in numbers)
    return next((labels for labels in cuts if are_different(voices, seconds, labels)), _cut(tree, least))


def _cut(tree: np.ndarray, number: int) -> np.ndarray:
    return np.asarray(fcluster(tree, number, "maxclust") - 1, int)


def are_different(voices: np.ndarray, seconds: np.ndarray, labels: np.ndarray) -> bool:
    """Say whether all groups are different speakers, of whom each speaks for long enough.

    How alike two groups are is the mean over pairs of pieces, over the same mean within the groups: a mean over a
    group of few pieces is noisy, and this quotient, other than the cosine of two means, does not fall with the noise.

    Args:
        voices: `(n, width)` of length 1.
        seconds: `(n,)`, the weights.
        labels: `(n,)`, the group of each, from 0 on.
    """
    member = np.eye(labels.max() + 1)[labels] * seconds[:, None]  # (n, groups)
    spoken = member.sum(0)
    if spoken.min() < min(LEAST_SECONDS, LEAST_SHARE * spoken.sum()):
        return False
    sums = member.T @ voices  # (groups, width)
    # A piece is no pair with itself.
    itself = np.diag((member**2).sum(0))
    similarity, pairs = sums @ sums.T - itself, np.outer(spoken, spoken) - itself
    means = np.divide(similarity, pairs, out=np.full_like(pairs, WITHIN), where=pairs > 0)
    within = np.diag(means).clip(1e-3)
    between = means / np.sqrt(np.outer(within, within))
    return bool(between[~np.eye(len(between), dtype=bool)].max(initial=-1.0) < SAME_SPEAKER)


def mean_voices(voices: np.ndarray, seconds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean voice `(groups, width)` of each group, weighted by the seconds."""
    sums = (np.eye(labels.max() + 1)[labels] * seconds[:, None]).T @ voices
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True))


def nearest(voices: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The group `(n,)` whose mean voice is most like each of the voices `(n, width)`."""
    return np.asarray((voices @ means.T).argmax(1))
