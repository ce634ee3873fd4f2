"""Comparison of two runs, or two rows of a table, on the same utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from lpgnet.pipeline.errors import PipelineError, shorten
from lpgnet.pipeline.evaluation.analysis import Runs, compare_runs, paired
from lpgnet.pipeline.evaluation.inference import Prediction
from lpgnet.pipeline.evaluation.metrics import Difference, mean_scores
from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE, Outcome, read_predictions
from lpgnet.pipeline.evaluation.tables import MEASURED_FILE
from lpgnet.pipeline.training.labels import NO_LABEL
from lpgnet.pipeline.training.refit import first_folder
from lpgnet.pipeline.training.runs import read_inputs

# Of shares and ratings that were computed on another machine.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Measured:
    """The test predictions of a run, or of a row of a table: by seed, with the predictions of all folds.

    Attributes:
        runs: by the name of the seed's first folder; a single run has an empty name.
    """

    folder: Path
    classes: tuple[str, ...]
    runs: dict[str, list[Outcome]]


@dataclass(frozen=True)
class McNemar:
    """McNemar's test on the utterances that only one of two classifiers got right.

    Attributes:
        only_first, only_second: number of utterances that only this one got right.
        p: exact two-sided probability of counts at least this uneven if both were right equally often.
    """

    only_first: int
    only_second: int
    p: float


def read_measured(folder: Path) -> Measured:
    """Read the predictions in a run's folder, or in a row's folder with its folds and seeds.

    Raises:
        PipelineError: the folder has no predictions, or its runs do not belong together.
    """
    whole = folder / PREDICTIONS_FILE
    files = [whole] if whole.exists() else _files_of_row(folder)
    if not files:
        raise PipelineError(f"{folder}: has no predictions; evaluate the run first, or name a row's folder")
    runs: dict[str, list[Outcome]] = {}
    classes: tuple[str, ...] = ()
    for file in files:
        outcomes, names = read_predictions(file)
        if classes and classes != tuple(names):
            raise PipelineError(
                f"{file}: has the classes {shorten(names)}, but the runs before it have {shorten(classes)}"
            )
        classes = tuple(names)
        runs.setdefault("" if file == whole else first_folder(file.parent).name, []).extend(outcomes)
    _check_tested_once(folder, runs)
    return Measured(folder, classes, runs)


def _check_tested_once(folder: Path, runs: dict[str, list[Outcome]]) -> None:
    for seed, outcomes in runs.items():
        tested = [one.prediction.utterance_id for one in outcomes]
        if len(set(tested)) < len(tested):
            raise PipelineError(
                f"{folder}: {seed} contains some test utterances twice; remove the folds of an earlier table"
            )


def _files_of_row(folder: Path) -> list[Path]:
    """Return the prediction files of a row's runs, of the refitted ones (`seed0-refit`) where there are any.

    Those that were moved aside (`seed0~1`) are none of them.

    Raises:
        PipelineError: the runs do not all have the same configuration.
    """
    found = sorted(folder.glob(f"*/seed*/{MEASURED_FILE}"))
    seeds = [path for path in found if first_folder(path.parent).name[4:].isdigit()]
    stamps = [path for path in seeds if first_folder(path.parent) != path.parent] or seeds
    protocols = {path: _protocol(path) for path in stamps}
    if odd := [path for path in stamps if protocols[path] != protocols[stamps[-1]]]:
        raise PipelineError(
            f"{odd[0].parent}: has a different configuration than {stamps[-1].parent}; run the table again, "
            "and remove the runs that do not belong to it"
        )
    return [path.with_name(PREDICTIONS_FILE) for path in stamps]


def _protocol(stamp: Path) -> dict[str, object]:
    """Read a run's inputs except for its fold and seed."""
    inputs = read_inputs(stamp)
    training = {name: value for name, value in inputs["training"].items() if name != "seed"}
    return {name: value for name, value in inputs.items() if name != "fold"} | {"training": training}


