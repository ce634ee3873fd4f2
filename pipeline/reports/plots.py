"""Plots: the course of a training and confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def plot_training(log: Sequence[dict[str, Any]], path: Path, *, best_epoch: int) -> None:
    """Draw the loss and the development scores by epoch, with the chosen epoch marked."""
    epochs = [entry["epoch"] for entry in log]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(epochs, [entry["loss"] for entry in log], color="tab:gray")
    left.set(xlabel="epoch", ylabel="training loss")
    for name, style in (("weighted_f1", "-"), ("ua", "--")):
        right.plot(epochs, [entry["dev"][name] for entry in log], style, label=name.replace("_", " "))
    right.axvline(best_epoch, color="tab:red", linewidth=1, label=f"chosen: epoch {best_epoch}")
    right.set(xlabel="epoch", ylabel="development score", ylim=(0, 1))
    right.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path, *, title: str) -> None:
    """Draw a confusion matrix (C, C): colour by the share of the true class, the count in each cell."""
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
