"""What each model costs, and how many runs of a table an hour has, on synthetic data of IEMOCAP's size.

Run `python benchmarks/models.py --write`; it takes about five minutes on two idle cores and 4 GB of memory, and puts
three tables into docs/benchmarks.md. In brackets are processor seconds, over all threads: on a busy machine they say
more than the clock.

**Models**: parameters, FLOPs, training, inference and memory. All models see the same dialogues in the same batches
through the project's own trainer and inference, the rounds of all models take turns, and a figure is the median of the
rounds. Memory is measured in a process of its own for each model.

**Layouts** of the batch in training and inference: padded, and in a row with groups of dialogues whose lengths differ
by a share at most (`lpgnet.model.packing`).

**Runs of a table**, trained and measured as `crossval` does it, with a run on each core at once (four at most): a few
epochs of each are measured, with the development scores and the checkpoint after each, and what a run takes besides
them; a run and runs an hour are estimated from both. The same is done in the code of earlier commits, in turns.
"""

import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal, cast, get_args

import numpy as np
import psutil
import yaml
from page import ROOT, make_parser, publish
from processes import in_a_process, memory, peak_memory

# isort: split
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from training_run import DIALOGUES, UTTERANCES, Recipe, Seconds, make_corpus, timed

from lpgnet.model import EmotionModel
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import Config, ModelConfig, TrainingConfig
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.inference import predict_dialogues
from lpgnet.pipeline.training.dialogues import Dialogue, collate, collate_for
from lpgnet.pipeline.training.runs import LoadedCorpus, make_model
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.trainer import Trainer

Device = Literal["cpu", "cuda"]
Precision = Literal["no", "bf16", "fp16"]
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
}
BATCH_SIZES = (4, 16)
LAYOUTS = {"padded": 1.0, "within 25 %": 0.25, "within 10 %": 0.1, "equal lengths": 0.0}
# Dialogues that a model, and a layout, is measured on in a round.
SAMPLE, SAMPLE_OF_LAYOUTS = 32, 16
# Codes that runs of a table are measured in: before batches lay in a row, when they did, and this one.
CODES = {"be7acfa": "be7acfa, padded batches", "57313fa": "57313fa, batches in a row", "": "this code"}
AT_ONCE = min(4, len(psutil.Process().cpu_affinity()))


def recipes() -> dict[str, Recipe]:
    """The recipe of earlier commits, the default, and the preset."""
    preset = yaml.safe_load((ROOT / "configs" / "presets" / "lpgnet-plus.yaml").read_text())
    default = {"epochs": TrainingConfig.epochs, "batch_size": TrainingConfig.batch_size}
    return {
        "lpgnet, 40 epochs of 16 dialogues a step": Recipe(40, 16, earlier=True),
        "lpgnet, the default recipe": Recipe(**default),
        "the preset lpgnet-plus": Recipe(**default, model=preset["model"], **preset["training"]),
    }


@dataclass
class Cost:
    """What one model costs; the lists hold one value a round.

    Attributes:
        flops: of one utterance's inference, in a dialogue of mean length.
        step: seconds of one training step of 16 dialogues.
        inference: seconds to predict an utterance.
        memory: bytes that training needs beyond the loaded corpus.
    """

    parameters: int
    flops: float
    step: list[Seconds]
    inference: list[Seconds]
    memory: int = 0


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


def count_flops(model: EmotionModel, corpus: LoadedCorpus, device: torch.device) -> float:
    """Count FLOPs per utterance of one forward pass; plain attention is used, as its products can be counted."""
    dialogue = min(corpus.dialogues, key=lambda d: abs(len(d) - UTTERANCES / DIALOGUES))
    batch = collate([dialogue]).to(device)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(batch.inputs, batch.masks, batch.mask, speakers=batch.speakers)
    return counter.get_total_flops() / len(dialogue)


def measure(corpus: LoadedCorpus, rounds: int, folder: Path, device: Device, precision: Precision) -> dict[str, Cost]:
    """Time every model; the rounds of all models take turns."""
    trainers = {name: make_trainer(model, corpus, folder, device, precision, 16) for name, model in MODELS.items()}
    costs = {}
    for name, trainer in trainers.items():
        model = trainer.raw_model
        costs[name] = Cost(model.num_parameters(), count_flops(model, corpus, trainer.accelerator.device), [], [])
        trainer.raw_model.train()
        trainer.step(next(trainer.steps(1)))  # the first call of anything is slower
    for number in range(rounds):
        for name, trainer in trainers.items():
            _measure_round(trainer, costs[name], corpus, number)
    return costs


