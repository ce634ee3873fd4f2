"""Predictions on a test split with facts about their utterances, and the file that a run folder keeps them in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpgnet.pipeline.common.files import parse_object, read_text, write_atomically
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.ratings import DIMENSIONS, is_number
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.inference import FUSED, Prediction
from lpgnet.pipeline.training.labels import NO_LABEL
from lpgnet.pipeline.training.splits import Split

PREDICTIONS_FILE = "predictions.jsonl"


@dataclass(frozen=True)
class Outcome:
    """A prediction on a test utterance.

    Attributes:
        condition: scripted, improvised, ..., if the corpus names it.
        speaker_seen: whether the speaker is also in training or development.
        text_seen: whether the same text is also in training or development; None without text.
    """

    prediction: Prediction
    speaker: str | None
    condition: str | None
    speaker_seen: bool
    text_seen: bool | None


def describe_test(split: Split, predictions: Sequence[Prediction]) -> list[Outcome]:
    """Join predictions with the facts about their utterances."""
    utterances = {u.utterance_id: u for dialogue in split.test for u in dialogue.utterances}
    known = [u for dialogue in (*split.train, *split.dev) for u in dialogue.utterances]
    speakers, texts = {u.speaker for u in known}, {_normalized(u) for u in known}
    return [
        Outcome(
            prediction=prediction,
            speaker=(utterance := utterances[prediction.utterance_id]).speaker,
            condition=utterance.condition,
            speaker_seen=utterance.speaker is not None and utterance.speaker in speakers,
            text_seen=None if (text := _normalized(utterance)) is None else text in texts,
        )
        for prediction in predictions
    ]


def _normalized(utterance: Utterance) -> str | None:
    """Return the text without differences of case and white space."""
    return " ".join(utterance.text.split()).casefold() if utterance.text else None


def write_predictions(path: Path, outcomes: Sequence[Outcome], classes: Sequence[str]) -> None:
    """Write one JSON object per utterance."""
    write_atomically(path, "".join(json.dumps(_row(one, classes), ensure_ascii=False) + "\n" for one in outcomes))


def _row(outcome: Outcome, classes: Sequence[str]) -> dict[str, object]:
    prediction = outcome.prediction
    return {
        "utterance_id": prediction.utterance_id,
        "dialogue_id": prediction.dialogue_id,
        "speaker": outcome.speaker,
        "condition": outcome.condition,
        "speaker_seen": outcome.speaker_seen,
        "text_seen": outcome.text_seen,
        "true": classes[prediction.label] if prediction.label != NO_LABEL else None,
        "predicted": classes[prediction.guess()],
        "probabilities": {
            head: dict(zip(classes, values, strict=True)) for head, values in prediction.probabilities.items()
        },
        "modality_weights": prediction.weights,
        "shares": dict(zip(classes, prediction.shares, strict=True)) if prediction.shares else {},
        "dimensions": prediction.dimensions,
        "ratings": prediction.ratings,
    }


def read_predictions(path: Path) -> tuple[list[Outcome], list[str]]:
    """Read what `write_predictions` wrote.

    Returns:
        The predictions, and the classes in order of their index.

    Raises:
        PipelineError: the file is missing or contains something else; names file and line.
    """
    outcomes: list[Outcome] = []
    classes: list[str] = []
    # Not splitlines: a speaker's name may contain a character that it takes for the end of a line.
    for number, line in enumerate(read_text(path).rstrip("\n").split("\n"), start=1):
        where = f"{path}, line {number}"
        try:
            row = parse_object(line, where=where)
            classes = classes or list(_objects(_objects(row, "probabilities"), FUSED))
            outcomes.append(_outcome(row, classes, heads=outcomes[0].prediction.probabilities if outcomes else [FUSED]))
        except KeyError as error:
            raise PipelineError(f"{where}: is not a prediction: it lacks {error}; evaluate the run again") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise PipelineError(f"{where}: is not a prediction: {error}; evaluate the run again") from None
    return outcomes, classes


def _outcome(row: dict[str, Any], classes: Sequence[str], *, heads: Iterable[str]) -> Outcome:
    every_head = _objects(row, "probabilities")
    if not (classes and every_head.keys() >= set(heads)):
        raise ValueError("probabilities lack a head or a class")
    if row["true"] is not None and row["true"] not in classes:
        raise ValueError(f"true is {row['true']!r:.60}, which is no class")
    if row["predicted"] not in classes:
        raise ValueError(f"predicted is {row['predicted']!r:.60}, which is no class")
    prediction = Prediction(
        utterance_id=_of_type(row, "utterance_id", str),
        dialogue_id=_of_type(row, "dialogue_id", str),
        label=NO_LABEL if row["true"] is None else classes.index(row["true"]),
        probabilities={
            head: [_probability(_objects(every_head, head), name) for name in classes] for head in every_head
        },
        weights={name: _probability(row["modality_weights"], name) for name in _objects(row, "modality_weights")},
        shares=_shares(row, classes),
        dimensions=_ratings(row, "dimensions"),
        ratings=_ratings(row, "ratings"),
    )
    return Outcome(
        prediction,
        speaker=_of_type(row, "speaker", str | None),
        condition=_of_type(row, "condition", str | None),
        speaker_seen=_of_type(row, "speaker_seen", bool),
        text_seen=_of_type(row, "text_seen", bool | None),
    )


def _of_type(row: Mapping[str, Any], name: str, kind: Any) -> Any:
    if not isinstance(row[name], kind):
        raise TypeError(f"{name} is {row[name]!r:.60}")
    return row[name]


def _objects(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = _of_type(row, name, dict)
    return found


def _probability(values: Mapping[str, Any], name: str) -> float:
    value = _of_type(values, name, int | float)
    # Sums of rounded numbers are a little more than 1; nan is in no range.
    if isinstance(value, bool) or not 0 <= value <= 1 + 1e-6:
        raise ValueError(f"the probability {name} is {value!r:.60}")
    return float(value)


def _shares(row: Mapping[str, Any], classes: Sequence[str]) -> tuple[float, ...]:
    """Read the shares of the votes; none in files of versions that did not know votes."""
    values = _objects({"shares": {}, **row}, "shares")
    shares = tuple(_probability(values, name) for name in classes) if values else ()
    if shares and abs(sum(shares) - 1) > 1e-3:
        raise ValueError(f"shares add up to {sum(shares):g}, not to 1")
    return shares


def _ratings(row: Mapping[str, Any], field: str) -> dict[str, float]:
    """Read ratings by dimension; none in files of versions that did not know them."""
    values = _objects({field: {}, **row}, field)
    if unknown := values.keys() - set(DIMENSIONS):
        raise ValueError(f"{field} has {min(unknown)!r:.60}, which is no dimension")
    if wrong := next((name for name, value in values.items() if not is_number(value)), None):
        raise ValueError(f"{wrong} in {field} is {values[wrong]!r:.60}")
    return {name: float(value) for name, value in values.items()}


def words_seen(outcomes: Sequence[Outcome]) -> float | None:
    """Return the share of labelled utterances whose text is also in training; None if none has text."""
    seen = [one.text_seen for one in outcomes if one.prediction.label != NO_LABEL and one.text_seen is not None]
    return sum(seen) / len(seen) if seen else None
