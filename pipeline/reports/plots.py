"""Plots of training and what it chose, classes, calibration, missing modalities, and ratings against predictions."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from lpgnet.pipeline.evaluation.calibration import Calibration
from lpgnet.pipeline.evaluation.chosen_epochs import ChosenEpoch
from lpgnet.pipeline.evaluation.class_shares import ClassShare
from lpgnet.pipeline.evaluation.dimensions import DimensionScores, is_rated
from lpgnet.pipeline.evaluation.predictions import Outcome
from lpgnet.pipeline.reports.cells import with_interval
from lpgnet.pipeline.searching.space import Choices, Interval, Space, shown_value
from lpgnet.pipeline.searching.trials import SearchResults
from lpgnet.pipeline.training.checkpoints import EpochLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Panels of fields beside each other.
PANELS = 3
# More points than this would hide each other; a fixed sample of them is drawn.
MOST_POINTS = 3000


def plot_training(log: Sequence[EpochLog], path: Path, *, chosen_by: str, best_epoch: int) -> None:
    """Draw the loss and the development scores by epoch, with the chosen epoch marked.

    Args:
        log: of all epochs.
        path: of the image.
        chosen_by: the development score that the epoch was chosen by.
        best_epoch: the chosen one.
    """
    epochs = [entry.epoch for entry in log]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(epochs, [entry.loss for entry in log], color="tab:gray", label="training, all heads")
    left.set(xlabel="epoch", ylabel="training loss")
    names = [name for name in dict.fromkeys(("weighted_f1", "ua", chosen_by)) if all(name in one.dev for one in log)]
    scores = {name: [entry.dev[name] for entry in log] for name in names}
    if "loss" in scores:
        # Different quantities: they are not to be compared.
        left.plot(epochs, scores.pop("loss"), label="development, fused head alone")
        left.set(ylabel="loss")
        left.legend()
    for (name, values), style in zip(scores.items(), ("-", "--", "-."), strict=False):
        right.plot(epochs, values, style, label=name.replace("_", " "))
    right.axvline(best_epoch, color="tab:red", linewidth=1, label=f"chosen: epoch {best_epoch}")
    right.set(xlabel="epoch", ylabel="development score", ylim=(min([0, *map(min, scores.values())]), 1))
    right.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_confusion(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path | BinaryIO, *, title: str
) -> None:
    """Draw a confusion matrix (C, C), colored by the share of the true class, with the count in each cell."""
    rows = [[count / max(sum(row), 1) for count in row] for row in confusion]
    size = 1.6 + 0.7 * len(classes)
    figure, axes = plt.subplots(figsize=(size + 1, size), layout="constrained")
    image = axes.imshow(rows, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            color = "white" if rows[i][j] > 0.5 else "black"
            axes.text(j, i, f"{count}\n{rows[i][j]:.0%}", ha="center", va="center", color=color, fontsize=9)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_class_shares(
    shares: Mapping[str, ClassShare], folds: Sequence[Mapping[str, ClassShare]], path: Path | BinaryIO, *, title: str
) -> None:
    """Draw how often each class is true and predicted, as bars, and each fold's shares, as points on them."""
    figure, axes = plt.subplots(figsize=(1.8 + 1.1 * len(shares), 3.6), layout="constrained")
    for offset, kind, color in ((-0.2, "true", "tab:gray"), (0.2, "predicted", "tab:blue")):
        places = [index + offset for index in range(len(shares))]
        axes.bar(places, [getattr(share, kind) for share in shares.values()], 0.36, color=color, label=kind)
        for fold in folds if len(folds) > 1 else ():
            axes.plot(places, [getattr(share, kind) for share in fold.values()], "o", color="black", markersize=3)
    for index, share in enumerate(shares.values()):
        if share.is_far:
            mark = "▼" if share.predicted < share.true else "▲"
            axes.text(index + 0.2, share.predicted, mark, ha="center", va="bottom", color="tab:red")
    axes.set(ylabel="share of the utterances", title=title, ylim=(0, axes.get_ylim()[1] * 1.06))
    axes.set_xticks(range(len(shares)), shares)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_epochs(runs: Mapping[str, Sequence[ChosenEpoch]], path: Path | BinaryIO, *, score: str) -> None:
    """Draw the test score of each run against its development score, both of the chosen epoch."""
    figure, axes = plt.subplots(figsize=(5.2, 4.4), layout="constrained")
    for (name, chosen), marker in zip(runs.items(), cycle("osD^v*"), strict=False):
        points = [(one.development, one.test) for one in chosen if one.test is not None]
        axes.plot(*zip(*points, strict=True), marker, markersize=5, alpha=0.7, label=name)
    low = min(axes.get_xlim()[0], axes.get_ylim()[0])
    high = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot((low, high), (low, high), ":", color="black", linewidth=1, label="alike")
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=f"{score}, development dialogues", ylabel=f"{score}, test split")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_reliability(calibration: Calibration, path: Path | BinaryIO) -> None:
    """Draw accuracy against confidence before and after calibration, and the number of utterances per bin."""
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(4.2, 5), sharex=True, height_ratios=[3, 1], layout="constrained"
    )
    upper.plot([0, 1], [0, 1], ":", color="tab:gray", label="perfect calibration")
    for when, style in (("before", "o--"), ("after", "s-")):
        bins = getattr(calibration, when)
        filled = [index for index, count in enumerate(bins.counts) if count]
        confidence = [bins.confidences[index] / bins.counts[index] for index in filled]
        accuracy = [bins.hits[index] / bins.counts[index] for index in filled]
        upper.plot(confidence, accuracy, style, markersize=4, label=f"{when} calibration: ECE {bins.ece:.3f}")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left", fontsize=8)
    counts = calibration.after.counts
    lower.bar([(index + 0.5) / len(counts) for index in range(len(counts))], counts, width=0.8 / len(counts))
    lower.set(xlabel="confidence", ylabel="utterances")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_missing(curves: dict[str, dict[str, list[tuple[float, float]]]], path: Path | BinaryIO) -> None:
    """Draw accuracy by the share of utterances that lack a modality, with a panel per modality and a line per model."""
    modalities = list(next(iter(curves.values())))
    figure, panels = plt.subplots(
        1, len(modalities), figsize=(3.6 * len(modalities), 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, modality in zip(panels[0], modalities, strict=True):
        for (name, points_by_modality), marker in zip(curves.items(), cycle("osD^v*"), strict=False):
            shares, accuracies = zip(*points_by_modality[modality], strict=True)
            panel.plot(shares, accuracies, f"{marker}-", markersize=4, label=name)
        panel.set(xlabel=f"share of utterances without {modality}", ylim=(0, 1))
    panels[0][0].set(ylabel="accuracy")
    if len(curves) > 1:
        panels[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_ratings(outcomes: Iterable[Outcome], name: str, scores: DimensionScores, path: Path | BinaryIO) -> None:
    """Draw a dimension's predictions against its ratings, in the corpus's own units and over its range.

    Args:
        outcomes: of one run or several; of many, a fixed sample is drawn.
        name: of the dimension.
        scores: of these outcomes.
        path: of the image.
    """
    known = (one.prediction for one in outcomes if is_rated(one.prediction, name))
    points = [(one.ratings[name], one.dimensions[name]) for one in known]
    drawn = points if len(points) <= MOST_POINTS else random.Random(0).sample(points, MOST_POINTS)
    limits, margin = (scores.low, scores.high), 0.04 * (scores.high - scores.low)
    figure, axes = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
    # The more points, the paler each: where they lie on each other, the color shows how many there are.
    axes.plot(*zip(*drawn, strict=True), "o", markersize=4, markeredgewidth=0, alpha=min(0.6, 6 / len(drawn) ** 0.5))
    axes.plot(limits, limits, ":", color="black", linewidth=1, label="predicted as rated")
    axes.set(xlabel=f"{name}, rated", ylabel=f"{name}, predicted", aspect="equal")
    ends = (scores.low - margin, scores.high + margin)
    axes.set(xlim=ends, ylim=ends, title=f"{name}: CCC {with_interval(scores, 'ccc')}")
    axes.set_yticks([tick for tick in axes.get_xticks() if scores.low <= tick <= scores.high])
    axes.legend(loc="upper left", fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_trials(results: SearchResults, path: Path | BinaryIO, *, score: str) -> None:
    """Draw the score of each trial in the order in which they were tried, and the best one so far.

    Args:
        results: with a trial that has a score.
        path: of the image.
        score: what its axis is called.
    """
    points = [(trial.number, trial.score) for trial in results.trials if trial.score is not None]
    numbers, scores = zip(*points, strict=True)
    better = min if results.lower_is_better else max
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    axes.plot(numbers, scores, "o", markersize=4, label="trial")
    axes.step(
        numbers, list(accumulate(scores, better)), where="post", color="tab:red", linewidth=1, label="best so far"
    )
    if results.test is not None and results.test.trials <= numbers[-1]:
        axes.axvline(results.test.trials - 0.5, color="black", linestyle=":", linewidth=1, label="test looked at")
    axes.set(xlabel="trial", ylabel=score)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_fields(results: SearchResults, space: Space, path: Path | BinaryIO, *, score: str) -> None:
    """Draw the score of each trial against the value of each field, in a panel per field, the best trial marked.

    Args:
        results: with a trial that has a score.
        space: that was searched.
        path: of the image.
        score: what the axis of the scores is called.
    """
    rows = -(-len(space) // PANELS)
    columns = min(PANELS, len(space))
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.4 * columns, 2.8 * rows), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, (key, allowed) in zip(panels.flat, space.items(), strict=False):
        points = [(_position(t.settings[key], allowed), t.score) for t in results.ranked()]
        panel.plot(*zip(*points, strict=True), "o", markersize=4, alpha=0.6)
        panel.plot(*points[0], "*", color="tab:red", markersize=11)
        _set_axis(panel, key, allowed)
    for panel in panels.flat[len(space) :]:
        panel.set_visible(False)
    for line in panels:
        line[0].set(ylabel=score)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _position(value: object, allowed: Choices | Interval) -> Any:
    """Where a value is on its axis: a number, or its place among the choices."""
    return allowed.index(value) if isinstance(allowed, Choices) else value


def _set_axis(panel: Axes, key: str, allowed: Choices | Interval) -> None:
    panel.set(xlabel=key)
    if isinstance(allowed, Interval):
        panel.set_xscale("log" if allowed.log else "linear")
        return
    panel.set_xticks(range(len(allowed.values)), list(map(shown_value, allowed.values)))
    panel.tick_params(axis="x", rotation=30 if len(allowed.values) > 4 else 0)
    panel.set_xlim(-0.5, len(allowed.values) - 0.5)
