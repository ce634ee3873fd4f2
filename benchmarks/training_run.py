"""One run of a table, trained and measured as `crossval` does it, on synthetic data of IEMOCAP's size.

`models.py` starts it, also with the code of earlier commits: so it uses nothing that they lack. It is given the recipe
and prints what the run took, both as JSON.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
import torch

from lpgnet.feature_extractors import EncoderSpec
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import Config, ModelConfig, TrainingConfig
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.run_results import evaluate_run
from lpgnet.pipeline.reports.run import write_run_report, write_training_plot
from lpgnet.pipeline.training import trainer as training
from lpgnet.pipeline.training.dialogues import NO_LABEL, Dialogue
from lpgnet.pipeline.training.runs import LoadedCorpus
from lpgnet.pipeline.training.splits import Split

DIALOGUES, UTTERANCES, LABELLED = 151, 10_039, 5_531
SIZES = {"text": (1, 768), "audio": (13, 768)}
# How many are measured, after the first.
EPOCHS = 2


class Seconds(NamedTuple):
    """Seconds by the clock, and processor seconds of all threads."""

    clock: float
    processor: float


@dataclass(frozen=True)
class Recipe:
    """How the runs of a table are trained; `earlier` tells whether earlier code knows the model."""

    epochs: int
    batch_size: int
    model: dict[str, Any] = field(default_factory=dict)
    contrast: float = 0.0
    earlier: bool = False


def make_corpus() -> LoadedCorpus:
    """Make random dialogues whose lengths vary as IEMOCAP's do: of 24 to 110 utterances, 66 in the mean."""
    rng = np.random.default_rng(0)
    weights = rng.triangular(24, 66, 110, size=DIALOGUES)
    bounds = np.rint(np.concatenate([[0], weights.cumsum()]) / weights.sum() * UTTERANCES).astype(int)
    labels = np.full(UTTERANCES, NO_LABEL)
    labels[rng.permutation(UTTERANCES)[:LABELLED]] = rng.integers(0, 4, LABELLED)
    values = {
        name: torch.from_numpy(rng.standard_normal((UTTERANCES, *size), np.float32)) for name, size in SIZES.items()
    }
    dialogues = [
        _dialogue(index, slice(start, stop), labels, values) for index, (start, stop) in enumerate(pairwise(bounds))
    ]
    specs = {name: EncoderSpec(name, name, "all", "mean", "fp32", None, None, False, name) for name in SIZES}
    return LoadedCorpus(tuple(dialogues), specs, "synthetic")


def _dialogue(index: int, rows: slice, labels: np.ndarray, values: dict[str, torch.Tensor]) -> Dialogue:
    length = rows.stop - rows.start
    session = f"s{index * 5 // DIALOGUES}"
    utterances = tuple(
        Utterance(f"d{index}", f"d{index}.{turn}", speaker=f"{session}{'AB'[turn % 2]}", session=session)
        for turn in range(length)
    )
    return Dialogue(
        dialogue_id=f"d{index}",
        utterances=utterances,
        inputs={name: rows_of[rows] for name, rows_of in values.items()},
        present={name: torch.ones(length, dtype=torch.bool) for name in values},
        labels=torch.from_numpy(labels[rows]),
        speakers=torch.arange(length) % 2,
        votes=torch.zeros(length, 4),
        ratings={},
    )


def timed(work: Callable[[], object]) -> Seconds:
    """Measure the time of a call, to the end of what it started on a GPU."""
    clock, processor = perf_counter(), process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Seconds(perf_counter() - clock, process_time() - processor)


def run_once(recipe: Recipe) -> dict[str, Seconds]:
    """Train a run of a few epochs and measure it, as `crossval` does: seconds of an epoch, and besides all epochs."""
    corpus = make_corpus()
    split, config = make_split(corpus), make_config(recipe)
    epochs: list[Seconds] = []
    whole, save = training.Trainer._epoch, training.save_checkpoint

    def epoch(trainer: training.Trainer) -> Any:
        done: list[Any] = []
        epochs.append(timed(lambda: done.append(whole(trainer))))
        return done[0]

    def checkpoint(*arguments: Any) -> None:
        epochs[-1] = Seconds(*map(sum, zip(epochs[-1], timed(lambda: save(*arguments)), strict=True)))

    training.Trainer._epoch, training.save_checkpoint = epoch, checkpoint  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        every = timed(lambda: train_and_measure(config, corpus, split, Path(folder) / "run"))
    later = epochs[1:]
    of_epoch = Seconds(*(sum(values) / len(later) for values in zip(*later, strict=True)))
    in_epochs = map(sum, zip(*epochs, strict=True))
    return {"epoch": of_epoch, "besides": Seconds(*(a - b for a, b in zip(every, in_epochs, strict=True)))}


def train_and_measure(config: Config, corpus: LoadedCorpus, split: Split, folder: Path) -> None:
    """Do what `crossval` does with a run."""
    accelerator = make_accelerator("cpu", "no")
    training.train_run(config, corpus, split, folder, accelerator, measure_development)
    results, _ = evaluate_run(config, corpus, split, folder, accelerator)
    write_training_plot(folder)
    write_run_report(results, folder, config)


def make_config(recipe: Recipe) -> Config:
    """Make the configuration of a run that is stopped after the epochs that are measured."""
    further: dict[str, Any] = {"contrast": recipe.contrast} if recipe.contrast else {}
    how = TrainingConfig(device="cpu", tracker="none", epochs=1 + EPOCHS, batch_size=recipe.batch_size, **further)
    return Config(labels={c: c for c in "abcd"}, model=ModelConfig(**recipe.model), training=how)


def make_split(corpus: LoadedCorpus) -> Split:
    """Hold out the last session; an eighth of the other dialogues is for development."""
    sessions = [dialogue.utterances[0].session for dialogue in corpus.dialogues]
    rest = [d for d, session in zip(corpus.dialogues, sessions, strict=True) if session != sessions[-1]]
    test = tuple(corpus.dialogues[len(rest) :])
    return Split(str(sessions[-1]), tuple(d for i, d in enumerate(rest) if i % 8), tuple(rest[::8]), test)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(run_once(Recipe(**json.loads(sys.argv[1])))))
