"""Evaluation: a trained model on its test split, with intervals, by group, and a model card that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpgnet.model import EmotionModel, load_model
from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show, show_table
from lpgnet.pipeline.common.files import write_atomically
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.analysis import score, score_conditions, score_speakers, speaker_gap
from lpgnet.pipeline.evaluation.calibration import describe_calibration
from lpgnet.pipeline.evaluation.inference import FUSED, predict_dialogues, temperature_of
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.evaluation.missing import hide_all_but, kept_modalities, measure_missing, missing_curves
from lpgnet.pipeline.evaluation.predictions import (
    PREDICTIONS_FILE,
    Outcome,
    describe_test,
    words_seen,
    write_predictions,
)
from lpgnet.pipeline.reports.card import write_card
from lpgnet.pipeline.reports.crossval import with_interval
from lpgnet.pipeline.reports.plots import plot_confusion, plot_missing, plot_reliability
from lpgnet.pipeline.training.runs import (
    LoadedCorpus,
    best_folder,
    check_same_protocol,
    load_corpus,
    run_inputs,
    training_cost,
)
from lpgnet.pipeline.training.splits import Split, make_split, overlapping_speakers

if TYPE_CHECKING:
    from accelerate import Accelerator

METRICS_FILE = "metrics.json"


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line; returns the exit code."""
    config = parse_config("evaluate", arguments, Config)
    accelerator = make_accelerator(config.training.device)
    corpus = load_corpus(config)
    split = make_split(corpus.dialogues, config.splits)
    results, folder = evaluate_run(config, corpus, split, config.run_folder, accelerator)
    if accelerator.is_main_process:
        print_results(results, title=f"{config.run_folder}: test split {split.name}")
        show(f"metrics, predictions and plots: {folder}")
    return 0


def evaluate_run(
    config: Config, corpus: LoadedCorpus, split: Split, run_folder: Path, accelerator: Accelerator
) -> tuple[dict[str, Any], Path]:
    """Measure a run's best model on the test split and write what was found.

    With `evaluation.modalities` the model does without the others, and the results stand in a folder of their own
    in the run's.

    Returns:
        What `metrics.json` holds, and the folder that it is in.

    Raises:
        PipelineError: the run has no trained model, or one trained on other embeddings, labels, splits or data.
    """
    model = load_for(best_folder(run_folder), corpus).to(accelerator.device)
    check_same_protocol(run_folder, run_inputs(config, corpus, split))
    kept = kept_modalities(model, config.evaluation)
    dialogues = hide_all_but(split.test, kept, model)
    temperature = temperature_of(model)
    predictions = predict_dialogues(model, dialogues, accelerator=accelerator, temperature=temperature)
    missing = measure_missing(model, dialogues, kept, config, accelerator)
    results = {
        **describe_run(config, split, model),
        "training": training_cost(run_folder),
        "modalities": kept,
        **measure_predictions(config, describe_test(split, predictions), temperature),
        "missing": missing,
    }
    whole = kept == model.config.modality_names
    folder = run_folder if whole else run_folder / f"with-{'-'.join(kept)}-alone"
    if accelerator.is_main_process:
        write_results(results, describe_test(split, predictions), folder)
        if whole:
            write_card(run_folder, model, config, results)
    accelerator.wait_for_everyone()
    return results, folder


def load_for(folder: Path, corpus: LoadedCorpus) -> EmotionModel:
    """Load a model and check that the corpus was embedded by the encoders that the model was trained with.

    Raises:
        PipelineError: it was embedded by others.
    """
    model = load_model(folder)
    check_encoders(model, {name: spec.fingerprint for name, spec in corpus.specs.items()}, folder=folder)
    return model.eval()


def check_encoders(model: EmotionModel, fingerprints: dict[str, str], *, folder: Path) -> None:
    """Refuse embeddings that the model was not trained on."""
    for name, spec in model.config.encoders.items():
        if fingerprints.get(name) != spec["fingerprint"]:
            raise PipelineError(
                f"{folder}: was trained on {name} embeddings by {spec['name']} ({spec['fingerprint'][:12]}), "
                f"and these are by another encoder ({fingerprints.get(name, 'none')[:12]}); "
                f"set encoders.{name} as it was, or train anew"
            )


def describe_run(config: Config, split: Split, model: EmotionModel) -> dict[str, Any]:
    """What was tested on what."""
    return {
        "fold": split.name,
        "dialogues": len(split.test),
        "classes": config.classes,
        "speaker_overlap": overlapping_speakers(split),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def measure_predictions(config: Config, outcomes: Sequence[Outcome], temperature: float) -> dict[str, Any]:
    """Scores by head, condition and speaker, and the calibration, of calibrated predictions."""
    classes, settings = config.classes, config.evaluation
    predictions = [one.prediction for one in outcomes]
    heads = predictions[0].probabilities
    return {
        "heads": {head: score([outcomes], classes, settings, head=head) for head in heads},
        "words_seen": words_seen(outcomes),
        "conditions": score_conditions([outcomes], classes, settings),
        "speakers": score_speakers([outcomes], classes, settings),
        "speaker_gap": speaker_gap([outcomes], classes, settings),
        "calibration": describe_calibration(predictions, temperature),
    }


def write_results(results: dict[str, Any], outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write metrics, predictions and plots."""
    folder.mkdir(parents=True, exist_ok=True)
    classes, fused = results["classes"], results["heads"][FUSED]
    write_atomically(folder / METRICS_FILE, json.dumps(results, indent=2) + "\n")
    write_predictions(folder / PREDICTIONS_FILE, outcomes, classes)
    plot_confusion(fused["confusion"], classes, folder / "confusion.png", title=f"test: {results['fold']}")
    plot_reliability(results["calibration"], folder / "reliability.png")
    if results["missing"]:
        curves = missing_curves(results["missing"], fused["confusion"])
        plot_missing({"": curves}, folder / "missing.png")


def print_results(results: dict[str, Any], *, title: str) -> None:
    """Print each head's scores with their intervals, F1 per class, and the calibration."""
    heads, classes, calibration = results["heads"], results["classes"], results["calibration"]
    show_table(
        f"{title}: {heads[FUSED]['n']} labelled utterances in {results['dialogues']} dialogues",
        ["head", *NAMES.values()],
        [[head, *(with_interval(values, name) for name in NAMES)] for head, values in heads.items()],
    )
    show_table(
        "F1 per class",
        ["head", *classes],
        [[head, *(f"{values['f1'][name]:.3f}" for name in classes)] for head, values in heads.items()],
    )
    show(
        f"expected calibration error: {calibration['before']['error']:.3f} as trained, "
        f"{calibration['after']['error']:.3f} at temperature {calibration['temperature']:.2f}"
    )
    if results["speaker_overlap"]:
        show(f"{len(results['speaker_overlap'])} speakers of the test split are in another split too")


if __name__ == "__main__":
    module_main("evaluate")
