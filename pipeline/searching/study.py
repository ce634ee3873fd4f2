"""A study: its trials one after another, their runs side by side, and the one look at the test data."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import torch
import yaml

from lpgnet.model import ModelError
from lpgnet.pipeline.common.files import read_json, write_atomically, write_json
from lpgnet.pipeline.common.processes import current_launch, make_accelerator
from lpgnet.pipeline.common.side_by_side import default_workers, side_by_side
from lpgnet.pipeline.common.workers import Workers
from lpgnet.pipeline.config import Config, check_experiment, check_schedule
from lpgnet.pipeline.errors import NotFiniteError, PipelineError, UsageError, for_people, shorten
from lpgnet.pipeline.evaluation.analysis import score
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.run_results import evaluate_run
from lpgnet.pipeline.evaluation.table_results import read_runs
from lpgnet.pipeline.evaluation.tables import Job, corpora_to_give, corpus_of, seeded, split_of, splits_of, take_corpora
from lpgnet.pipeline.searching.proposals import Proposals, sampler_name
from lpgnet.pipeline.searching.space import (
    Settings,
    Space,
    combinations,
    identity,
    nested,
    own_settings,
    parse_space,
    with_settings,
)
from lpgnet.pipeline.searching.trials import RESULTS_FILE, Look, SearchResults, Trial, check_trials, compared_by
from lpgnet.pipeline.training.freshness import run_inputs
from lpgnet.pipeline.training.runs import read_log, training_cost
from lpgnet.pipeline.training.selection import Selection
from lpgnet.pipeline.training.trainer import train_run

BEST_FILE = "best.yaml"


@dataclass(frozen=True)
class Developed:
    """What a run scored on its development dialogues and how long it trained (seconds), or why it failed."""

    score: float = 0.0
    seconds: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class Begun:
    """A trial that was chosen, and its runs by fold; none where it is known what it scores."""

    trial: Trial
    runs: dict[str, list[Future[Developed]]] = field(default_factory=dict)


def study_folder(config: Config) -> Path:
    """Return the folder of the study's files.

    Raises:
        UsageError: the study's name is a path.
    """
    name = Path(config.search.study)
    if name.is_absolute() or len(name.parts) != 1 or ".." in name.parts:
        raise UsageError(f"key 'search.study': '{name}' must be a name, not a path")
    return config.folder / "search" / name


class Study:
    """The trials of a search, those of earlier times included.

    A trial is chosen when all but the latest `search.at_once` before it have been told to the sampler, in their
    order, whichever run is done first: so the same trials are chosen with any number of workers.

    Args:
        config: of the experiment.

    Attributes:
        space: what is searched.
        folder: of the study's files.
        folds: names of the folds that every trial is trained on.
        results: what was found so far, which `results.json` holds after each trial.

    Raises:
        UsageError: the space is none, or the study was begun with other data or settings.
        PipelineError: the study's file is damaged, or an encoder was tuned on what a fold tests or develops on.
    """

    def __init__(self, config: Config) -> None:
        _check(config)
        self.space = parse_space(config.search.space, compared_by(config.training.select))
        self.folder = study_folder(config)
        runs = replace(config.crossval, folds=config.search.folds, seeds=config.search.seeds)
        # Of the one look at the test data, the scores alone are told.
        self.config = replace(config, crossval=runs, evaluation=replace(config.evaluation, missing_shares=[]))
        self.folds = [split.name for split in splits_of(self.config)]
        for job in self._jobs(0, {}):
            split_of(job)
        self.results = self._read() or self._begin()

    def _begin(self) -> SearchResults:
        config = self.config
        configured = 0 if own_settings(config, self.space) is not None else None
        select = compared_by(config.training.select)
        return SearchResults(config.name, config.search.study, select, sampler_name(), self._inputs(), configured)

    def _read(self) -> SearchResults | None:
        path = self.folder / RESULTS_FILE
        if not path.exists():
            return None
        results, inputs = read_json(path, SearchResults), self._inputs()
        if differing := sorted(name for name in inputs if results.inputs.get(name) != inputs[name]):
            raise UsageError(
                f"{path}: this study was begun with other {shorten(differing)}, and its scores are not to be compared "
                "with new ones; name another study with --search.study NAME"
            )
        check_trials(results, self.space, path)
        return results

    def _inputs(self) -> dict[str, Any]:
        """Return all that decides what is tried and what it scores, but for the number of trials."""
        search = {name: getattr(self.config.search, name) for name in ("space", "seeds", "at_once", "seed")}
        inputs = run_inputs(self.config, corpus_of(self.config), splits_of(self.config)[0].name)
        training = {name: value for name, value in cast(dict[str, Any], inputs["training"]).items() if name != "seed"}
        found = {**inputs, **search, "training": training, "fold": self.folds}
        return cast(dict[str, Any], json.loads(json.dumps(found)))

    @property
    def total(self) -> int:
        """How many trials there are in the end, those of earlier times included."""
        return Plan(self.config, self.space, self.results.trials).total

    def run(self) -> Iterator[Trial]:
        """Yield the trials that are new, in order, each when it is done and written."""
        if len(self.results.trials) >= self.config.search.trials:
            return
        with self._workers() as pool:
            yield from self._run(pool)

    def _workers(self) -> AbstractContextManager[Workers]:
        search, jobs = self.config.search, self._jobs(0, {})
        workers = search.workers or default_workers(self.config.training.device)
        given = corpora_to_give(jobs[:1])
        return side_by_side(min(workers, search.at_once * len(jobs)), take=take_corpora, given=given)

    def _run(self, pool: Workers) -> Iterator[Trial]:
        search = self.config.search
        proposals = Proposals(self.space, seed=search.seed, minimize=self.results.lower_is_better)
        plan = Plan(self.config, self.space, self.results.trials)
        waiting: deque[Begun] = deque()
        while waiting or not plan.is_done:
            if len(waiting) == search.at_once or plan.is_done:
                yield from self._settle(waiting.popleft(), proposals)
            else:
                waiting.append(self._start(plan, proposals, pool))

    def _start(self, plan: Plan, proposals: Proposals, pool: Workers) -> Begun:
        """Choose the next trial and give its runs to the workers."""
        number = plan.number
        settings = plan.add(proposals.ask(number, plan.fixed()))
        config = with_settings(self.config, settings)
        try:
            check_experiment(config)
            check_schedule(config.training)
        except UsageError as error:
            return Begun(Trial(number, settings, reason=str(error)))
        same = plan.first(identity(config), number)
        if number < len(self.results.trials):
            return Begun(self.results.trials[number])
        if same != number:
            return Begun(Trial(number, settings, same_as=same))
        jobs = self._jobs(number, settings)
        return Begun(
            Trial(number, settings),
            {fold: [pool.submit(develop, job) for job in jobs if job.fold == fold] for fold in self.folds},
        )

    def _jobs(self, number: int, settings: Settings) -> list[Job]:
        """Make a job for every run of a trial."""
        config, name = with_settings(self.config, settings), f"trial-{number:04d}"
        each = [seeded(config, seed) for seed in range(config.search.seeds)]
        folder = self.folder / "runs" / name
        return [Job(name, fold, one, folder / fold / f"seed{one.training.seed}") for fold in self.folds for one in each]

    def _settle(self, begun: Begun, proposals: Proposals) -> Iterator[Trial]:
        """Wait for the runs of a trial, tell its score to the sampler, and write it if it is new."""
        trial = begun.trial
        if begun.runs:
            trial = _with_runs(trial, begun.runs)
        elif trial.same_as is not None:
            same = self.results.trials[trial.same_as]
            trial = replace(trial, scores=same.scores, reason=same.reason)
        proposals.tell(trial.number, trial.score)
        if trial.number == len(self.results.trials):
            self._write(replace(self.results, trials=[*self.results.trials, trial]))
            yield trial

    def _write(self, results: SearchResults) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / RESULTS_FILE, results)
        self.results = results

    def look(self) -> None:
        """Measure the best trial on the test split; do nothing if the study has looked at it before.

        That it looks is written before it does, so that no stop leaves a study that has looked and does not say so.
        """
        results = self.results
        if results.test is None and (best := results.best):
            now = datetime.now().astimezone().isoformat(timespec="minutes")
            self._write(replace(results, test=Look(now, len(results.trials), best.number)))
        if (look := self.results.test) and look.scores is None:
            jobs = self._jobs(look.trial, results.trials[look.trial].settings)
            with self._workers() as pool:
                for done in [pool.submit(measure, job) for job in jobs]:
                    done.result()
            scores = score(read_runs(jobs), self.config.classes, self.config.evaluation)
            self._write(replace(self.results, test=replace(look, scores=scores)))

    def write_best(self) -> Path | None:
        """Write the best trial's settings as a configuration to lay over the experiment's; return its file."""
        if (best := self.results.best) is None:
            return None
        path = self.folder / BEST_FILE
        about = f"# Trial {best.number}, the best of {len(self.results.trials)} by development scores.\n"
        write_atomically(path, about + yaml.safe_dump(nested(best.settings), sort_keys=False, allow_unicode=True))
        return path


class Plan:
    """Which trials come without the sampler: those of earlier times, the configuration's own, all if they are few.

    Args:
        config: of the study.
        space: that it searches.
        known: the trials of earlier times.
    """

    def __init__(self, config: Config, space: Space, known: list[Trial]) -> None:
        self._known = [trial.settings for trial in known]
        self._own = own_settings(config, space)
        self._trials = config.search.trials
        every = combinations(space)
        self._every = every if every is not None and len(every) <= self._trials else None
        self._asked: list[Settings] = []
        self._first: dict[str, int] = {}

    @property
    def number(self) -> int:
        """The number of the next trial."""
        return len(self._asked)

    @property
    def total(self) -> int:
        """How many trials there are when all is done."""
        known = len(self._known)
        left = self._trials if self._every is None else sum(one not in self._known for one in self._every)
        return max(known, min(self._trials, known + left))

    @property
    def is_done(self) -> bool:
        """Whether there are as many trials as are wanted, or all combinations were tried."""
        if self.number < len(self._known):
            return False
        return self.number >= self._trials or (self._every is not None and self._untried() is None)

    def _untried(self) -> Settings | None:
        return next((one for one in self._every or [] if one not in self._asked), None)

    def fixed(self) -> Settings | None:
        """Return the settings of the next trial, or None to let the sampler choose them."""
        if self.number < len(self._known):
            return self._known[self.number]
        return self._own if self.number == 0 and self._own is not None else self._untried()

    def add(self, settings: Settings) -> Settings:
        """Note the settings of the next trial, and return them."""
        self._asked.append(settings)
        return settings

    def first(self, identity: str, number: int) -> int:
        """Return the number of the first trial that trains the same model as this one."""
        return self._first.setdefault(identity, number)


def _check(config: Config) -> None:
    if config.evaluation.modalities is not None:
        raise UsageError("evaluation.modalities is for the evaluate stage; a search trains with all inputs of model")
    if config.crossval.refit:
        raise UsageError(
            "key 'crossval.refit': would train on the development dialogues that trials are compared on; search with "
            "--crossval.refit false, and refit with the values that are found"
        )
    if current_launch().size > 1:
        raise UsageError("a search starts its own processes (search.workers); run it without a launcher")


def _with_runs(trial: Trial, runs: dict[str, list[Future[Developed]]]) -> Trial:
    """Wait for the runs of a trial; as soon as one failed, none is begun any more."""
    scores: dict[str, list[float]] = {}
    seconds = 0.0
    for fold, futures in runs.items():
        for future in futures:
            found = future.result()
            if found.reason is not None:
                for others in runs.values():
                    for other in others:
                        other.cancel()
                return replace(trial, reason=f"fold {fold}: {found.reason}")
            scores.setdefault(fold, []).append(found.score)
            seconds += found.seconds
    return replace(trial, scores=scores, seconds=round(seconds, 3))


def develop(job: Job) -> Developed:
    """Train one run, resuming where it stopped, and return its development score; it is never given the test split.

    What is wrong with these settings alone, such as a rate at which training diverges, is a result.
    """
    try:
        return _develop(job)
    except (NotFiniteError, UsageError, ModelError, MemoryError, torch.OutOfMemoryError) as error:
        return Developed(reason=str(for_people(error)).removeprefix(f"{job.folder}: "))


def _develop(job: Job) -> Developed:
    accelerator = make_accelerator(job.config.training.device, job.config.training.mixed_precision)
    split = replace(split_of(job), test=())
    train_run(job.config, corpus_of(job.config), split, job.folder, accelerator, measure_development)
    recipe, cost = job.config.training, training_cost(job.folder)
    seconds = cost.epochs * cost.seconds_per_epoch if cost else 0.0
    chosen = Selection.by(recipe).best(read_log(job.folder))
    return Developed(Selection(compared_by(recipe.select)).of(chosen.dev), seconds)


def measure(job: Job) -> None:
    """Measure a run on the test split, trained once more if it is not there any more.

    Raises:
        PipelineError: it cannot be trained.
    """
    if reason := develop(job).reason:
        raise PipelineError(f"{job.folder}: {reason}")
    accelerator = make_accelerator(job.config.training.device, job.config.training.mixed_precision)
    evaluate_run(job.config, corpus_of(job.config), split_of(job), job.folder, accelerator)
