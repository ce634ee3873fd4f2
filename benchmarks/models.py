"""What each model costs: parameters, FLOPs, training, inference and memory, on synthetic data of IEMOCAP's size.

Run `python benchmarks/models.py [--rounds N]`; it needs about 4 GB of memory and prints a Markdown table. All models
see the same dialogues in the same batches through the project's own trainer and inference, the rounds of all models
take turns, and a figure is the median of the rounds. In brackets are processor seconds, over all threads: on a busy
machine they say more than the clock. Memory is measured in a process of its own for each model.

A second table (`--table packing` gives it alone) compares layouts of the batch in training and inference: padded, and
in a row with groups of dialogues whose lengths differ by a share at most (`lpgnet.model.packing`).
"""

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Literal, NamedTuple, get_args

import numpy as np
import psutil
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lpgnet.feature_extractors import EncoderSpec
from lpgnet.model import EmotionModel
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import Config, ModelConfig, TrainingConfig
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.inference import predict_dialogues
from lpgnet.pipeline.training.dialogues import Dialogue, collate
from lpgnet.pipeline.training.labels import NO_LABEL
from lpgnet.pipeline.training.runs import LoadedCorpus, make_model
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.trainer import Trainer

Device = Literal["cpu", "cuda"]
Precision = Literal["no", "bf16", "fp16"]
DIALOGUES, UTTERANCES, LABELLED = 151, 10_039, 5_531
SIZES = {"text": (1, 768), "audio": (13, 768)}
MODELS = {
    "lpgnet": ModelConfig(),
    "sdt, d = 1024": ModelConfig(type="sdt"),
    "sdt, d = 256": ModelConfig(type="sdt", hidden_size=256),
    "text": ModelConfig(type="text"),
    "audio": ModelConfig(type="audio"),
    "concat": ModelConfig(type="concat"),
}
FULL, PARENT = "lpgnet", "sdt, d = 1024"
# Of the second table: models, dialogues a step, and `EmotionModel.spare` of each layout.
NARROW = ModelConfig(hidden_size=128)
VARIANT = ModelConfig(hidden_size=128, context_norm="layer", voice_neighbours=True, distance_bias=True, local_layers=2)
PACKED = {
    "lpgnet": ModelConfig(),
    "lpgnet, d = 128": NARROW,
    "lpgnet, d = 128, variants": VARIANT,
    "sdt, d = 256": ModelConfig(type="sdt", hidden_size=256),
    "sdt, d = 1024": ModelConfig(type="sdt"),
}
BATCH_SIZES = (4, 16)
LAYOUTS = {"padded": 1.0, "within 25 %": 0.25, "within 10 %": 0.1, "equal lengths": 0.0}
# Dialogues that a layout is measured on in a round.
SAMPLE = 32


class Seconds(NamedTuple):
    """Seconds by the clock, and processor seconds of all threads."""

    clock: float
    processor: float


@dataclass
class Cost:
    """What one model costs; the lists hold one value a round.

    Attributes:
        flops: of one utterance's inference, in a dialogue of mean length.
        step: seconds of one training step.
        epoch: seconds of one pass over the dialogues.
        inference: seconds to predict all dialogues.
        memory: bytes that training needs beyond the loaded corpus.
    """

    parameters: int
    flops: float
    step: list[Seconds]
    epoch: list[Seconds]
    inference: list[Seconds]
    memory: int = 0


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
    utterances = tuple(Utterance(f"d{index}", f"d{index}.{turn}", speaker="AB"[turn % 2]) for turn in range(length))
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


def make_trainer(
    model: ModelConfig,
    corpus: LoadedCorpus,
    folder: Path,
    device: Device,
    precision: Precision,
    batch_size: int = TrainingConfig.batch_size,
) -> Trainer:
    """Make the project's trainer on the whole corpus, without development data."""
    training = TrainingConfig(
        device=device, mixed_precision=precision, tracker="none", epochs=1000, batch_size=batch_size
    )
    config = Config(labels={c: c for c in "abcd"}, model=model, training=training)
    split = Split("none", corpus.dialogues, (), ())
    accelerator = make_accelerator(device, precision)
    return Trainer(config, split, folder, accelerator, make_model(config, corpus, split), measure_development)


