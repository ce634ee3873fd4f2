"""A trained model on its test split: scores with intervals, by group, and with modalities missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lpgnet.model import EmotionModel, load_model
from lpgnet.pipeline.common.files import read_json, write_json
from lpgnet.pipeline.config import Config
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.analysis import (
    ConditionScores,
    Scores,
    SpeakerGap,
    SpeakerScores,
    score,
    score_conditions,
    score_speakers,
    speaker_gap,
)
from lpgnet.pipeline.evaluation.calibration import Calibration, measure_calibration
from lpgnet.pipeline.evaluation.inference import FUSED, predict_dialogues, temperature_of
from lpgnet.pipeline.evaluation.missing import Missing, hide_all_but, kept_modalities, measure_missing
from lpgnet.pipeline.evaluation.predictions import (
    PREDICTIONS_FILE,
    Outcome,
    describe_test,
    words_seen,
    write_predictions,
)
from lpgnet.pipeline.training.runs import (
    LoadedCorpus,
    TrainingCost,
    best_folder,
    check_same_protocol,
    run_inputs,
    training_cost,
)
from lpgnet.pipeline.training.splits import Split, overlapping_speakers

if TYPE_CHECKING:
    from accelerate import Accelerator

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class RunResults:
    """What `metrics.json` holds of a run.

    Attributes:
        fold: name of the test split.
        dialogues: tested.
        speaker_overlap: speakers of the test split who are in another split too.
        parameters: of the model, without the encoders.
        training: None where the run's folder does not tell.
        modalities: that the model got.
        heads: by head, `fused` and the branch heads.
        words_seen: share of labelled utterances whose words stand verbatim in training; None without words.
        conditions, speakers: by name.
        speaker_gap: None unless some speakers are in training and others are not.
        missing: by modality.
    """

    fold: str
    dialogues: int
    classes: list[str]
    speaker_overlap: list[str]
    parameters: int
    training: TrainingCost | None
    modalities: list[str]
    heads: dict[str, Scores]
    words_seen: float | None
    conditions: dict[str, ConditionScores]
    speakers: dict[str, SpeakerScores]
    speaker_gap: SpeakerGap | None
    calibration: Calibration
    missing: Missing

    @property
    def fused(self) -> Scores:
        """The scores of the head that predicts."""
        return self.heads[FUSED]


def evaluate_run(
    config: Config, corpus: LoadedCorpus, split: Split, run_folder: Path, accelerator: Accelerator
) -> tuple[RunResults, Path]:
    """Measure a run's best model on the test split, and write `metrics.json` and `predictions.jsonl`.

    With `evaluation.modalities` the model does without the others, and the results stand in a folder of their own
    in the run's.

    Returns:
        The results and the folder that they are in.

    Raises:
        PipelineError: the run has no trained model, or one trained on other embeddings, labels, splits or data.
    """
    model = load_for(best_folder(run_folder), corpus).to(accelerator.device)
    check_same_protocol(run_folder, run_inputs(config, corpus, split))
    kept = kept_modalities(model, config.evaluation)
    dialogues = hide_all_but(split.test, kept, model)
    temperature = temperature_of(model)
    predictions = predict_dialogues(model, dialogues, accelerator=accelerator, temperature=temperature)
    outcomes = describe_test(split, predictions)
    missing = measure_missing(model, dialogues, kept, config, accelerator)
    results = measure_run(
        config,
        split,
        outcomes,
        temperature,
        modalities=kept,
        missing=missing,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        training=training_cost(run_folder),
    )
    whole = kept == model.config.modality_names
    folder = run_folder if whole else run_folder / f"with-{'-'.join(kept)}-alone"
    if accelerator.is_main_process:
        write_results(results, outcomes, folder)
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


def measure_run(
    config: Config,
    split: Split,
    outcomes: Sequence[Outcome],
    temperature: float,
    *,
    modalities: list[str],
    missing: Missing,
    parameters: int,
    training: TrainingCost | None,
) -> RunResults:
    """Score calibrated test predictions by head, condition and speaker."""
    classes, settings = config.classes, config.evaluation
    predictions = [one.prediction for one in outcomes]
    return RunResults(
        fold=split.name,
        dialogues=len(split.test),
        classes=classes,
        speaker_overlap=overlapping_speakers(split),
        parameters=parameters,
        training=training,
        modalities=modalities,
        heads={head: score([outcomes], classes, settings, head=head) for head in predictions[0].probabilities},
        words_seen=words_seen(outcomes),
        conditions=score_conditions([outcomes], classes, settings),
        speakers=score_speakers([outcomes], classes, settings),
        speaker_gap=speaker_gap([outcomes], classes, settings),
        calibration=measure_calibration(predictions, temperature),
        missing=missing,
    )


def write_results(results: RunResults, outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write metrics and predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / METRICS_FILE, results)
    write_predictions(folder / PREDICTIONS_FILE, outcomes, results.classes)


def read_results(folder: Path) -> RunResults:
    """Read a run's metrics.

    Raises:
        PipelineError: they are missing or damaged.
    """
    return read_json(folder / METRICS_FILE, RunResults)
