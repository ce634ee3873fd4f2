"""Cross-validation: models x folds x seeds, each run resumable, into one table of means and deviations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.cli import module_main
from pipeline.config import Config, parse_config
from pipeline.console import show, show_table
from pipeline.evaluate import METRICS_FILE, load_for, write_results
from pipeline.inference import FUSED, predict_dialogues
from pipeline.manifest import write_atomically
from pipeline.metrics import NAMES
from pipeline.processes import make_accelerator
from pipeline.runs import BEST_FOLDER, LoadedCorpus, load_corpus, run_inputs
from pipeline.splits import Split, make_folds, make_split
from pipeline.stamps import is_fresh, write_stamp
from pipeline.train import train_run

if TYPE_CHECKING:
    from accelerate import Accelerator

MEASURED_FILE = "measured.json"


@dataclass(frozen=True)
class Job:
    """One run of the table."""

    config: Config
    split: Split
    folder: Path


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line; returns the exit code."""
    config = parse_config("crossval", arguments, Config)
    accelerator = make_accelerator(config.training.device, config.training.mixed_precision)
    corpus = load_corpus(config)
    jobs = make_jobs(config, corpus)
    results = {job.folder: run_job(job, corpus, accelerator) for job in jobs}
    if accelerator.is_main_process:
        rows = summarize(config, results)
        folder = crossval_folder(config)
        write_atomically(folder / "results.json", json.dumps(rows, indent=2) + "\n")
        print_summary(rows, title=_title(config, jobs))
        show(f"runs and results: {folder}")
    return 0


def crossval_folder(config: Config) -> Path:
    """Where the runs of the table are: `<model>/<fold>/seed<k>` under it."""
    return config.folder / "crossval"


def make_jobs(config: Config, corpus: LoadedCorpus) -> list[Job]:
    """Every run of the table: models x folds x seeds."""
    one = config.crossval.folds == "one"
    splits = [make_split(corpus.dialogues, config.splits)] if one else make_folds(corpus.dialogues, config.splits)
    return [
        Job(_variant(config, model, seed), split, crossval_folder(config) / model / split.name / f"seed{seed}")
        for model in config.crossval.models
        for split in splits
        for seed in range(config.crossval.seeds)
    ]


def _variant(config: Config, model: str, seed: int) -> Config:
    return replace(
        config,
        model=replace(config.model, type=model),  # type: ignore[arg-type]
        training=replace(config.training, seed=seed),
    )


def run_job(job: Job, corpus: LoadedCorpus, accelerator: Accelerator) -> dict[str, Any]:
    """Train and measure one run; one that is measured already is only read."""
    inputs = run_inputs(job.config, corpus, job.split)
    metrics = job.folder / METRICS_FILE
    if is_fresh(job.folder / MEASURED_FILE, inputs) and metrics.exists():
        return dict(json.loads(metrics.read_text(encoding="utf-8")))
    train_run(job.config, corpus, job.split, job.folder, accelerator)
    model = load_for(job.folder / BEST_FOLDER, corpus).to(accelerator.device)
    predictions = predict_dialogues(model, job.split.test, accelerator=accelerator)
    results: dict[str, Any] = {}
    if accelerator.is_main_process:
        results = write_results(job.config, job.split, model, predictions, job.folder)
        write_stamp(job.folder / MEASURED_FILE, inputs)
    accelerator.wait_for_everyone()
    return results


def summarize(config: Config, results: dict[Path, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a model: the mean over folds of each seed, then mean and standard deviation over seeds."""
    return [
        _summarize_model(model, [r for path, r in results.items() if path.parts[-3] == model], config)
        for model in config.crossval.models
    ]


def _summarize_model(model: str, runs: list[dict[str, Any]], config: Config) -> dict[str, Any]:
    seeds = config.crossval.seeds
    row: dict[str, Any] = {"model": model, "seeds": seeds, "folds": len(runs) // seeds}
    row["parameters"] = runs[0]["parameters"]
    for name in NAMES:
        values = np.array([run["heads"][FUSED][name] for run in runs]).reshape(-1, seeds).mean(axis=0)
        row[name] = {"mean": float(values.mean()), "std": float(values.std(ddof=1)) if seeds > 1 else None}
    return row


def _title(config: Config, jobs: Sequence[Job]) -> str:
    folds = sorted({job.split.name for job in jobs})
    return f"{config.name}: test {config.splits.scheme} {', '.join(folds)}; mean and deviation over seeds"


def print_summary(rows: Sequence[dict[str, Any]], *, title: str) -> None:
    """Print the table of models."""
    cells = [
        [row["model"], *(_mean_and_deviation(row[name]) for name in NAMES), f"{row['parameters']:,}", row["seeds"]]
        for row in rows
    ]
    show_table(title, ["model", *NAMES.values(), "parameters", "seeds"], cells)


def _mean_and_deviation(value: dict[str, Any]) -> str:
    return f"{value['mean']:.3f}" + ("" if value["std"] is None else f" ± {value['std']:.3f}")


if __name__ == "__main__":
    module_main("crossval")