def _measure_round(trainer: Trainer, cost: Cost, corpus: LoadedCorpus, number: int) -> None:
    order = np.random.default_rng(number).permutation(DIALOGUES)[:SAMPLE]
    dialogues = [corpus.dialogues[index] for index in order]
    trainer.raw_model.train()
    cost.step += [timed(lambda part=part: trainer.step(part)) for part in (dialogues[:16], dialogues[16:])]  # type: ignore[misc]
    predicted = timed(lambda: predict_dialogues(trainer.raw_model, dialogues))
    cost.inference.append(Seconds(*(seconds / sum(map(len, dialogues)) for seconds in predicted)))


def packing_table(
    corpus: LoadedCorpus, rounds: int, folder: Path, device: Device, precision: Precision
) -> Iterator[str]:
    """Yield what each layout takes in milliseconds a step and a batch of inference; the layouts take turns."""
    yield f"| model | dialogues a step | {' | '.join(LAYOUTS)} | {' | '.join(f'{x}, inference' for x in LAYOUTS)} |"
    yield f"|---|{'---:|' * (1 + 2 * len(LAYOUTS))}"
    for name, model in PACKED.items():
        for batch_size in BATCH_SIZES:
            trainer = make_trainer(model, corpus, folder, device, precision, batch_size)
            steps, inference = measure_layouts(trainer, corpus, rounds)
            cells = [both(middle(seconds), 1) for seconds in (*steps.values(), *inference.values())]
            yield f"| {name} | {batch_size} | {' | '.join(cells)} |"


def measure_layouts(
    trainer: Trainer, corpus: LoadedCorpus, rounds: int
) -> tuple[dict[str, list[Seconds]], dict[str, list[Seconds]]]:
    """Time a step and a batch of inference by layout, in milliseconds; all layouts see the same dialogues."""
    size = trainer.recipe.batch_size
    steps: dict[str, list[Seconds]] = {name: [] for name in LAYOUTS}
    inference: dict[str, list[Seconds]] = {name: [] for name in LAYOUTS}
    for number in range(rounds + 1):
        order = np.random.default_rng(number).permutation(len(corpus.dialogues))[:SAMPLE_OF_LAYOUTS]
        parts = np.split(order, SAMPLE_OF_LAYOUTS // size)
        batches = [[corpus.dialogues[index] for index in part] for part in parts]
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
        batch = collate_for(dialogues, model.device)
        model(batch.inputs, batch.masks, batch.mask, speakers=batch.speakers).logits.cpu()


def training_memory(name: str, device: Device, precision: Precision) -> float:
    """Measure the MB that two training steps need beyond the loaded corpus; call it in a fresh process.

    They are those of the GPU where one is used.
    """
    corpus = make_corpus()
    with tempfile.TemporaryDirectory() as folder:
        before = memory()
        trainer = make_trainer(MODELS[name], corpus, Path(folder), device, precision)
        trainer.raw_model.train()
        for dialogues in list(trainer.steps(1))[:2]:
            trainer.step(dialogues)
        return torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else peak_memory() - before


def models_table(
    corpus: LoadedCorpus, rounds: int, folder: Path, device: Device, precision: Precision
) -> Iterator[str]:
    """Yield what every model costs, and the ratios to the parent model."""
    costs = measure(corpus, rounds, folder, device, precision)
    memory = measure_memory(device, precision)
    columns = ("model", "parameters", "MFLOP / utterance", "step of 16 dialogues (s)", "inference (utterances/s)")
    yield f"| {' | '.join(columns)} | training memory (MB) |"
    yield f"|---|{'---:|' * len(columns)}"
    for name, cost in costs.items():
        speed = Seconds(*(1 / seconds for seconds in middle(cost.inference)))
        yield (
            f"| {name} | {cost.parameters:,} | {cost.flops / 1e6:.2f} | {both(middle(cost.step), 3)} "
            f"| {both(speed, 0)} | {memory[name]:,.0f} |"
        )
    ours, parent = costs[FULL], costs[PARENT]
    ratios = [
        Seconds(*(theirs / own for theirs, own in zip(*pair, strict=True)))
        for pair in zip(parent.step, ours.step, strict=True)
    ]
    yield ""
    yield (
        f"lpgnet against {PARENT}: {parent.parameters / ours.parameters:.1f} x fewer parameters, "
        f"{parent.flops / ours.flops:.1f} x fewer FLOPs, {both(middle(ratios), 1)} x faster training steps"
    )


def measure_memory(device: Device, precision: Precision) -> dict[str, int]:
    """Measure `training_memory` of every model, each in a fresh process."""
    work = [(name, device, precision) for name in MODELS]
    with multiprocessing.get_context("spawn").Pool(1 if device == "cuda" else 2, maxtasksperchild=1) as pool:
        return dict(zip(MODELS, pool.starmap(training_memory, work, chunksize=1), strict=True))


def runs_table(rounds: int) -> Iterator[str]:
    """Yield how many runs of a table an hour has by each recipe, in this code and in that of earlier commits."""
    yield f"| recipe | code | epoch (s) | besides epochs (s) | a run (s) | runs an hour, {AT_ONCE} at once | times |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for name, recipe in recipes().items():
        with checkouts(CODES if recipe.earlier else {"": CODES[""]}) as folders:
            found: dict[str, list[dict[str, list[float]]]] = {code: [] for code in folders}
            for _ in range(rounds):
                for code, folder in folders.items():
                    found[code] += run_at_once(recipe, folder)
        first: Seconds | None = None
        for code, measured in found.items():
            epoch, besides = (middle([Seconds(*one[part]) for one in measured]) for part in ("epoch", "besides"))
            run = Seconds(*(recipe.epochs * of_epoch + rest for of_epoch, rest in zip(epoch, besides, strict=True)))
            first = first or run
            hourly = Seconds(*(3600 * AT_ONCE / seconds for seconds in run))
            times = Seconds(*(earlier / now for earlier, now in zip(first, run, strict=True)))
            cells = [both(epoch, 2), both(besides, 1), both(run, 0), both(hourly, 0), both(times, 2)]
            yield f"| {name} | {CODES[code]} | {' | '.join(cells)} |"


@contextmanager
def checkouts(codes: Mapping[str, str]) -> Iterator[dict[str, Path]]:
    """Give a folder with the code of each commit, this one for none; what the repository lacks is left out."""
    with tempfile.TemporaryDirectory() as parent:
        folders = {commit: Path(parent) / commit if commit else ROOT for commit in codes}
        for commit, folder in list(folders.items()):
            if commit and _git("worktree", "add", "--detach", str(folder), commit):
                del folders[commit]
        try:
            yield folders
        finally:
            for commit, folder in folders.items():
                if commit:
                    _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> int:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True).returncode


