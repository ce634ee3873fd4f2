"""Splits by whole dialogues: which ones train, choose the epoch and test; splits that leak are refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from lpgnet.model import EmotionModel
from lpgnet.pipeline.config import SplitsConfig
from lpgnet.pipeline.errors import PipelineError, shorten
from lpgnet.pipeline.training.dialogues import NO_LABEL, Dialogue
from lpgnet.pipeline.training.standardization import standardize_groups


@dataclass(frozen=True)
class Split:
    """The dialogues of one fold.

    Attributes:
        name: of the fold: what is held out.
    """

    name: str
    train: tuple[Dialogue, ...]
    dev: tuple[Dialogue, ...]
    test: tuple[Dialogue, ...]

    def parts(self) -> dict[str, tuple[Dialogue, ...]]:
        """Return the dialogues by the name of their part."""
        return {"train": self.train, "dev": self.dev, "test": self.test}

    def standardized(self, model: EmotionModel, *, among: Sequence[Dialogue]) -> Split:
        """Return the split as a model reads it, by the statistics of the groups of a whole corpus."""
        dialogues = [dialogue for part in self.parts().values() for dialogue in part]
        read = iter(standardize_groups(dialogues, model, among=among))
        train, dev, test = (tuple(islice(read, len(part))) for part in self.parts().values())
        return replace(self, train=train, dev=dev, test=test)


def make_split(dialogues: Sequence[Dialogue], config: SplitsConfig) -> Split:
    """Make the configured split.

    Raises:
        PipelineError: the scheme does not fit the corpus, or the split leaks.
    """
    if config.scheme == "manifest":
        return _finish("manifest", _by_manifest(dialogues), config)
    held_out = config.test or groups(dialogues, config)[-1:]
    return _hold_out(dialogues, held_out, config)


def make_folds(dialogues: Sequence[Dialogue], config: SplitsConfig) -> list[Split]:
    """Make every fold of the scheme: each group is the test split once.

    Raises:
        PipelineError: the scheme does not fit the corpus, or a split leaks.
    """
    if config.scheme == "manifest":
        return [make_split(dialogues, config)]
    return [_hold_out(dialogues, [group], config) for group in groups(dialogues, config)]


def groups(dialogues: Sequence[Dialogue], config: SplitsConfig) -> list[str]:
    """List the groups that the scheme holds out: sessions, speakers, or numbered parts of the dialogues."""
    return sorted({group for dialogue in dialogues for group in _groups_of(dialogues, config)(dialogue)})


def _groups_of(dialogues: Sequence[Dialogue], config: SplitsConfig) -> Callable[[Dialogue], set[str]]:
    if config.scheme == "dialogue":
        shuffled = _shuffled(dialogues, config)
        parts = {dialogue.dialogue_id: str(index % config.folds + 1) for index, dialogue in enumerate(shuffled)}
        return lambda dialogue: {parts[dialogue.dialogue_id]}
    return lambda dialogue: {_group(getattr(u, config.scheme), dialogue, config.scheme) for u in dialogue.utterances}


def _group(value: str | None, dialogue: Dialogue, scheme: str) -> str:
    if value is None:
        raise PipelineError(
            f"dialogue {dialogue.dialogue_id} has an utterance without a {scheme}, which splits.scheme needs; "
            "add it to the corpus, or choose another scheme"
        )
    return value


def _hold_out(dialogues: Sequence[Dialogue], held_out: Sequence[str], config: SplitsConfig) -> Split:
    known = groups(dialogues, config)
    unknown = [group for group in held_out if group not in known]
    if unknown:
        raise PipelineError(f"splits.test: no {config.scheme} '{unknown[0]}'; the corpus has {shorten(known, most=12)}")
    groups_of = _groups_of(dialogues, config)
    parts: dict[str, list[Dialogue]] = {"train": [], "dev": [], "test": []}
    for dialogue in dialogues:
        own = groups_of(dialogue)
        if own <= set(held_out):
            parts["test"].append(dialogue)
        elif own.isdisjoint(held_out):
            parts["train"].append(dialogue)
        elif config.scheme == "speaker":
            parts["test"].append(_only_speakers(dialogue, held_out))
        # A dialogue of several sessions, one of them held out, belongs to neither side.
    return _finish("+".join(held_out), parts, config)


def _only_speakers(dialogue: Dialogue, speakers: Sequence[str]) -> Dialogue:
    """Return the dialogue with what is known of these speakers' turns only; the other turns are their context."""
    others = ~torch.tensor([utterance.speaker in speakers for utterance in dialogue.utterances])
    return replace(
        dialogue,
        labels=dialogue.labels.masked_fill(others, NO_LABEL),
        votes=dialogue.votes.masked_fill(others[:, None], 0.0),
        ratings={name: values.masked_fill(others, torch.nan) for name, values in dialogue.ratings.items()},
    )


