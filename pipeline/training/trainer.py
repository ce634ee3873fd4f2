"""The training of one run: embeddings -> model, the epoch chosen on development data only."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import broadcast
from torch import Tensor

from lpgnet.model import EmotionModel
from lpgnet.model.weights import are_finite
from lpgnet.pipeline.common.console import progress_bar, say, say_once
from lpgnet.pipeline.common.files import to_json, write_atomically
from lpgnet.pipeline.common.processes import agree
from lpgnet.pipeline.common.threads import place, threads_for
from lpgnet.pipeline.config import Config, TrainingConfig
from lpgnet.pipeline.errors import NotFiniteError, UsageError
from lpgnet.pipeline.training.checkpoints import (
    EpochLog,
    Progress,
    TrainingState,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from lpgnet.pipeline.training.dialogues import Dialogue, DialogueBatch, collate_for, pad
from lpgnet.pipeline.training.distances import measure_distances
from lpgnet.pipeline.training.freshness import (
    BEST_FOLDER,
    CHECKPOINT_FOLDER,
    LOG_FILE,
    Refit,
    is_done,
    mark_done,
    run_inputs,
    tell_done,
)
from lpgnet.pipeline.training.optimization import make_optimizer, make_scheduler, moving_average
from lpgnet.pipeline.training.run_lock import run_lock
from lpgnet.pipeline.training.runs import drop_needless, is_resumable, make_model, open_run
from lpgnet.pipeline.training.selection import Selection, check_selection
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.targets import check_targets, vote_shares
from lpgnet.pipeline.training.trained_on import score_held_out
from lpgnet.pipeline.training.tuned import check_unseen

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.tracking import GeneralTracker

    from lpgnet.pipeline.training.runs import LoadedCorpus


@dataclass(frozen=True)
class Development:
    """What a model scores on the development dialogues.

    Attributes:
        scores: by name; all that the dialogues have labels, votes or ratings for.
        fit_temperature: gives the temperature that calibrates the model on these dialogues.
    """

    scores: dict[str, float]
    fit_temperature: Callable[[], float]


class Measure(Protocol):
    """Measures a model on the development dialogues; training itself knows no metric."""

    def __call__(
        self,
        model: EmotionModel,
        dialogues: Sequence[Dialogue],
        classes: Sequence[str],
        recipe: TrainingConfig,
        accelerator: Accelerator,
    ) -> Development:
        """Score the model on the dialogues."""
        ...


def train_run(
    config: Config,
    corpus: LoadedCorpus,
    split: Split,
    folder: Path,
    accelerator: Accelerator,
    measure: Measure,
    refit: Refit | None = None,
) -> None:
    """Train one run to its end, from where it stopped; do nothing if it is done.

    Afterwards the folder holds `best/` (a Hugging Face folder) and `metrics.jsonl`.

    Args:
        config: of the run.
        corpus: what it is trained on.
        split: its training and development dialogues.
        folder: of the run.
        accelerator: of this process.
        measure: measures the model on the development dialogues.
        refit: what the run takes from an earlier one, if it has no development dialogues of its own.

    Raises:
        UsageError: the configuration does not fit the corpus.
        NotFiniteError: the training diverged.
        PipelineError: another process trains in the folder, or the processes of a launch train different runs.
    """
    inputs = run_inputs(config, corpus, split.name, refit)
    agree(folder, inputs)
    if is_done(folder, inputs):
        if accelerator.is_main_process:
            tell_done(folder)
            drop_left(folder, config)
        return
    check_unseen(corpus.tuned, split)
    check_targets(config, corpus.ranges, split.train)
    check_selection(config.training.select, config.dimensions, split.dev)
    if len(split.train) < accelerator.num_processes:
        raise UsageError(f"{len(split.train)} training dialogues are too few for {accelerator.num_processes} processes")
    with locked(folder, accelerator):
        model = make_model(config, corpus, split)
        with threads_for(model):
            # Here, since it notes in how many threads the run is made.
            if accelerator.is_main_process:
                open_run(folder, inputs, config)
                say_once(f"train: {place(str(accelerator.device), model)}")
            accelerator.wait_for_everyone()
            read = split.standardized(model, among=corpus.dialogues)
            # No step of training changes them.
            measured = cast(dict[str, Any], to_json(measure_distances(model, read.dev)))
            model.config.distances = measured if refit is None else refit.distances
            Trainer(config, read, folder, accelerator, model, measure).fit()
        if accelerator.is_main_process:
            end_run(folder, inputs, config)
        accelerator.wait_for_everyone()


def end_run(folder: Path, inputs: Mapping[str, object], config: Config, also: Sequence[str] = ()) -> None:
    """Note that a run was trained to its end, and delete its checkpoints if none are to be kept; `also` as there."""
    mark_done(folder, inputs)
    if not config.training.keep_checkpoints:
        drop_needless(folder, also)


def drop_left(folder: Path, config: Config, also: Sequence[str] = ()) -> None:
    """Delete the checkpoints of a run that was stopped between its end and their deletion; `also` as there."""
    if has_checkpoint(folder / CHECKPOINT_FOLDER) and not config.training.keep_checkpoints:
        with run_lock(folder):
            drop_needless(folder, also)


def locked(folder: Path, accelerator: Accelerator) -> AbstractContextManager[None]:
    """Keep other trainings out of the folder; one process of a launch does that for all."""
    return run_lock(folder) if accelerator.is_main_process else nullcontext()


class Trainer:
    """The loop of one run.

    The order of dialogues and the dropout of an epoch follow from only the seed, the epoch and the rank, so a run
    that was stopped and resumed takes the same steps as one that was not.
    """

    def __init__(
        self,
        config: Config,
        split: Split,
        folder: Path,
        accelerator: Accelerator,
        model: EmotionModel,
        measure: Measure,
    ) -> None:
        self.measure = measure
        self.config = config
        self.recipe = config.training
        self.selection = Selection.by(self.recipe)
        self.split = split
        self.folder = folder
        self.accelerator = accelerator
        self.steps_per_epoch = steps_per_epoch(len(split.train), self.recipe.batch_size, accelerator.num_processes)
        optimizer = make_optimizer(model, self.recipe)
        # Made first: torch warns of an optimizer whose steps accelerate counts for half precision already.
        self.scheduler = make_scheduler(optimizer, self.recipe, self.recipe.epochs * self.steps_per_epoch)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.raw_model: EmotionModel = accelerator.unwrap_model(self.model)
        self.average = moving_average(self.raw_model, self.recipe.ema_decay)
        if self.recipe.compile:
            # How many groups of dialogues there are differs with every batch, and would be compiled for anew.
            self.raw_model.spare = 1.0
            self.model.compile()
        self.state = TrainingState(self.raw_model, self.average, self.optimizer, self.scheduler, accelerator.scaler)
        self.progress = Progress()

    @property
    def evaluated(self) -> EmotionModel:
        """The model that is evaluated and saved: the moving average of the weights where there is one."""
        return cast(EmotionModel, self.average.module) if self.average is not None else self.raw_model

    @property
    def best(self) -> EpochLog:
        """The epoch that is chosen of those that are done."""
        return self.selection.best(self.progress.log)

    def fit(self) -> None:
        """Train until the last epoch or until the development score has not been better for `patience` epochs.

        Raises:
            NotFiniteError: a loss, a gradient, a weight or a development prediction is not finite. Every process of a
                launch raises it, and nothing of the epoch is saved.
        """
        self._resume()
        tracker = start_tracker(self.recipe.tracker, self.config.name, self.folder)
        with progress_bar("scores", unit="epochs", shown=self.accelerator.is_main_process) as bar:
            task = bar.add_task(
                "/".join(self.folder.parts[-3:]), total=self.recipe.epochs, completed=self.progress.epoch, scores=""
            )
            while not self._is_finished():
                entry = self._epoch()
                if self.accelerator.is_main_process:
                    save_checkpoint(self.folder / CHECKPOINT_FOLDER, self.state, self.progress)
                    self._write_log()
                if tracker is not None:
                    tracker.log({"loss": entry.loss, **{f"dev/{k}": v for k, v in entry.dev.items()}}, step=entry.epoch)
                scores = [f"loss {entry.loss:.3f}", self.selection.describe(entry)]
                bar.update(task, completed=self.progress.epoch, scores=", ".join(filter(None, scores)))
        if tracker is not None:
            tracker.finish()
        if self.accelerator.is_main_process:
            chosen = self.selection.describe(self.best)
            say(f"train: {self.folder}: {f'best {chosen}' if chosen else 'done'} in epoch {self.best.epoch}")

    def _resume(self) -> None:
        if self.accelerator.is_main_process:
            is_resumable(self.folder, self.raw_model.config)
        self.accelerator.wait_for_everyone()
        self.progress = load_checkpoint(self.folder / CHECKPOINT_FOLDER, self.state)
        agree(self.folder, {"the last epoch": self.progress.epoch})
        if self.progress.epoch and self.accelerator.is_main_process:
            say(f"train: resuming after epoch {self.progress.epoch} ({self.folder})")
            self._write_log()

    def _is_finished(self) -> bool:
        done, patience = self.progress.epoch, self.recipe.patience
        waits_no_more = patience is not None and done > 0 and done - self.best.epoch >= patience
        return done >= self.recipe.epochs or waits_no_more

    def _epoch(self) -> EpochLog:
        """Make one pass over the training dialogues and one over the development ones."""
        started = perf_counter()
        epoch = self.progress.epoch + 1
        torch.manual_seed(_seed_of(self.recipe.seed, epoch, self.accelerator.process_index))
        self.model.train()
        losses = [self.step(dialogues) for dialogues in self.steps(epoch)]
        self._check_weights()
        trained = perf_counter()
        development = self._measure_development()
        entry = EpochLog(
            epoch=epoch,
            loss=float(np.mean(losses)),
            dev=development.scores,
            learning_rate=float(self.scheduler.get_last_lr()[0]),
            train_seconds=round(trained - started, 3),
        )
        self.progress.epoch = epoch
        self.progress.log.append(entry)
        if self.best is entry:
            self._save_best(development)
        return entry

    def steps(self, epoch: int) -> Iterator[list[Dialogue]]:
        """Yield the dialogues of each optimizer step, in this epoch's order; step sizes differ by one at most."""
        order = list(self.split.train)
        random.Random(_seed_of(self.recipe.seed, epoch, 0)).shuffle(order)
        for indices in np.array_split(np.arange(len(order)), self.steps_per_epoch):
            yield [order[index] for index in indices]

    def step(self, dialogues: list[Dialogue]) -> float:
        """Make one optimizer step over this process's share of the dialogues and return the step's loss.

        The loss is divided by the counts of the whole step, so micro-batches and processes change nothing in it but the
        supervised contrast, which contrasts the turns of one micro-batch of one process.

        Raises:
            NotFiniteError: the loss or the gradient is not finite.
        """
        share = dialogues[self.accelerator.process_index :: self.accelerator.num_processes]
        batches = [self._prepare(part) for part in _parts(share, self.recipe.micro_batches)]
        counts = torch.stack([self.raw_model.loss_counts(b.labels, b.mask, b.masks, b.votes) for b in batches]).sum(0)
        counts = self.accelerator.reduce(counts, reduction="sum")
        moments = self._moments(batches)
        loss = torch.zeros((), device=self.accelerator.device)
        for batch in batches:
            loss += self._accumulate(batch, counts, moments, is_last=batch is batches[-1])
        gradient = self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.accelerator.optimizer_step_was_skipped:
            self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.raw_model)
        self.progress.step += 1
        return self._finite(self.accelerator.reduce(loss, reduction="sum"), gradient)

    def _finite(self, loss: Tensor, gradient: Tensor) -> float:
        """Return a step's loss, or raise; both numbers are the same in all processes, so all of them raise.

        They come to the CPU in one transfer.
        """
        value, norm = map(float, torch.stack([loss, gradient]).tolist())
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}")
        if self.accelerator.optimizer_step_was_skipped:
            # Half precision begins with a scale that is too large, and halves it at each step that it skips.
            if self.accelerator.scaler.get_scale() < 1:
                raise self._diverged("the gradient is beyond half precision")
        elif not math.isfinite(norm):
            raise self._diverged(f"the norm of the gradient is {norm}")
        return value

    def _check_weights(self) -> None:
        """Refuse weights that the last step made not finite; processes may differ in the statistics of BatchNorm."""
        wrong = (~are_finite(self.state.tensors())).float().to(self.accelerator.device)
        if self.accelerator.reduce(wrong, reduction="sum").item():
            raise self._diverged("the weights after it are not finite")

    def _diverged(self, what: str) -> NotFiniteError:
        half = " set training.mixed_precision to no," if self.accelerator.mixed_precision != "no" else ""
        return NotFiniteError(
            f"{self.folder}: training diverged in step {self.progress.step} (epoch {self.progress.epoch + 1}): {what}; "
            f"lower training.learning_rate (it is {self.recipe.learning_rate:g}),{half} "
            "or look for extreme values in the embeddings"
        )

    def _moments(self, batches: Sequence[DialogueBatch]) -> Tensor | None:
        """Add up what the ratings' loss needs of a whole step, (H, R, 6); None where a step is one batch.

        The batches run once more for it, with the same dropout: to keep all their graphs would take the memory that
        micro-batches are to save (as in Gao et al., arXiv 2101.06983).
        """
        alone = len(batches) == 1 and self.accelerator.num_processes == 1
        if alone or not self.raw_model.config.dimensions:
            return None
        buffers = {name: buffer.clone() for name, buffer in self.raw_model.named_buffers()}
        device = self.accelerator.device
        with (
            torch.no_grad(),
            self.accelerator.no_sync(self.model),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            moments = torch.stack([self._terms(batch).ratings.moments for batch in batches]).sum(0)
        for name, buffer in self.raw_model.named_buffers():
            buffer.copy_(buffers[name])
        summed: Tensor = self.accelerator.reduce(moments, reduction="sum")
        return summed

    def _terms(self, batch: DialogueBatch) -> Any:
        arguments = {"speakers": batch.speakers, **batch.targets, "targets_only": not self.recipe.compile}
        return self.model(batch.inputs, batch.masks, batch.mask, **arguments).loss_terms

    def _accumulate(self, batch: DialogueBatch, counts: Tensor, moments: Tensor | None, *, is_last: bool) -> Tensor:
        """Add one micro-batch's gradients; processes exchange them with the last one only."""
        with nullcontext() if is_last else self.accelerator.no_sync(self.model):
            loss = self._terms(batch).normalize(counts, moments)
            # Processes average their gradients; the counts are already those of all of them.
            self.accelerator.backward(loss * self.accelerator.num_processes)
        detached: Tensor = loss.detach()
        return detached

    def _prepare(self, dialogues: Sequence[Dialogue]) -> DialogueBatch:
        batch = collate_for(dialogues, self.accelerator.device, padded=self.recipe.compile)
        if self.recipe.target == "distribution":
            votes = pad([vote_shares(dialogue, self.recipe) for dialogue in dialogues], 0.0)
            batch = replace(batch, votes=votes.to(self.accelerator.device))
        return drop_modalities(batch, self.recipe.modality_dropout, self.raw_model.config.modality_names)

    def _measure_development(self) -> Development:
        if self.accelerator.num_processes > 1:
            # Every process has counted its own BatchNorm statistics; those of the first are the ones that are saved.
            for buffer in self.evaluated.buffers():
                buffer.copy_(broadcast(buffer.clone()))
        try:
            return self.measure(self.evaluated, self.split.dev, self.config.classes, self.recipe, self.accelerator)
        except NotFiniteError as error:
            raise self._diverged(f"afterwards, on the development split: {error}") from error

    def _save_best(self, development: Development) -> None:
        if self.accelerator.is_main_process:
            config = self.evaluated.config
            config.calibration_temperature = development.fit_temperature()
            if self.split.dev:
                score = score_held_out("development", development.scores, self.split.dev, self.split.train)
                config.trained_on = {**config.trained_on, "score": to_json(score)}
            self.evaluated.save_pretrained(self.folder / BEST_FOLDER)

    def _write_log(self) -> None:
        lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in self.progress.log)
        write_atomically(self.folder / LOG_FILE, lines)