def check_comparable(first: Measured, second: Measured) -> None:
    """Refuse to compare predictions on different utterances, labels, classes, votes or ratings.

    Raises:
        PipelineError: names the first difference.
    """
    if first.classes != second.classes:
        raise PipelineError(
            f"{first.folder} has the classes {shorten(first.classes)}, {second.folder} has {shorten(second.classes)}"
        )
    if len(first.runs) != len(second.runs):
        raise PipelineError(
            f"{first.folder} has {len(first.runs)} seeds, {second.folder} has {len(second.runs)}; "
            "compare rows with the same number of seeds"
        )
    truths = {side.folder: [_truth(run) for run in side.runs.values()] for side in (first, second)}
    reference = truths[first.folder][0]
    for folder, runs in truths.items():
        for truth in runs:
            _check_same(first.folder, reference, folder, truth)
    _check_same_manifest(first, second)


def _check_same(one: Path, reference: dict[str, int], other: Path, truth: dict[str, int]) -> None:
    if extra := sorted(reference.keys() ^ truth.keys()):
        owner, missing = (one, other) if extra[0] in reference else (other, one)
        raise PipelineError(
            f"different test utterances: {len(extra)} are on one side only, such as {shorten(extra, most=3)} "
            f"({extra[0]} is in {owner}, not in {missing}); compare runs of the same test split"
        )
    if changed := [name for name, label in reference.items() if truth[name] != label]:
        raise PipelineError(f"different labels in {one} and {other}, such as those of {shorten(changed, most=3)}")


def _check_same_manifest(first: Measured, second: Measured) -> None:
    """Refuse an utterance with another dialogue, other votes or other ratings than before; a side may have neither."""
    seen: dict[str, Prediction] = {}
    for one in (outcome.prediction for side in (first, second) for run in side.runs.values() for outcome in run):
        before = seen.get(one.utterance_id, one)
        if conflict := _conflict(before, one):
            raise PipelineError(
                f"{first.folder}, {second.folder}: {one.utterance_id} {conflict}; compare runs on the same manifest"
            )
        seen[one.utterance_id] = one if one.shares or one.ratings else before


def _conflict(one: Prediction, other: Prediction) -> str | None:
    if one.dialogue_id != other.dialogue_id:
        return f"is in the dialogue {one.dialogue_id} and in {other.dialogue_id}"
    shared = one.ratings.keys() & other.ratings.keys()
    pairs = [*zip(one.shares, other.shares, strict=False), *((one.ratings[n], other.ratings[n]) for n in shared)]
    return "has different votes or ratings" if any(abs(a - b) > _ROUNDING for a, b in pairs) else None


def _truth(run: Sequence[Outcome]) -> dict[str, int]:
    return {one.prediction.utterance_id: one.prediction.label for one in run if one.prediction.label != NO_LABEL}


def differences(first: Measured, second: Measured, *, resamples: int, confidence: float) -> dict[str, Difference]:
    """Return first − second of the mean scores over seeds, by a paired bootstrap over dialogues."""
    return compare_runs(*_runs(first, second), first.classes, resamples=resamples, confidence=confidence)


def _runs(first: Measured, second: Measured) -> tuple[Runs, Runs]:
    return list(first.runs.values()), list(second.runs.values())


def both_scores(first: Measured, second: Measured) -> dict[str, tuple[float, float]]:
    """Return both sides' mean scores over seeds that `differences` are of, by the same names."""
    found: dict[str, tuple[float, float]] = {}
    for scoring, *matrices in paired(*_runs(first, second), first.classes):
        ours, theirs = (mean_scores(side.sum(1)[None], scoring=scoring) for side in matrices)
        found |= {name: (float(value[0]), float(theirs[name][0])) for name, value in ours.items()}
    return found


def mcnemar(first: Sequence[Outcome], second: Sequence[Outcome]) -> McNemar:
    """Test whether two classifiers are right equally often, from the utterances that only one of them got right.

    The test assumes independent utterances, which those of a dialogue are not; the bootstrap over dialogues does not.
    """
    ours, theirs = _right(first), _right(second)
    only_first = sum(ours[name] and not theirs[name] for name in ours)
    only_second = sum(theirs[name] and not ours[name] for name in ours)
    split = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, split).pvalue) if split else 1.0)


def _right(run: Sequence[Outcome]) -> dict[str, bool]:
    known = (one.prediction for one in run if one.prediction.label != NO_LABEL)
    return {prediction.utterance_id: prediction.guess() == prediction.label for prediction in known}
