"""Standardization of embeddings by session, speaker or dialogue, before the network's own.

Rooms, microphones and voices move embeddings more than emotions do. All turns of a group together, whatever they are
labelled, tell by how much: each layer and dimension is moved to the mean of the training utterances and scaled to their
deviation within their groups, which the network then takes away. That is transductive: a turn's input depends on all
turns of its group, the later ones too, and a test session is standardized by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lpgnet.model import EmotionModel

if TYPE_CHECKING:
    from lpgnet.pipeline.training.dialogues import Dialogue

# A group's statistics are taken as if so many turns more were in it that are like those of training: few turns tell
# less of a room or a voice than of what is said in them.
PRIOR_TURNS = 4

# What a group is found by: its name where it has one, else the dialogue.
Key = tuple[str, str | None]


@dataclass(frozen=True)
class Standards:
    """The statistics of the groups of a corpus in one modality, and the groups of a dialogue's turns.

    Attributes:
        groups: (L,), the number of each turn's group.
        center, scale: (G, K, D), what is taken away from a group's embeddings, and what they are multiplied by then.
        origin: (K, D), what is added to that: the mean of the training utterances.
    """

    groups: Tensor
    center: Tensor
    scale: Tensor
    origin: Tensor

    def apply(self, values: Tensor) -> Tensor:
        """Standardize embeddings (L, K, D)."""
        return torch.addcmul(self.origin, values - self.center[self.groups], self.scale[self.groups])

    def cut(self, start: int, end: int) -> Standards:
        """Return those of successive turns, by the statistics of all."""
        return replace(self, groups=self.groups[start:end])


def standardize_groups(
    dialogues: Sequence[Dialogue], model: EmotionModel, *, among: Sequence[Dialogue]
) -> tuple[Dialogue, ...]:
    """Return the dialogues with the standards of a model that standardizes by group, or as they are.

    Where a turn's session or speaker is not told, its dialogue is the group. A group of which one turn has a modality
    has no deviation in it; that turn stays as it is.

    Args:
        dialogues: to be read by the model.
        model: standardized by its training utterances.
        among: all turns of their groups; a dialogue of the same id as one to be read gives way to it.
    """
    by = model.config.standardise
    if by == "corpus" or not dialogues:
        return tuple(dialogues)
    among = _companions(dialogues, among, by)
    numbers = {name: _number_groups(among, name, by) for name in model.config.modality_names}
    shared = {name: _standards(among, numbers[name], name, model) for name in numbers}

    def standards(dialogue: Dialogue) -> dict[str, Standards]:
        keys = _keys(dialogue, by)
        return {name: replace(one, groups=_groups_of(keys, numbers[name])) for name, one in shared.items()}

    return tuple(replace(dialogue, standards=standards(dialogue)) for dialogue in dialogues)


def _companions(dialogues: Sequence[Dialogue], among: Sequence[Dialogue], by: str) -> list[Dialogue]:
    """Return all dialogues that have a turn in a group of the dialogues', these themselves as they are given."""
    keys = {key for dialogue in dialogues for key in _keys(dialogue, by)}
    every = {dialogue.dialogue_id: dialogue for dialogue in (*among, *dialogues)}
    return [dialogue for dialogue in every.values() if not keys.isdisjoint(_keys(dialogue, by))]


def _number_groups(dialogues: Sequence[Dialogue], modality: str, by: str) -> dict[Key, int]:
    """Number the groups from 1 of which several turns have the modality; 0 stands for all others."""
    turns = Counter(
        key
        for dialogue in dialogues
        for key, has in zip(_keys(dialogue, by), dialogue.present[modality].tolist(), strict=True)
        if has
    )
    return {key: number for number, key in enumerate((key for key in turns if turns[key] > 1), start=1)}


def _groups_of(keys: Sequence[Key], numbers: dict[Key, int]) -> Tensor:
    return torch.tensor([numbers.get(key, 0) for key in keys])


def _keys(dialogue: Dialogue, by: str) -> list[Key]:
    """Return each turn's group."""
    own: Key = ("dialogue", dialogue.dialogue_id)
    if by == "dialogue":
        return [own] * len(dialogue)
    names = (getattr(turn, by) for turn in dialogue.utterances)
    return [own if name is None else (by, name) for name in names]


def _standards(dialogues: Sequence[Dialogue], numbers: dict[Key, int], modality: str, model: EmotionModel) -> Standards:
    by = model.config.standardise
    origin, deviation = (values.double() for values in model.statistics(modality))
    groups = [_groups_of(_keys(dialogue, by), numbers) for dialogue in dialogues]
    count, mean, variance = _moments(dialogues, groups, modality)
    count[0] = 0
    share = count / (count + PRIOR_TURNS)
    center = torch.lerp(origin.expand_as(mean), mean, share)
    spread = torch.lerp(deviation.square().expand_as(mean), variance, share).sqrt()
    return Standards(groups[0], center.float(), (deviation / spread).float(), origin.float())


def within_groups(dialogues: Sequence[Dialogue], modality: str, by: str) -> Tensor:
    """Return the deviation (K, D) of utterances that have the modality from the mean of their group."""
    numbers = _number_groups(dialogues, modality, by)
    groups = [_groups_of(_keys(dialogue, by), numbers) for dialogue in dialogues]
    count, _, variance = _moments(dialogues, groups, modality)
    return ((count * variance).sum(0) / count.sum()).sqrt().float()


def _moments(dialogues: Sequence[Dialogue], groups: Sequence[Tensor], modality: str) -> tuple[Tensor, Tensor, Tensor]:
    """Count the turns of each group that have a modality, (G, 1, 1), and compute their mean and variance (G, K, D)."""
    count = torch.zeros(1 + max(int(own.max()) for own in groups), 1, 1, dtype=torch.float64)
    mean, variance = (count.new_zeros(len(count), *dialogues[0].inputs[modality].shape[1:]) for _ in range(2))
    for own, _ in _rows(dialogues, groups, modality):
        count.index_add_(0, own, count.new_ones(len(own), 1, 1))
    for own, values in _rows(dialogues, groups, modality):
        mean.index_add_(0, own, values / count[own])
    for own, values in _rows(dialogues, groups, modality):
        variance.index_add_(0, own, (values - mean[own]).square() / count[own])
    return count, mean, variance


def _rows(dialogues: Sequence[Dialogue], groups: Sequence[Tensor], modality: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the groups and embeddings of each dialogue's turns that have a modality: all at once would be a copy."""
    for dialogue, own in zip(dialogues, groups, strict=True):
        has = dialogue.present[modality]
        yield own[has], dialogue.inputs[modality][has]
