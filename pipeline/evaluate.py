"""Evaluation: a trained model on its test split, with intervals, per head, and a model card that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model import EmotionModel, load_model
from pipeline.cli import module_main
from pipeline.config import Config, EvaluationConfig, parse_config
from pipeline.console import show, show_table
from pipeline.errors import PipelineError
from pipeline.inference import FUSED, Prediction, predict_dialogues
from pipeline.manifest import write_atomically
from pipeline.metrics import NAMES, bootstrap_intervals, dialogue_confusions, measure
from pipeline.processes import make_accelerator
from pipeline.reports.card import write_card
from pipeline.reports.plots import plot_confusion
from pipeline.runs import LoadedCorpus, best_folder, load_corpus
from pipeline.splits import Split, make_split, overlapping_speakers

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.jsonl"


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line; returns the exit code."""
    config = parse_config("evaluate", arguments, Config)
    accelerator = make_accelerator(config.training.device)
    corpus = load_corpus(config)
    split = make_split(corpus.dialogues, config.splits)
    model = load_for(best_folder(config.run_folder), corpus).to(accelerator.device)
    predictions = predict_dialogues(model, split.test, accelerator=accelerator)
    if accelerator.is_main_process:
        results = write_results(config, split, model, predictions, config.run_folder)
        print_results(results, title=f"{config.run_folder}: test split {split.name}")
        show(f"metrics, predictions and plots: {config.run_folder}")
    return 0


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


def write_results(
    config: Config, split: Split, model: EmotionModel, predictions: Sequence[Prediction], folder: Path
) -> dict[str, Any]:
    """Measure predictions on the test split and write metrics, predictions, plot and model card into the run's folder.

    Returns:
        What `metrics.json` holds.
    """
    results: dict[str, Any] = {
        "fold": split.name,
        "dialogues": len(split.test),
        "classes": config.classes,
        "speaker_overlap": overlapping_speakers(split),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "heads": {
            head: _measure_head(predictions, config.classes, head, config.evaluation)
            for head in predictions[0].probabilities
        },
    }
    write_atomically(folder / METRICS_FILE, json.dumps(results, indent=2) + "\n")
    lines = "".join(json.dumps(_row(prediction, config.classes)) + "\n" for prediction in predictions)
    write_atomically(folder / PREDICTIONS_FILE, lines)
    fused = results["heads"][FUSED]
    plot_confusion(fused["confusion"], config.classes, folder / "confusion.png", title=f"test: {split.name}")
    write_card(folder, model, config, results)
    return results


def _measure_head(
    predictions: Sequence[Prediction], classes: Sequence[str], head: str, config: EvaluationConfig
) -> dict[str, Any]:
    per_dialogue = dialogue_confusions(predictions, classes, head=head)
    intervals = bootstrap_intervals(per_dialogue, resamples=config.bootstrap, confidence=config.confidence)
    return {**asdict(measure(per_dialogue.sum(0), classes)), "intervals": intervals}


def _row(prediction: Prediction, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "utterance_id": prediction.utterance_id,
        "dialogue_id": prediction.dialogue_id,
        "true": classes[prediction.label] if prediction.label >= 0 else None,
        "predicted": classes[prediction.guess()],
        "probabilities": {
            head: dict(zip(classes, values, strict=True)) for head, values in prediction.probabilities.items()
        },
        "modality_weights": prediction.weights,
    }


def print_results(results: dict[str, Any], *, title: str) -> None:
    """Print each head's scores with their intervals, and F1 per class."""
    heads, classes = results["heads"], results["classes"]
    count = heads[FUSED]["n"]
    show_table(
        f"{title}: {count} labelled utterances in {results['dialogues']} dialogues",
        ["head", *NAMES.values()],
        [[head, *(with_interval(values, name) for name in NAMES)] for head, values in heads.items()],
    )
    show_table(
        "F1 per class",
        ["head", *classes],
        [[head, *(f"{values['f1'][name]:.3f}" for name in classes)] for head, values in heads.items()],
    )
    if results["speaker_overlap"]:
        show(f"{len(results['speaker_overlap'])} speakers of the test split are in another split too")


def with_interval(values: dict[str, Any], name: str) -> str:
    low, high = values["intervals"].get(name, (values[name], values[name]))
    return f"{values[name]:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    module_main("evaluate")