def start_tracker(name: str, run: str, folder: Path) -> GeneralTracker | None:
    """Start accelerate's tracker of that name, which writes on the main process only; None for `none`.

    Args:
        name: none, tensorboard, wandb or trackio.
        run: what the tracker calls the run.
        folder: of the run; trackers that write files write them to its `logs`.

    Raises:
        UsageError: the tracker is not installed.
    """
    if name == "none":
        return None
    _check_installed(name)
    kind = LOGGER_TYPE_TO_CLASS[name]
    tracker: GeneralTracker = kind(run, str(folder / "logs")) if kind.requires_logging_directory else kind(run)
    tracker.start()
    return tracker


def _check_installed(tracker: str) -> None:
    if find_spec(tracker) is None:
        package = "lpgnet[tracking]" if tracker == "tensorboard" else tracker
        raise UsageError(f"training.tracker {tracker} is not installed: pip install '{package}', or use none")


def steps_per_epoch(dialogues: int, batch_size: int, processes: int) -> int:
    """Count steps of at most `batch_size` dialogues, but of one dialogue a process at least."""
    return min(-(-dialogues // max(batch_size, processes)), dialogues // processes)


def drop_modalities(batch: DialogueBatch, probability: float, names: Sequence[str]) -> DialogueBatch:
    """Hide one of the named modalities, drawn at random, in some of the utterances that have several of them."""
    if not probability or len(names) < 2:
        return batch
    several = torch.stack([batch.masks[name] for name in names]).sum(0) > 1
    losing = several & (torch.rand(batch.mask.shape, device=batch.mask.device) < probability)
    chosen = torch.randint(len(names), batch.mask.shape, device=batch.mask.device)
    masks = {name: batch.masks[name] & ~(losing & (chosen == index)) for index, name in enumerate(names)}
    return replace(batch, masks=masks)


def _parts(dialogues: Sequence[Dialogue], count: int) -> list[list[Dialogue]]:
    parts = np.array_split(np.arange(len(dialogues)), min(count, len(dialogues)))
    return [[dialogues[index] for index in part] for part in parts]


def _seed_of(seed: int, epoch: int, rank: int) -> int:
    """Return one seed for each epoch and rank of a run, unrelated between neighbors."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])
