"""Stage crossval: train and measure rows x folds x seeds, in parallel and resumable, and write one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import progress_bar, say, show, show_table
from lpgnet.pipeline.common.files import write_json
from lpgnet.pipeline.common.processes import current_launch, device_kind, make_accelerator
from lpgnet.pipeline.common.side_by_side import default_workers, run_side_by_side
from lpgnet.pipeline.common.stamps import write_stamp
from lpgnet.pipeline.common.threads import one_thread
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.embeddings.fill_store import fill_store
from lpgnet.pipeline.errors import counted
from lpgnet.pipeline.evaluation.analysis import Runs, score
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.evaluation.run_results import evaluate_run
from lpgnet.pipeline.evaluation.table_results import RESULTS_FILE, TableResults, describe_table, read_runs
from lpgnet.pipeline.evaluation.tables import (
    MEASURED_FILE,
    Job,
    Row,
    corpora_to_give,
    corpus_of,
    fold_of,
    forget_corpora,
    is_measured,
    make_jobs,
    make_rows,
    runs_folder,
    split_of,
    splits_of,
    stamp_of,
    table_folder,
    take_corpora,
    with_tuned,
)
from lpgnet.pipeline.reports.cells import mean_and_deviation
from lpgnet.pipeline.reports.crossval import tables, write_reports
from lpgnet.pipeline.reports.run import write_run_report, write_training_plot
from lpgnet.pipeline.training.freshness import DONE_FILE
from lpgnet.pipeline.training.refit import first_folder, refit_run, with_development
from lpgnet.pipeline.training.runs import count_epochs
from lpgnet.pipeline.training.trainer import train_run
from lpgnet.pipeline.tuning.tuner import tune_encoder, tuned_folder, tuning_config

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lpgnet.pipeline.training.runs import LoadedCorpus
    from lpgnet.pipeline.training.splits import Split


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("crossval", arguments, Config)
    forget_corpora()
    rows = make_rows(config, arguments)
    tune_folds(config)
    jobs = make_jobs(rows, runs_folder(config))
    measured = [job for job in jobs if is_measured(job)]
    rest = [job for job in jobs if job not in measured]
    tell_rows(rows, jobs, chain(measured, run_jobs(rest, config)))
    if current_launch().is_main:
        results = describe_table(config, rows, jobs)
        folder = table_folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RESULTS_FILE, results)
        write_reports(results, folder, rated_runs(results, jobs))
        print_table(results)
        show(f"report: {folder / 'report.html'}")
    return 0


def tell_rows(rows: Sequence[Row], jobs: Sequence[Job], measured: Iterable[Job]) -> None:
    """Print each row's scores as soon as the last of its runs is measured."""
    left = {row.name: {job.folder for job in jobs if job.row == row.name} for row in rows}
    for job in measured:
        left[job.row].discard(job.folder)
        if not left[job.row] and current_launch().is_main:
            row = next(row for row in rows if row.name == job.row)
            say(row_line(row, [job for job in jobs if job.row == row.name]))


def row_line(row: Row, jobs: Sequence[Job]) -> str:
    """Say what a row scores, without the intervals, which the table has."""
    values = score(read_runs(jobs), row.config.classes, replace(row.config.evaluation, bootstrap=0))
    scores = ", ".join(f"{title} {mean_and_deviation(values, name)}" for name, title in NAMES.items())
    return f"{row.name}: {scores} ({counted(len(jobs), 'run')})"


def rated_runs(results: TableResults, jobs: Sequence[Job]) -> dict[str, Runs]:
    """Read the test predictions of the rows that predict dimensions."""
    rows = [row.model for row in results.rows if row.dimensions]
    return {row: read_runs([job for job in jobs if job.row == row]) for row in rows}


def tune_folds(config: Config) -> None:
    """Tune the encoders that the table asks for, once a fold, and embed the corpus by each."""
    tunings = [
        Tuning(tuning_config(replace(config, tune=replace(config.tune, modality=modality))), split.name)
        for modality in config.crossval.tune
        for split in splits_of(config)
    ]
    for _ in _run_all(tune_fold, tunings, config, of="tunings"):
        pass
    for tuning in tunings:
        fill_store(with_tuned(config, tuning.modality, tuning.fold))


