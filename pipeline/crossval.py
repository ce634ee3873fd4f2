"""Stage crossval: train and measure rows x folds x seeds, in parallel and resumable, and write one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import progress_bar, show, show_table
from lpgnet.pipeline.common.files import write_json
from lpgnet.pipeline.common.processes import current_launch, make_accelerator
from lpgnet.pipeline.common.side_by_side import default_workers, one_thread, run_side_by_side
from lpgnet.pipeline.common.stamps import write_stamp
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.embeddings.fill_store import fill_store
from lpgnet.pipeline.evaluation.analysis import Runs
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.run_results import evaluate_run
from lpgnet.pipeline.evaluation.table_results import RESULTS_FILE, TableResults, describe_table, read_runs
from lpgnet.pipeline.evaluation.tables import (
    MEASURED_FILE,
    Job,
    corpus_of,
    is_measured,
    make_jobs,
    make_rows,
    runs_folder,
    split_of,
    splits_of,
    stamp_of,
    table_folder,
    with_tuned,
)
from lpgnet.pipeline.reports.crossval import tables, write_reports
from lpgnet.pipeline.reports.run import write_run_report, write_training_plot
from lpgnet.pipeline.training.refit import refit_run, with_development
from lpgnet.pipeline.training.trainer import train_run
from lpgnet.pipeline.tuning.tuner import tune_encoder, tuned_folder, tuning_config

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lpgnet.pipeline.training.runs import LoadedCorpus
    from lpgnet.pipeline.training.splits import Split


Item = TypeVar("Item")


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("crossval", arguments, Config)
    rows = make_rows(config, arguments)
    tune_folds(config)
    jobs = make_jobs(rows, runs_folder(config))
    run_jobs([job for job in jobs if not is_measured(job)], config)
    if current_launch().is_main:
        results = describe_table(config, rows, jobs)
        folder = table_folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RESULTS_FILE, results)
        write_reports(results, folder, rated_runs(results, jobs))
        print_table(results)
        show(f"report: {folder / 'report.html'}")
    return 0


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
    _run_all(tune_fold, tunings, config, name="tuning", tell=lambda tuning: f"{tuning.modality} {tuning.fold}")
    for tuning in tunings:
        fill_store(with_tuned(config, tuning.modality, tuning.fold))


@dataclass(frozen=True)
class Tuning:
    """An encoder to tune, of one fold."""

    config: Config
    fold: str

    @property
    def modality(self) -> str:
        """Whose encoder it is."""
        return self.config.tune.modality


def tune_fold(tuning: Tuning) -> None:
    """Tune an encoder on the training utterances of a fold, from where it stopped."""
    config = tuning.config
    corpus = corpus_of(config)
    split = next(split for split in splits_of(config) if split.name == tuning.fold)
    accelerator = make_accelerator(config.training.device, config.tune.mixed_precision)
    folder = tuned_folder(config, tuning.modality, tuning.fold)
    tune_encoder(config, corpus, split, folder, accelerator, measure_development)


def run_jobs(jobs: Sequence[Job], config: Config) -> None:
    """Train and measure runs."""
    _run_all(run_job, jobs, config, name="in parallel", tell=lambda job: f"{job.row} {job.fold} {job.folder.name}")


def _run_all(
    work: Callable[[Item], None], items: Sequence[Item], config: Config, *, name: str, tell: Callable[[Item], str]
) -> None:
    """Do the work in parallel, or one after another if a launcher started several processes for each.

    Args:
        work: a function at the top level of this module.
        items: what it is called with.
        config: of the table.
        name: of the work, for people.
        tell: says of an item which it is.
    """
    workers = min(config.crossval.workers or default_workers(config.training.device), len(items))
    if workers <= 1 or current_launch().size > 1:
        with one_thread():
            for item in items:
                work(item)
        return
    with progress_bar("done", unit="runs") as bar:
        task = bar.add_task(f"{workers} {name}", total=len(items), done="")
        for item in run_side_by_side(work, items, workers=workers):
            bar.update(task, advance=1, done=tell(item))


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
    first = job.folder.with_name(f"{job.folder.name}-first")
    train_run(job.config, corpus, split, first, accelerator, measure_development)
    refit_run(job.config, corpus, split, first, job.folder, accelerator)
    return with_development(split)


def print_table(results: TableResults) -> None:
    """Print the results' tables."""
    for table in tables(results):
        show_table(table.title, table.columns, table.rows)


if __name__ == "__main__":
    module_main("crossval")