def timed(work: Callable[[], object]) -> Seconds:
    """Measure the time of a call, to the end of what it started on a GPU."""
    clock, processor = perf_counter(), process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Seconds(perf_counter() - clock, process_time() - processor)


def count_flops(model: EmotionModel, corpus: LoadedCorpus, device: torch.device) -> float:
    """Count FLOPs per utterance of one forward pass; plain attention is used, as its products can be counted."""
    dialogue = min(corpus.dialogues, key=lambda d: abs(len(d) - UTTERANCES / DIALOGUES))
    batch = collate([dialogue]).to(device)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(batch.inputs, batch.masks, batch.mask, speakers=batch.speakers)
    return counter.get_total_flops() / len(dialogue)


def measure(corpus: LoadedCorpus, rounds: int, folder: Path, device: Device, precision: Precision) -> dict[str, Cost]:
    """Time every model; the rounds of all models take turns."""
    trainers = {name: make_trainer(model, corpus, folder, device, precision) for name, model in MODELS.items()}
    costs = {}
    for name, trainer in trainers.items():
        model = trainer.raw_model
        costs[name] = Cost(model.num_parameters(), count_flops(model, corpus, trainer.accelerator.device), [], [], [])
        trainer.raw_model.train()
        trainer.step(next(trainer.steps(1)))  # the first call of anything is slower
    for epoch in range(rounds):
        for name, trainer in trainers.items():
            _measure_round(trainer, costs[name], corpus, epoch)
    return costs


def _measure_round(trainer: Trainer, cost: Cost, corpus: LoadedCorpus, epoch: int) -> None:
    trainer.raw_model.train()
    steps = list(trainer.steps(epoch))
    seconds = [timed(lambda dialogues=dialogues: trainer.step(dialogues)) for dialogues in steps]  # type: ignore[misc]
    cost.step.append(seconds[0])
    cost.epoch.append(Seconds(*map(sum, zip(*seconds, strict=True))))
    cost.inference.append(timed(lambda: predict_dialogues(trainer.raw_model, corpus.dialogues)))


def print_packing(corpus: LoadedCorpus, rounds: int, folder: Path, device: Device, precision: Precision) -> None:
    """Print what each layout takes in milliseconds a step and a batch of inference; the layouts take turns."""
    print(f"\n| model | dialogues a step | {' | '.join(LAYOUTS)} | {' | '.join(f'{x}, inference' for x in LAYOUTS)} |")
    print(f"|---|{'---:|' * (1 + 2 * len(LAYOUTS))}")
    for name, model in PACKED.items():
        for batch_size in BATCH_SIZES:
            trainer = make_trainer(model, corpus, folder, device, precision, batch_size)
            steps, inference = measure_layouts(trainer, corpus, rounds)
            cells = [both(middle(seconds), 1) for seconds in (*steps.values(), *inference.values())]
            print(f"| {name} | {batch_size} | {' | '.join(cells)} |", flush=True)


