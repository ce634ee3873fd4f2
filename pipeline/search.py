"""Stage search: which settings score best on development data, in parallel and resumable, with a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import progress_bar, show, show_table
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.searching.proposals import check_installed
from lpgnet.pipeline.training.run_lock import run_lock

if TYPE_CHECKING:
    from lpgnet.pipeline.searching.study import Study


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("search", arguments, Config)
    check_installed()
    # Imported late: torch takes longer than it takes to see that the command line is wrong.
    from lpgnet.pipeline.evaluation.tables import forget_corpora
    from lpgnet.pipeline.searching.study import Study, study_folder

    forget_corpora()
    with run_lock(study_folder(config)):
        study = Study(config)
        run_trials(study)
        if config.search.show_test:
            study.look()
        print_study(study)
    return 0


def run_trials(study: Study) -> None:
    """Run the trials that are left, and show how far they are."""
    with progress_bar("done", unit="trials") as bar:
        task = bar.add_task("search", total=study.total, completed=len(study.results.trials), done="")
        for trial in study.run():
            best = study.results.best
            score = "failed" if trial.score is None else f"{trial.score:.3f}"
            beside = f", best {best.score:.3f} (trial {best.number})" if best else ""
            bar.update(task, advance=1, done=f"trial {trial.number}: {score}{beside}")


def print_study(study: Study) -> None:
    """Write the report and the best settings, and print the table of trials.

    Raises:
        PipelineError: every trial failed.
    """
    from lpgnet.pipeline.reports.search import about_test, trials_table, write_search_report

    results = study.results
    write_search_report(study)
    table = trials_table(results)
    show_table(table.title, table.columns, table.rows)
    for line in table.about:
        show(line)
    if (path := study.write_best()) is None:
        raise PipelineError(f"{study.folder}: all trials failed; the first: {results.trials[0].reason}")
    show(about_test(results))
    show(f"train the best: add --config {path}")
    show(f"report: {study.folder / 'report.html'}")


if __name__ == "__main__":
    module_main("search")