def _by_manifest(dialogues: Sequence[Dialogue]) -> dict[str, list[Dialogue]]:
    parts: dict[str, list[Dialogue]] = {"train": [], "dev": [], "test": []}
    for dialogue in dialogues:
        names = {utterance.split for utterance in dialogue.utterances}
        if len(names) > 1:
            raise PipelineError(
                f"dialogue {dialogue.dialogue_id} is in several splits ({shorten(sorted(map(str, names)))}): "
                "utterances of one dialogue leak into each other; assign it to one split"
            )
        if (name := names.pop()) is not None:
            parts[name].append(dialogue)
    return parts


def _finish(name: str, parts: dict[str, list[Dialogue]], config: SplitsConfig) -> Split:
    """Cut development dialogues out of the training ones if there are none, and check the split."""
    if not parts["dev"]:
        parts["dev"], parts["train"] = _cut_dev(parts["train"], config)
    for part, dialogues in parts.items():
        if not any((dialogue.labels != NO_LABEL).any() for dialogue in dialogues):
            raise PipelineError(f"the {part} split has no labelled utterance; change splits.scheme or splits.test")
    split = Split(name, tuple(parts["train"]), tuple(parts["dev"]), tuple(parts["test"]))
    check_leaks(split, allow_speaker_overlap=config.allow_speaker_overlap)
    return split


def _cut_dev(train: list[Dialogue], config: SplitsConfig) -> tuple[list[Dialogue], list[Dialogue]]:
    count = max(1, round(config.dev_share * len(train)))
    chosen = {dialogue.dialogue_id for dialogue in _shuffled(train, config)[:count]}
    return [d for d in train if d.dialogue_id in chosen], [d for d in train if d.dialogue_id not in chosen]


def _shuffled(dialogues: Sequence[Dialogue], config: SplitsConfig) -> list[Dialogue]:
    return random.Random(config.seed).sample(list(dialogues), len(dialogues))


def check_leaks(split: Split, *, allow_speaker_overlap: bool) -> None:
    """Refuse a dialogue in two splits, and a speaker in test and another split unless that is allowed.

    Raises:
        PipelineError: names the dialogues or speakers.
    """
    ids = {part: {dialogue.dialogue_id for dialogue in dialogues} for part, dialogues in split.parts().items()}
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        if shared := sorted(ids[first] & ids[second]):
            raise PipelineError(f"dialogues in both {first} and {second}: {shorten(shared)}; assign each to one split")
    if (shared := overlapping_speakers(split)) and not allow_speaker_overlap:
        raise PipelineError(
            f"speakers in the test split and in another: {shorten(shared)}; hold out other groups, "
            "or allow it with splits.allow_speaker_overlap (the report will say so)"
        )


def overlapping_speakers(split: Split) -> list[str]:
    """Return speakers whose utterances the test split scores and another split has too."""
    scored = {
        utterance.speaker
        for dialogue in split.test
        for utterance, is_judged in zip(dialogue.utterances, dialogue.judged.tolist(), strict=True)
        if is_judged
    }
    others = {u.speaker for dialogue in (*split.train, *split.dev) for u in dialogue.utterances}
    return sorted(speaker for speaker in scored & others if speaker is not None)
