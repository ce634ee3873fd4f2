"""Splits by whole dialogues: which ones train, choose the epoch and test; splits that leak are refused."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from lpgnet.model import EmotionModel
from lpgnet.pipeline.config import SplitsConfig
from lpgnet.pipeline.errors import PipelineError, shorten
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.folds import MANIFEST, GroupsOf, grouped_by, groups, groups_of, held_out, joined, shuffled
from lpgnet.pipeline.training.labels import NO_LABEL
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
        return _finish(MANIFEST, _by_manifest(dialogues), config)
    return _hold_out(dialogues, held_out(dialogues, config), config)


def make_folds(dialogues: Sequence[Dialogue], config: SplitsConfig) -> list[Split]:
    """Make every fold of the scheme: each group is the test split once.

    Raises:
        PipelineError: the scheme does not fit the corpus, or a split leaks.
    """
    if config.scheme == "manifest":
        return [make_split(dialogues, config)]
    return [_hold_out(dialogues, [group], config) for group in groups(dialogues, config)]


def _hold_out(dialogues: Sequence[Dialogue], chosen: Sequence[str], config: SplitsConfig) -> Split:
    known = groups(dialogues, config)
    unknown = [group for group in chosen if group not in known]
    if unknown:
        raise PipelineError(f"splits.test: no {config.scheme} '{unknown[0]}'; the corpus has {shorten(known, most=12)}")
    test, train = _part(dialogues, chosen, groups_of(dialogues, config), by_speaker=config.scheme == "speaker")
    return _finish(joined(chosen), {"train": train, "dev": [], "test": test}, config)


def _part(
    dialogues: Sequence[Dialogue], held_out: Collection[str], groups_of: GroupsOf, *, by_speaker: bool
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Part the dialogues of the held-out groups from the others."""
    inside, outside = [], []
    for dialogue in dialogues:
        own = groups_of(dialogue)
        if own <= set(held_out):
            inside.append(dialogue)
        elif own.isdisjoint(held_out):
            outside.append(dialogue)
        elif by_speaker:
            inside.append(_only_speakers(dialogue, held_out))
        # A dialogue of several sessions, one of them held out, belongs to neither side.
    return inside, outside


def _only_speakers(dialogue: Dialogue, speakers: Collection[str]) -> Dialogue:
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
    if parts["dev"] and config.dev != "dialogues":
        raise PipelineError(f"splits.dev {config.dev}: the corpus names its own development data; leave splits.dev out")
    if not parts["dev"]:
        parts["dev"], parts["train"] = _cut_dev(parts["train"], config)
    for part, dialogues in parts.items():
        if not _has_label(dialogues):
            raise PipelineError(f"the {part} split has no labelled utterance; change splits.scheme or splits.test")
    split = Split(name, tuple(parts["train"]), tuple(parts["dev"]), tuple(parts["test"]))
    check_leaks(split, allow_speaker_overlap=config.allow_speaker_overlap, dev=config.dev)
    return split


def _has_label(dialogues: Sequence[Dialogue]) -> bool:
    return any((dialogue.labels != NO_LABEL).any() for dialogue in dialogues)


def _cut_dev(train: list[Dialogue], config: SplitsConfig) -> tuple[list[Dialogue], list[Dialogue]]:
    if config.dev != "dialogues":
        return _cut_groups(train, config)
    count = max(1, round(config.dev_share * len(train)))
    chosen = {dialogue.dialogue_id for dialogue in shuffled(train, config)[:count]}
    return [d for d in train if d.dialogue_id in chosen], [d for d in train if d.dialogue_id not in chosen]


def _cut_groups(train: list[Dialogue], config: SplitsConfig) -> tuple[list[Dialogue], list[Dialogue]]:
    """Cut out sessions or speakers in the order of a draw, as many as come nearest to the share of the dialogues."""
    by_speaker, groups_of = config.dev == "speaker", grouped_by(config.dev, key="splits.dev")
    names = sorted({group for dialogue in train for group in groups_of(dialogue)})
    drawn = random.Random(config.seed).sample(names, len(names))
    place = {name: number for number, name in enumerate(drawn)}
    # A dialogue is cut out with the first of its speakers, or with the last of its sessions.
    cut_with = sorted((min if by_speaker else max)(place[name] for name in groups_of(dialogue)) for dialogue in train)
    wanted = config.dev_share * len(train)
    for count in sorted(range(1, len(drawn)), key=lambda count: abs(bisect_left(cut_with, count) - wanted)):
        dev, rest = _part(train, set(drawn[:count]), groups_of, by_speaker=by_speaker)
        if _has_label(dev) and _has_label(rest):
            return dev, rest
    raise PipelineError(
        f"splits.dev {config.dev}: without the dialogues of one {config.dev}, nothing is left to train on or to "
        f"develop on (there are {shorten(names)}); set splits.dev to dialogues"
    )


def check_leaks(split: Split, *, allow_speaker_overlap: bool, dev: str = "dialogues") -> None:
    """Refuse a dialogue in two splits, and a speaker in test and another split unless that is allowed.

    Args:
        split: what to check.
        allow_speaker_overlap: whether it is.
        dev: session or speaker where none of the development data may be in training.

    Raises:
        PipelineError: names the dialogues or speakers.
    """
    ids = {part: {dialogue.dialogue_id for dialogue in dialogues} for part, dialogues in split.parts().items()}
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        if shared := sorted(ids[first] & ids[second]):
            raise PipelineError(f"dialogues in both {first} and {second}: {shorten(shared)}; assign each to one split")
    if dev != "dialogues" and (shared := _shared(dev, split.dev, split.train)):
        raise PipelineError(f"{dev}s in both train and dev: {shorten(shared)}; set splits.dev to dialogues")
    if (shared := overlapping_speakers(split)) and not allow_speaker_overlap:
        raise PipelineError(
            f"speakers in the test split and in another: {shorten(shared)}; hold out other groups, "
            "or allow it with splits.allow_speaker_overlap (the report will say so)"
        )


def overlapping_speakers(split: Split) -> list[str]:
    """Return speakers whose utterances the test split scores and another split has too."""
    return _shared("speaker", split.test, (*split.train, *split.dev))


def _shared(kind: str, scored: Sequence[Dialogue], others: Sequence[Dialogue]) -> list[str]:
    """Return the sessions or speakers of utterances that are judged on one side, and of any on the other."""
    judged = {
        getattr(utterance, kind)
        for dialogue in scored
        for utterance, is_judged in zip(dialogue.utterances, dialogue.judged.tolist(), strict=True)
        if is_judged
    }
    known = {getattr(utterance, kind) for dialogue in others for utterance in dialogue.utterances}
    return sorted(name for name in judged & known if name is not None)