@dataclass(frozen=True)
class Tuning:
    """An encoder to tune, of one fold."""

    config: Config
    fold: str

    @property
    def name(self) -> str:
        """Modality and fold."""
        return f"{self.config.tune.modality} {self.fold}"

    @property
    def modality(self) -> str:
        """Whose encoder it is."""
        return self.config.tune.modality

    @property
    def folder(self) -> Path:
        """Becomes that of the tuned encoder."""
        return tuned_folder(self.config, self.modality, self.fold)


def tune_fold(tuning: Tuning) -> None:
    """Tune an encoder on the training utterances of a fold, from where it stopped."""
    config = tuning.config
    split = fold_of(config, tuning.fold)
    accelerator = make_accelerator(config.training.device, config.tune.mixed_precision)
    tune_encoder(config, corpus_of(config), split, tuning.folder, accelerator, measure_development)


def run_jobs(jobs: Sequence[Job], config: Config) -> Iterator[Job]:
    """Train and measure runs; yield each when it is done."""
    return _run_all(run_job, jobs, config, of="runs")


Item = TypeVar("Item", Job, Tuning)


def _run_all(work: Callable[[Item], None], items: Sequence[Item], config: Config, *, of: str) -> Iterator[Item]:
    """Do the work in parallel, or one after another if a launcher started several processes for each.

    Args:
        work: a function at the top level of this module.
        items: what it is called with.
        config: of the table.
        of: what they are, for people.

    Yields:
        Each item when it is done.
    """
    workers = min(config.crossval.workers or default_workers(config.training.device), len(items))
    launch = current_launch()
    alone = workers <= 1 or launch.size > 1
    if items and launch.is_main:
        count = launch.size if alone else workers
        each = " of one thread" if device_kind(config.training.device) == "cpu" else ""
        say(f"crossval: {of} in {counted(count, 'process', 'processes')}{each}")
    if alone:
        for item in items:
            with one_thread():
                work(item)
            yield item
        return
    with progress_bar("now", unit=of) as bar:
        task = bar.add_task(f"{workers} in parallel", total=len(items), now="")
        for item in run_side_by_side(
            work,
            items,
            workers=workers,
            take=take_corpora,
            given=corpora_to_give(items),
            meanwhile=lambda running: bar.update(task, now="; ".join(map(how_far, running))),
        ):
            bar.update(task, advance=1)
            yield item


def how_far(item: Job | Tuning) -> str:
    """Say which run or tuning it is, and which epoch it is in; of a refitted run in the first, then in the second."""
    folder, epochs = item.folder, item.config.training.epochs
    first = first_folder(folder)
    if first != folder and (first / DONE_FILE).exists():
        return f"{item.name} refitted, epoch {count_epochs(folder) + 1}"
    return f"{item.name}, epoch {min(count_epochs(first) + 1, epochs)} of {epochs}"


def run_job(job: Job) -> None:
    """Train one run, resuming where it stopped, and measure it."""
    corpus, split = corpus_of(job.config), split_of(job)
    accelerator = make_accelerator(job.config.training.device, job.config.training.mixed_precision)
    split = _train(job, corpus, split, accelerator)
    results, _ = evaluate_run(job.config, corpus, split, job.folder, accelerator)
    if accelerator.is_main_process:
        write_training_plot(job.folder)
        write_run_report(results, job.folder, job.config)
        write_stamp(job.folder / MEASURED_FILE, stamp_of(job))
    accelerator.wait_for_everyone()


def _train(job: Job, corpus: LoadedCorpus, split: Split, accelerator: Accelerator) -> Split:
    """Train a run, twice if it is to be refitted; return the split that its model has learned from."""
    if not job.config.crossval.refit:
        train_run(job.config, corpus, split, job.folder, accelerator, measure_development)
        return split
    first = first_folder(job.folder)
    train_run(job.config, corpus, split, first, accelerator, measure_development)
    refit_run(job.config, corpus, split, first, job.folder, accelerator)
    return with_development(split, corpus.dialogues)


def print_table(results: TableResults) -> None:
    """Print the results' tables."""
    for table in tables(results):
        show_table(table.title, table.columns, table.rows)


if __name__ == "__main__":
    module_main("crossval")
