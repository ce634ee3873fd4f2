"""What a model was trained on, which its checkpoint keeps and people are told wherever its labels are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lpgnet.pipeline.common.files import from_json
from lpgnet.pipeline.common.ranges import Count, Fraction, Hours, Total
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import in_one_line

if TYPE_CHECKING:
    from lpgnet.model import EmotionConfig
    from lpgnet.pipeline.config import TrainingConfig
    from lpgnet.pipeline.training.dialogues import Dialogue
    from lpgnet.pipeline.training.runs import LoadedCorpus
    from lpgnet.pipeline.training.splits import Split

# Names are those of whoever trained the model (characters).
_LONGEST_NAME = 60
SYNTHETIC = "warning: trained on synthetic voices: its labels for real speech mean nothing"
UNKNOWN = "What the model was trained on is not known: its config.json does not say."


@dataclass(frozen=True)
class HeldOutScore:
    """What a model scored on dialogues that it was not trained on.

    Attributes:
        n: labelled utterances.
        new_speakers: whether nobody who speaks there speaks in training; None where speakers have no names.
    """

    split: Literal["development", "test"]
    weighted_f1: Fraction
    ua: Fraction
    n: Count
    new_speakers: bool | None


@dataclass(frozen=True)
class TrainedOn:
    """What a model was trained on.

    Attributes:
        corpus: its name.
        about: what kind of speech it holds.
        hours: of the utterances; None where no length is known.
        utterances: those that it learned from, by a label, votes or ratings.
        speakers: 0 where they have no names.
        score: None until one is measured.
    """

    corpus: str
    about: About
    hours: Hours | None
    dialogues: Total
    utterances: Total
    speakers: Total
    score: HeldOutScore | None = None


def describe_training(
    corpus: LoadedCorpus, split: Split, recipe: TrainingConfig, dimensions: Sequence[str]
) -> TrainedOn:
    """Describe what a model learns from.

    Args:
        corpus: the whole of it.
        split: whose training dialogues it learns from.
        recipe: which says what is learned of them.
        dimensions: that the model predicts.
    """
    # Imported late: it needs torch, and what a model says of its training does not.
    from lpgnet.pipeline.training.targets import is_learned

    utterances = [
        utterance
        for dialogue in split.train
        for utterance, learned in zip(dialogue.utterances, is_learned(dialogue, recipe, dimensions), strict=True)
        if learned
    ]
    seconds = [known for utterance in utterances if (known := _length(utterance, corpus.lengths)) is not None]
    return TrainedOn(
        corpus=corpus.name,
        about=corpus.about,
        hours=round(sum(seconds) / 3600, 3) if seconds else None,
        dialogues=len(split.train),
        utterances=len(utterances),
        speakers=len(_speakers(utterances)),
    )


def score_held_out(
    split: Literal["development", "test"],
    scores: Mapping[str, float],
    dialogues: Sequence[Dialogue],
    known: Sequence[Dialogue],
) -> HeldOutScore:
    """Describe a score.

    Args:
        split: what was scored.
        scores: `weighted_f1` and `ua`, among others.
        dialogues: of that split.
        known: the dialogues that the model was made from.
    """
    utterances = list(_labelled(dialogues))
    speakers = _speakers(utterances)
    named = all(utterance.speaker for utterance in utterances)
    new = speakers.isdisjoint(_speakers(u for dialogue in known for u in dialogue.utterances)) if named else None
    return HeldOutScore(split, round(scores["weighted_f1"], 4), round(scores["ua"], 4), len(utterances), new)


def _labelled(dialogues: Iterable[Dialogue]) -> Iterable[Utterance]:
    for dialogue in dialogues:
        # Classes are numbered from 0 on.
        yield from (u for u, label in zip(dialogue.utterances, dialogue.labels.tolist(), strict=True) if label >= 0)


def _length(utterance: Utterance, lengths: Mapping[str, float]) -> float | None:
    if utterance.utterance_id in lengths or utterance.end is None:
        return lengths.get(utterance.utterance_id)
    return utterance.end - (utterance.start or 0.0)


def _speakers(utterances: Iterable[Utterance]) -> set[str]:
    return {utterance.speaker for utterance in utterances if utterance.speaker}


def read_trained_on(model: EmotionConfig, folder: Path) -> TrainedOn | None:
    """Read what a model of some folder was trained on; None where its `config.json` does not say.

    Raises:
        PipelineError: a value is wrong; names the file and the key.
    """
    where = f"{folder / 'config.json'}: key 'trained_on'"
    return from_json(model.trained_on, TrainedOn, where=where) if model.trained_on else None


def about_model(model: EmotionConfig, folder: Path) -> tuple[str, ...]:
    """Say what the model of some folder is good for: a sentence on what it was trained on, and a warning if needed.

    Raises:
        PipelineError: what `config.json` says of it is wrong; names the file and the key.
    """
    found = read_trained_on(model, folder)
    if found is None:
        return (UNKNOWN,)
    return (_sentence(found), *([SYNTHETIC] if found.about.synthetic else []))


def _sentence(found: TrainedOn) -> str:
    by = f" by {_count(found.speakers, 'speaker')}" if found.speakers else ""
    size = f"{_count(found.utterances, 'utterance')}{by} in {_count(found.dialogues, 'dialogue')}"
    length = "" if found.hours is None else f", {_time(found.hours)}"
    score = "not scored on others" if found.score is None else _score(found.score)
    return f"The model was trained on {_name(found.corpus)} ({_kind(found.about)}): {size}{length}; {score}."


def _kind(about: About) -> str:
    language = _name(about.language) if about.language else "language unknown"
    speech = f"{about.speech} speech" if about.speech else "acted or natural speech: unknown"
    return ", ".join([language, speech, *(["synthetic voices"] if about.synthetic else [])])


def _score(score: HeldOutScore) -> str:
    chosen = " (which the epoch was chosen on)" if score.split == "development" else ""
    speakers = {True: " by other speakers", False: " by speakers of whom it knows some", None: ""}[score.new_speakers]
    whose = f"{_count(score.n, f'{score.split} utterance')}{speakers}{chosen}"
    return f"weighted F1 {score.weighted_f1:.2f} and UA {score.ua:.2f} on {whose}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _time(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"


def _name(text: str) -> str:
    return in_one_line(text[:_LONGEST_NAME])
