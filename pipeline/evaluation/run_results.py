"""Results of a trained model on its test split: scores with intervals, by group, and with modalities missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lpgnet.model import EmotionConfig, EmotionModel, load_model
from lpgnet.model.base import CONFIG_FILE
from lpgnet.model.configuration import write_config
from lpgnet.pipeline.common.files import read_json, to_json, write_json
from lpgnet.pipeline.config import Config, EvaluationConfig, TrainingConfig
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.analysis import (
    ConditionScores,
    Scores,
    SeenGap,
    SpeakerScores,
    score,
    score_conditions,
    score_known,
    score_speakers,
    speaker_gap,
    text_gap,
)
from lpgnet.pipeline.evaluation.calibration import Calibration, measure_calibration
from lpgnet.pipeline.evaluation.chosen_epochs import ChosenEpoch, chosen_epoch
from lpgnet.pipeline.evaluation.class_shares import ClassShare, class_shares
from lpgnet.pipeline.evaluation.dimensions import DimensionScores, score_dimensions
from lpgnet.pipeline.evaluation.distributions import DistributionScores, score_distribution
from lpgnet.pipeline.evaluation.inference import FUSED, predict_dialogues, temperature_of
from lpgnet.pipeline.evaluation.missing import Missing, hide_all_but, kept_modalities, measure_missing
from lpgnet.pipeline.evaluation.predictions import (
    PREDICTIONS_FILE,
    Outcome,
    describe_test,
    words_seen,
    write_predictions,
)
from lpgnet.pipeline.training.freshness import INPUTS_FILE, is_done, run_inputs
from lpgnet.pipeline.training.runs import (
    LoadedCorpus,
    TrainingCost,
    best_folder,
    check_same_protocol,
    model_encoders,
    read_inputs,
    recipe_of,
    training_cost,
)
from lpgnet.pipeline.training.splits import Split, overlapping_speakers
from lpgnet.pipeline.training.standardization import standardize_groups
from lpgnet.pipeline.training.trained_on import describe_training, score_held_out
from lpgnet.pipeline.training.tuned import TuningScores, check_unseen

if TYPE_CHECKING:
    from accelerate import Accelerator

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class RunResults:
    """The contents of a run's `metrics.json`.

    Attributes:
        fold: name of the test split.
        dialogues: number of dialogues in the test split.
        speaker_overlap: speakers of the test split who are also in another split.
        parameters: number of the model's parameters, without the encoders.
        training: what the training cost; None if the run's folder does not say.
        modalities: modalities that the model got.
        heads: scores by head, `fused` and the branch heads.
        words_seen: share of labelled utterances whose text is also in training; None without text.
        conditions, speakers: scores by name.
        speaker_gap: None unless some speakers are in training and others are not.
        missing: confusion matrices with utterances lacking a modality, by modality.
        distribution: scores of the fused head against the raters' votes; None where nobody voted.
        dimensions: scores of each dimension that the model predicts and raters rated.
        tuned: scores of the encoders that were tuned, by modality.
        chosen: the epoch of the model; None if the run's folder does not say, or the model lacks some of its inputs.
        recipe: how it was trained.
        dropout: of the model.
        class_shares: how often each class is true and predicted.
        text_gap: None unless some utterances have the text of one in training and others have not.
        model_type: of the model, as its own configuration has it.
        standardise: whose statistics its inputs are standardized by, likewise.
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
    speaker_gap: SeenGap | None
    calibration: Calibration
    missing: Missing
    distribution: DistributionScores | None = None
    dimensions: dict[str, DimensionScores] = field(default_factory=dict)
    tuned: dict[str, TuningScores] = field(default_factory=dict)
    chosen: ChosenEpoch | None = None
    recipe: TrainingConfig | None = None
    dropout: float | None = None
    class_shares: dict[str, ClassShare] = field(default_factory=dict)
    text_gap: SeenGap | None = None
    model_type: str = "model"
    standardise: str = "corpus"

    @property
    def fused(self) -> Scores:
        """The scores of the head that predicts."""
        return self.heads[FUSED]


def evaluate_run(
    config: Config, corpus: LoadedCorpus, split: Split, run_folder: Path, accelerator: Accelerator
) -> tuple[RunResults, Path]:
    """Measure a run's best model on the test split, and write `metrics.json` and `predictions.jsonl`.

    With `evaluation.modalities` the model gets no other modalities, and the results go to a subfolder of the run's
    folder.

    Returns:
        The results and their folder.

    Raises:
        PipelineError: the run has no trained model, or one trained on different embeddings, labels, splits or data; or
            an encoder was tuned on what is tested on.
    """
    check_unseen(corpus.tuned, split)
    model = load_for(best_folder(run_folder), corpus).to(accelerator.device)
    check_same_protocol(run_folder, run_inputs(config, corpus, split.name))
    kept = kept_modalities(model, config.evaluation)
    dialogues = hide_all_but(split.test, kept, model)
    # Last of all: what is hidden from the model is no part of the statistics of its group either.
    read = partial(standardize_groups, model=model, among=corpus.dialogues)
    temperature = temperature_of(model)
    predictions = predict_dialogues(model, read(dialogues), accelerator=accelerator, temperature=temperature)
    outcomes = describe_test(split, predictions)
    missing = measure_missing(
        model,
        dialogues,
        kept,
        read=read,
        classes=config.classes,
        shares=config.evaluation.missing_shares,
        accelerator=accelerator,
    )
    whole = kept == model.config.modality_names
    tested = MeasuredModel(
        kept,
        temperature,
        model.num_parameters(),
        training_cost(run_folder),
        missing,
        model.config.rated,
        tuned=_tuned(corpus, kept),
        chosen=chosen_epoch(run_folder, score_known(predictions, config.classes)) if whole else None,
        recipe=recipe_of(run_folder),
        dropout=getattr(model.config, "dropout", None),
        model_type=model.config.model_type,
        standardise=model.config.standardise,
    )
    results = measure_run(tested, split, outcomes, config.classes, config.evaluation)
    folder = run_folder if whole else run_folder / f"with-{'-'.join(kept)}-alone"
    if accelerator.is_main_process:
        write_results(results, outcomes, folder)
        if whole:
            _tell_score(run_folder, model.config, corpus, split, results)
    accelerator.wait_for_everyone()
    return results, folder