def measure_layouts(
    trainer: Trainer, corpus: LoadedCorpus, rounds: int
) -> tuple[dict[str, list[Seconds]], dict[str, list[Seconds]]]:
    """Time a step and a batch of inference by layout, in milliseconds; all layouts see the same dialogues."""
    size = trainer.recipe.batch_size
    steps: dict[str, list[Seconds]] = {name: [] for name in LAYOUTS}
    inference: dict[str, list[Seconds]] = {name: [] for name in LAYOUTS}
    for number in range(rounds + 1):
        order = np.random.default_rng(number).permutation(len(corpus.dialogues))[:SAMPLE]
        batches = [[corpus.dialogues[index] for index in part] for part in np.split(order, SAMPLE // size)]
        for name, spare in LAYOUTS.items():
            trainer.raw_model.train().spare = spare
            trained = timed(lambda batches=batches: [trainer.step(batch) for batch in batches])  # type: ignore[misc]
            predicted = timed(lambda batches=batches: _infer(trainer.raw_model, batches))  # type: ignore[misc]
            if number:  # the first call of anything is slower
                steps[name].append(Seconds(*(1e3 * seconds / len(batches) for seconds in trained)))
                inference[name].append(Seconds(*(1e3 * seconds / len(batches) for seconds in predicted)))
    return steps, inference


@torch.inference_mode()
def _infer(model: EmotionModel, batches: list[list[Dialogue]]) -> None:
    model.eval()
    for dialogues in batches:
        batch = collate(dialogues).to(model.device)
        model(batch.inputs, batch.masks, batch.mask, speakers=batch.speakers).logits.cpu()


def training_memory(name: str, device: Device, precision: Precision) -> int:
    """Measure bytes that two training steps need beyond the loaded corpus; call it in a fresh process.

    They are those of the GPU where one is used.
    """
    corpus = make_corpus()
    with tempfile.TemporaryDirectory() as folder:
        before = psutil.Process().memory_info().rss
        trainer = make_trainer(MODELS[name], corpus, Path(folder), device, precision)
        trainer.raw_model.train()
        for dialogues in list(trainer.steps(1))[:2]:
            trainer.step(dialogues)
        return torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory() - before


def peak_memory() -> int:
    """Return the most memory of this process (bytes); `getrusage` would give its parent's if that is more."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def print_table(costs: dict[str, Cost]) -> None:
    """Print the table in Markdown, and the ratios to the parent model."""
    columns = ("model", "parameters", "MFLOP / utterance", "training step (s)", "epoch (s)", "inference (utterances/s)")
    print(f"| {' | '.join(columns)} | training memory (MB) |\n|---|{'---:|' * len(columns)}")
    for name, cost in costs.items():
        speed = Seconds(*(UTTERANCES / seconds for seconds in middle(cost.inference)))
        print(
            f"| {name} | {cost.parameters:,} | {cost.flops / 1e6:.2f} | {both(middle(cost.step), 3)} "
            f"| {both(middle(cost.epoch), 2)} | {both(speed, 0)} | {cost.memory / 1e6:,.0f} |"
        )
    ours, parent = costs[FULL], costs[PARENT]
    ratios = [
        Seconds(*(theirs / own for theirs, own in zip(*pair, strict=True)))
        for pair in zip(parent.epoch, ours.epoch, strict=True)
    ]
    print(
        f"\nlpgnet against {PARENT}: {parent.parameters / ours.parameters:.1f} x fewer parameters, "
        f"{parent.flops / ours.flops:.1f} x fewer FLOPs, {both(middle(ratios), 1)} x faster training steps"
    )


def middle(values: list[Seconds]) -> Seconds:
    """Return the median by the clock and that by the processor."""
    return Seconds(*map(median, zip(*values, strict=True)))


def both(values: Seconds, digits: int) -> str:
    """Format the figure by the clock, that by the processor in brackets."""
    return f"{values.clock:,.{digits}f} ({values.processor:,.{digits}f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of every model")
    parser.add_argument("--device", choices=get_args(Device), default="cpu", help="where the models run")
    parser.add_argument("--mixed_precision", choices=get_args(Precision), default="no", help="of training")
    parser.add_argument("--table", choices=("all", "packing"), default="all", help="packing: the second table alone")
    options = parser.parse_args()
    rounds, device, precision = options.rounds, options.device, options.mixed_precision
    load = os.getloadavg()[0]
    corpus = make_corpus()
    lengths = [len(dialogue) for dialogue in corpus.dialogues]
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    print(
        f"{where}, mixed precision {precision}, torch {torch.__version__}, load before: {load:.1f}; "
        f"dialogues of {min(lengths)} to {max(lengths)} utterances; median of {rounds} rounds\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        if options.table == "all":
            print_models(corpus, rounds, Path(folder), device, precision)
        print_packing(corpus, rounds, Path(folder), device, precision)


def print_models(corpus: LoadedCorpus, rounds: int, folder: Path, device: Device, precision: Precision) -> None:
    """Measure every model, and print the first table."""
    costs = measure(corpus, rounds, folder, device, precision)
    spawn = multiprocessing.get_context("spawn")
    for name in MODELS:
        with spawn.Pool(1) as pool:
            costs[name] = replace(costs[name], memory=pool.apply(training_memory, (name, device, precision)))
    print_table(costs)


if __name__ == "__main__":
    main()
