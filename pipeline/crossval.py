"""Cross-validation: rows x folds x seeds, side by side and resumable, into one table that says how it was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import progress_bar, show, show_table
from lpgnet.pipeline.common.files import write_atomically
from lpgnet.pipeline.common.processes import current_launch
from lpgnet.pipeline.common.side_by_side import default_workers, one_thread, run_side_by_side
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.evaluate import METRICS_FILE
from lpgnet.pipeline.evaluation.analysis import (
    Runs,
    confusions,
    labelled_only,
    score,
    score_conditions,
    score_speakers,
    speaker_gap,
)
from lpgnet.pipeline.evaluation.calibration import Reliability
from lpgnet.pipeline.evaluation.inference import FUSED
from lpgnet.pipeline.evaluation.metrics import NAMES, bootstrap_differences
from lpgnet.pipeline.evaluation.missing import add_missing
from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE, Outcome, read_predictions, words_seen
from lpgnet.pipeline.evaluation.tables import Job, Row, is_measured, make_jobs, make_rows, run_job, runs_folder
from lpgnet.pipeline.reports.crossval import caption, table, write_reports

RESULTS_FILE = "results.json"


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line; returns the exit code."""
    config = parse_config("crossval", arguments, Config)
    rows = make_rows(config, arguments)
    jobs = make_jobs(rows, runs_folder(config))
    run_jobs([job for job in jobs if not is_measured(job)], config)
    if current_launch().is_main:
        results = describe_table(config, rows, jobs)
        folder = table_folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
        write_reports(results, folder)
        print_table(results)
        show(f"report: {folder / 'report.html'}")
    return 0


def table_folder(config: Config) -> Path:
    """Where the table's files are."""
    name = Path(config.crossval.table)
    if name.is_absolute() or len(name.parts) != 1 or ".." in name.parts:
        raise UsageError(f"key 'crossval.table': '{name}' must be a name, not a path")
    return config.folder / name


def run_jobs(jobs: Sequence[Job], config: Config) -> None:
    """Do what is not done: side by side, or one after another where a launcher gave each run several processes."""
    workers = min(config.crossval.workers or default_workers(config.training.device), len(jobs))
    if workers <= 1 or current_launch().size > 1:
        with one_thread():
            for job in jobs:
                run_job(job)
        return
    with progress_bar("done", unit="runs") as bar:
        task = bar.add_task(f"{workers} side by side", total=len(jobs), done="")
        for job in run_side_by_side(run_job, jobs, workers=workers):
            bar.update(task, advance=1, done=f"{job.row} {job.fold} {job.folder.name}")


def describe_table(config: Config, rows: Sequence[Row], jobs: Sequence[Job]) -> dict[str, Any]:
    """What `results.json` holds: the protocol, and a row each with its difference from the first."""
    runs = {row.name: read_runs([job for job in jobs if job.row == row.name]) for row in rows}
    classes = config.classes
    described = [describe_row(row, [job for job in jobs if job.row == row.name], runs[row.name]) for row in rows]
    first = confusions(labelled_only(runs[rows[0].name]), classes)
    for row, entry in zip(rows[1:], described[1:], strict=True):
        settings = {"resamples": config.evaluation.bootstrap, "confidence": config.evaluation.confidence}
        _check_same_test(rows[0], runs[rows[0].name], row, runs[row.name])
        gaps = bootstrap_differences(confusions(labelled_only(runs[row.name]), classes), first, **settings)  # type: ignore[arg-type]
        entry["differences"] = {name: asdict(gap) for name, gap in gaps.items()}
    return {
        "name": config.name,
        "table": config.crossval.table,
        "classes": classes,
        "protocol": _protocol(config, jobs, runs[rows[0].name]),
        "rows": described,
    }


def _check_same_test(first: Row, reference: Runs, row: Row, runs: Runs) -> None:
    """Refuse a table whose rows were tested on different utterances: their differences would mean nothing."""
    tested = [{(o.prediction.utterance_id, o.prediction.label) for o in labelled_only(r)[0]} for r in (reference, runs)]
    if row.config.classes != first.config.classes or tested[0] != tested[1]:
        raise UsageError(
            f"{row.name} is tested on other utterances or labels than {first.name}; an overlay must leave labels and "
            "splits as they are: make a table of its own"
        )


def _protocol(config: Config, jobs: Sequence[Job], runs: Runs) -> dict[str, Any]:
    return {
        "corpus": asdict(config.corpus),
        "encoders": {name: values["name"] for name, values in asdict(config.encoders).items() if values["name"]},
        "labels": config.labels,
        "splits": asdict(config.splits),
        "folds": list(dict.fromkeys(job.fold for job in jobs)),
        "seeds": config.crossval.seeds,
        "training": asdict(config.training),
        "bootstrap": config.evaluation.bootstrap,
        "confidence": config.evaluation.confidence,
        "words_seen": words_seen(runs[0]),
    }


def read_runs(jobs: Sequence[Job]) -> list[list[Outcome]]:
    """The test predictions of one row: a list a seed, its folds one after another."""
    seeds: dict[int, list[Outcome]] = {}
    for job in jobs:
        outcomes, _ = read_predictions(job.folder / PREDICTIONS_FILE)
        seeds.setdefault(job.config.training.seed, []).extend(outcomes)
    return list(seeds.values())


def describe_row(row: Row, jobs: Sequence[Job], runs: Runs) -> dict[str, Any]:
    """One row: scores over the test utterances of all folds together, mean and deviation over seeds, and by group."""
    measured = [json.loads((job.folder / METRICS_FILE).read_text(encoding="utf-8")) for job in jobs]
    classes, settings = row.config.classes, row.config.evaluation
    return {
        "model": row.name,
        "type": row.config.model.type,
        "parameters": measured[0]["parameters"],
        **score(runs, classes, settings),
        "heads": {head: score(runs, classes, settings, head=head) for head in measured[0]["heads"] if head != FUSED},
        "folds": _score_folds(jobs, measured),
        "conditions": score_conditions(runs, classes, settings),
        "speakers": score_speakers(runs, classes, settings),
        "speaker_gap": speaker_gap(runs, classes, settings),
        "calibration": _add_calibrations([run["calibration"] for run in measured]),
        "missing": add_missing([run["missing"] for run in measured]),
        "seconds_per_epoch": [run["training"]["seconds_per_epoch"] for run in measured],
    }


def _score_folds(jobs: Sequence[Job], measured: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The mean over seeds of each fold's scores."""
    folds: dict[str, list[dict[str, Any]]] = {}
    for job, run in zip(jobs, measured, strict=True):
        folds.setdefault(job.fold, []).append(run["heads"][FUSED])
    return {fold: {n: sum(run[n] for run in runs) / len(runs) for n in (*NAMES, "n")} for fold, runs in folds.items()}


def _add_calibrations(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The calibration of all runs' test utterances together."""
    added = {when: Reliability.from_dicts([run[when] for run in measured]) for when in ("before", "after")}
    return {
        "temperatures": [run["temperature"] for run in measured],
        **{when: {"error": total.error, **total.to_dict()} for when, total in added.items()},
    }


def print_table(results: dict[str, Any]) -> None:
    """Print the table."""
    columns, rows = table(results)
    show_table(caption(results), columns, rows)


if __name__ == "__main__":
    module_main("crossval")