def _tuned(corpus: LoadedCorpus, modalities: Sequence[str]) -> dict[str, TuningScores]:
    return {name: record.scores for name, record in corpus.tuned.records.items() if name in modalities}


def _tell_score(
    run_folder: Path, model: EmotionConfig, corpus: LoadedCorpus, split: Split, results: RunResults
) -> None:
    """Let the model of a finished run say what it was trained on and what it scored on the test split.

    While a run is trained, its best model may become another one at any time.
    """
    inputs = read_inputs(run_folder / INPUTS_FILE)
    score = score_held_out("test", asdict(results.fused), split.test, (*split.train, *split.dev))
    found = replace(describe_training(corpus, split, recipe_of(run_folder), model.dimensions), score=score)
    trained_on = cast(dict[str, Any], to_json(found))
    if trained_on != model.trained_on and is_done(run_folder, inputs):
        write_config(best_folder(run_folder) / CONFIG_FILE, replace(model, trained_on=trained_on))


def load_for(folder: Path, corpus: LoadedCorpus) -> EmotionModel:
    """Load a model, and check that the corpus was embedded by the encoders that the model was trained with.

    Raises:
        PipelineError: the encoders are different.
    """
    model = load_model(folder)
    check_encoders(model, {name: spec.fingerprint for name, spec in corpus.specs.items()}, folder=folder)
    return model.eval()


def check_encoders(model: EmotionModel, fingerprints: dict[str, str], *, folder: Path) -> None:
    """Refuse embeddings of other encoders than the model was trained with.

    Raises:
        PipelineError: an encoder is different; names both.
    """
    for name, spec in model_encoders(model, folder).items():
        if fingerprints.get(name) != spec.fingerprint:
            raise PipelineError(
                f"{folder}: was trained on {name} embeddings from {spec.name} ({spec.fingerprint[:12]}), "
                f"but these are from another encoder ({fingerprints.get(name, 'none')[:12]}); "
                f"set encoders.{name} to the encoder used in training, or train again"
            )


@dataclass(frozen=True)
class MeasuredModel:
    """The facts about a model that its results report; see `RunResults` for those not explained here.

    Attributes:
        temperature: the calibration temperature of its predictions.
        ranges: of the dimensions that it predicts.
        tuned: scores of those of its encoders that were tuned.
    """

    modalities: list[str]
    temperature: float
    parameters: int
    training: TrainingCost | None
    missing: Missing
    ranges: Ranges = field(default_factory=dict)
    tuned: dict[str, TuningScores] = field(default_factory=dict)
    chosen: ChosenEpoch | None = None
    recipe: TrainingConfig | None = None
    dropout: float | None = None
    model_type: str = "model"
    standardise: str = "corpus"


def measure_run(
    model: MeasuredModel, split: Split, outcomes: Sequence[Outcome], classes: list[str], settings: EvaluationConfig
) -> RunResults:
    """Score a model's calibrated test predictions by head, condition and speaker, and against votes and ratings."""
    predictions = [one.prediction for one in outcomes]
    return RunResults(
        fold=split.name,
        dialogues=len(split.test),
        classes=classes,
        speaker_overlap=overlapping_speakers(split),
        parameters=model.parameters,
        training=model.training,
        modalities=model.modalities,
        heads={head: score([outcomes], classes, settings, head=head) for head in predictions[0].probabilities},
        words_seen=words_seen(outcomes),
        conditions=score_conditions([outcomes], classes, settings),
        speakers=score_speakers([outcomes], classes, settings),
        speaker_gap=speaker_gap([outcomes], classes, settings),
        calibration=measure_calibration([[(predictions, model.temperature)]], settings),
        missing=model.missing,
        distribution=score_distribution([predictions], settings),
        dimensions=score_dimensions([predictions], model.ranges, settings),
        tuned=model.tuned,
        chosen=model.chosen,
        recipe=model.recipe,
        dropout=model.dropout,
        class_shares=class_shares([outcomes], classes, settings),
        text_gap=text_gap([outcomes], classes, settings),
        model_type=model.model_type,
        standardise=model.standardise,
    )


def write_results(results: RunResults, outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write a run's metrics and predictions to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / METRICS_FILE, results)
    write_predictions(folder / PREDICTIONS_FILE, outcomes, results.classes)


def read_results(folder: Path) -> RunResults:
    """Read a run's metrics.

    Raises:
        PipelineError: the file is missing or damaged.
    """
    return read_json(folder / METRICS_FILE, RunResults)