def run_at_once(recipe: Recipe, code: Path) -> list[dict[str, list[float]]]:
    """Train and measure runs side by side, by the code in a folder; give what each found."""
    command = str(ROOT / "benchmarks" / "training_run.py"), json.dumps(asdict(recipe))
    print(f"a run of {recipe.batch_size} dialogues a step in {code}", file=sys.stderr)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(in_a_process, *command, PYTHONPATH=str(code), OMP_NUM_THREADS="1") for _ in range(AT_ONCE)]
    return [run.result() for run in runs]


def middle(values: list[Seconds]) -> Seconds:
    """Return the median by the clock and that by the processor."""
    return Seconds(*map(median, zip(*values, strict=True)))


def both(values: Seconds, digits: int) -> str:
    """Format the figure by the clock, that by the processor in brackets."""
    return f"{values.clock:,.{digits}f} ({values.processor:,.{digits}f})"


def main() -> None:
    """Measure, print, and write."""
    parser = make_parser(cast(str, __doc__))
    parser.add_argument("--rounds", type=int, default=2, help="of every model, layout and code")
    parser.add_argument("--device", choices=get_args(Device), default="cpu", help="where the models run")
    parser.add_argument("--mixed_precision", choices=get_args(Precision), default="no", help="of training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = options.rounds
    lines = tables(rounds, options.device, options.mixed_precision)
    where = torch.cuda.get_device_name() if options.device == "cuda" else "models on the CPU"
    how = f"{where}, mixed precision {options.mixed_precision}, median of {rounds} rounds"
    publish(lines, script="models.py", write=options.write, how=how)


def tables(rounds: int, device: Device, precision: Precision) -> Iterator[str]:
    """Yield the lines of all tables; runs of a table are measured on CPUs."""
    corpus = make_corpus()
    with tempfile.TemporaryDirectory() as folder:
        yield from ("**Models**", "")
        yield from models_table(corpus, rounds, Path(folder), device, precision)
        yield from ("", "**Layouts of the batch** (milliseconds a step)", "")
        yield from packing_table(corpus, rounds, Path(folder), device, precision)
    if device == "cpu":
        yield from ("", f"**Runs of a table**, {AT_ONCE} at once, one thread each", "")
        yield from runs_table(rounds)


if __name__ == "__main__":
    main()
