"""Dialogues of embedded utterances, and the padded batches that the models take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpgnet.pipeline.config import class_names
from lpgnet.pipeline.corpora.manifest import Manifest, Utterance
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.embeddings.plan import Embeddings, StoredEmbeddings
from lpgnet.pipeline.errors import PipelineError, did_you_mean
from lpgnet.pipeline.training.labels import NO_LABEL, labelled_turns
from lpgnet.pipeline.training.standardization import Standards

# The speaker of a turn whose speaker nobody knows.
NOT_TOLD = -1
# Where the embeddings of a modality come from, and what keeps a dialogue's rows (L, K, D) of them.
Source = Embeddings | StoredEmbeddings
Keep = Callable[[np.ndarray], Tensor]


@dataclass(frozen=True)
class Dialogue:
    """One dialogue of L utterances.

    Attributes:
        inputs: (L, K_m, D_m) float32 by modality, as they are embedded; zero where an utterance lacks it.
        present: (L,) bool by modality.
        labels: (L,) class indices, -100 for none.
        speakers: (L,) numbered by first appearance in the dialogue, -1 where the speaker is not told.
        votes: (L, C), the raters' votes for each class; zeros where nobody voted for one.
        ratings: (L,) by dimension, in the corpus's units, NaN for none; only of the dimensions that it rates.
        standards: by modality; empty for a model that does not standardize by group.
    """

    dialogue_id: str
    utterances: tuple[Utterance, ...]
    inputs: dict[str, Tensor]
    present: dict[str, Tensor]
    labels: Tensor
    speakers: Tensor
    votes: Tensor
    ratings: dict[str, Tensor]
    standards: dict[str, Standards] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.utterances)

    def values(self, modality: str) -> Tensor:
        """What a model reads of a modality: the inputs, standardized by group where there are standards."""
        values = self.inputs[modality]
        if modality not in self.standards:
            return values
        return self.standards[modality].apply(values).masked_fill(~self.present[modality][:, None, None], 0.0)

    @property
    def judged(self) -> Tensor:
        """Which utterances have a class, votes for one or a rating, (L,) bool."""
        rated = [values.isfinite() for values in self.ratings.values()]
        return torch.stack([self.labels != NO_LABEL, self.votes.sum(-1) > 0, *rated]).any(0)


@dataclass(frozen=True)
class DialogueBatch:
    """B dialogues padded to L utterances.

    Attributes:
        inputs: (B, L, K_m, D_m) float32 by modality, or the dialogues' own (L_b, K_m, D_m), which are not copied.
        masks: (B, L) bool by modality, true where the utterance has it.
        mask: (B, L) bool, true for a real utterance.
        labels: (B, L) class indices, -100 for none.
        votes: (B, L, C), shares of the raters' votes that are learned instead of the labels, zeros for none; or None.
        ratings: (B, L) by dimension, in the corpus's units, NaN for none.
        speakers: (B, L), numbered by first appearance in the dialogue, -1 where the speaker is not told.
        utterance_ids: of each dialogue, without padding.
    """

    inputs: Mapping[str, Tensor | list[Tensor]]
    masks: dict[str, Tensor]
    mask: Tensor
    labels: Tensor
    votes: Tensor | None
    ratings: dict[str, Tensor]
    speakers: Tensor
    utterance_ids: tuple[tuple[str, ...], ...]

    @property
    def targets(self) -> dict[str, Any]:
        """The arguments of a model that it learns from."""
        return {"labels": self.labels, "votes": self.votes, "ratings": self.ratings}

    def to(self, device: torch.device | str) -> DialogueBatch:
        """Copy the batch to a device."""
        return DialogueBatch(
            inputs={
                name: values.to(device, non_blocking=True)
                if isinstance(values, Tensor)
                else [own.to(device, non_blocking=True) for own in values]
                for name, values in self.inputs.items()
            },
            masks={name: values.to(device, non_blocking=True) for name, values in self.masks.items()},
            mask=self.mask.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            votes=None if self.votes is None else self.votes.to(device, non_blocking=True),
            ratings={name: values.to(device, non_blocking=True) for name, values in self.ratings.items()},
            speakers=self.speakers.to(device, non_blocking=True),
            utterance_ids=self.utterance_ids,
        )


def class_votes(utterances: Sequence[Utterance], labels: Mapping[str, str | None]) -> Tensor:
    """Count the raters' votes for each class by the config's label map, (L, C); those for ignored codes are left out.

    Where an ignored code is the label, the raters agreed on it: the votes that are left are a minority's, and none
    count.

    Raises:
        PipelineError: a vote for a code that the map neither maps nor ignores.
    """
    classes = class_names(labels)
    votes = torch.zeros(len(utterances), len(classes))
    for row, utterance in enumerate(utterances):
        for code, count in (utterance.votes or {}).items():
            if code not in labels:
                raise PipelineError(
                    f"utterance {utterance.utterance_id}: has votes for '{code}', which is not in the config's labels"
                    f"{did_you_mean(code, labels)}; map it to a class, or to null to ignore it"
                )
            if (name := labels[code]) is not None:
                votes[row, classes.index(name)] += count
        if utterance.label in (utterance.votes or {}) and labels[str(utterance.label)] is None:
            votes[row] = 0
    return votes


def rated(utterances: Sequence[Utterance], ranges: Ranges) -> dict[str, Tensor]:
    """The ratings of each dimension that the corpus rates, (L,); NaN where there is none."""
    return {
        name: torch.tensor([torch.nan if (value := getattr(u, name)) is None else value for u in utterances])
        for name in ranges
    }


def make_dialogues(
    manifest: Manifest,
    embeddings: Mapping[str, Source],
    labels: Mapping[str, str | None],
    *,
    drop_unlabelled: bool,
    keep: Keep = torch.from_numpy,
) -> list[Dialogue]:
    """Join a manifest with its embeddings; leave out dialogues without utterances.

    Args:
        manifest: the utterances.
        embeddings: by modality.
        labels: the class that each of the corpus's codes stands for, or None to ignore the code.
        drop_unlabelled: leave out utterances without a class.
        keep: is given the rows of each dialogue in turn, and returns where they are kept.

    Raises:
        PipelineError: a label code that the map neither maps nor ignores.
    """
    dialogues = []
    for turns in labelled_turns(manifest, labels, drop_unlabelled=drop_unlabelled):
        votes, ratings = class_votes(turns.utterances, labels), rated(turns.utterances, manifest.corpus.ranges)
        dialogues.append(
            make_dialogue(
                turns.dialogue_id, turns.utterances, turns.labels, embeddings, votes=votes, ratings=ratings, keep=keep
            )
        )
    return dialogues


def make_dialogue(
    dialogue_id: str,
    utterances: Sequence[Utterance],
    labels: Sequence[int],
    embeddings: Mapping[str, Source],
    *,
    votes: Tensor | None = None,
    ratings: Mapping[str, Tensor] | None = None,
    keep: Keep = torch.from_numpy,
) -> Dialogue:
    """Make one dialogue's tensors.

    Args:
        dialogue_id: its id.
        utterances: in turn order.
        labels: class indices, -100 for none.
        embeddings: by modality.
        votes: (L, C); None where nobody voted.
        ratings: (L,) by dimension; None where nobody rated.
        keep: returns where the rows (L, K, D) of a modality are kept.
    """
    return Dialogue(
        dialogue_id=dialogue_id,
        utterances=tuple(utterances),
        inputs={name: keep(_rows(utterances, source)) for name, source in embeddings.items()},
        present={
            name: torch.tensor([u.utterance_id in source for u in utterances]) for name, source in embeddings.items()
        },
        labels=torch.tensor(labels, dtype=torch.long),
        votes=torch.zeros(len(utterances), 0) if votes is None else votes,
        ratings=dict(ratings or {}),
        speakers=by_appearance(u.speaker for u in utterances),
    )


def by_appearance(speakers: Iterable[str | int | None]) -> Tensor:
    """Number speakers by their first appearance, (L,); -1 where the speaker is not told (None)."""
    numbers: dict[str | int | None, int] = {None: NOT_TOLD}
    return torch.tensor([numbers.setdefault(speaker, len(numbers) - 1) for speaker in speakers])


def _rows(utterances: Sequence[Utterance], source: Source) -> np.ndarray:
    rows = np.zeros((len(utterances), *source.shape), np.float32)
    there = {index: u.utterance_id for index, u in enumerate(utterances) if u.utterance_id in source}
    for index, values in zip(there, source.read(there.values()), strict=True):
        rows[index] = values
    return rows


def hide_modality(dialogues: Sequence[Dialogue], modality: str, share: float, *, seed: int = 0) -> list[Dialogue]:
    """Return the dialogues without one modality in a share of their utterances, drawn at random.

    A larger share hides it in the utterances of a smaller one and in others.
    """
    generator = np.random.default_rng(seed)
    hidden = [torch.from_numpy(generator.random(len(dialogue)) < share) for dialogue in dialogues]
    return [
        replace(dialogue, present={**dialogue.present, modality: dialogue.present[modality] & ~lost})
        for dialogue, lost in zip(dialogues, hidden, strict=True)
    ]


def collate(dialogues: Sequence[Dialogue], *, padded: bool = True) -> DialogueBatch:
    """Pad dialogues to the longest of them and stack them; their votes are no shares yet, and are left out.

    Args:
        dialogues: at least one.
        padded: whether their inputs are too, or are given as they lie in memory.
    """
    names = dialogues[0].inputs.keys()
    inputs = {name: [d.values(name) for d in dialogues] for name in names}
    return DialogueBatch(
        inputs={name: pad(rows, 0.0) for name, rows in inputs.items()} if padded else inputs,
        masks={name: pad([d.present[name] for d in dialogues], False) for name in names},
        mask=pad([torch.ones(len(d), dtype=torch.bool) for d in dialogues], False),
        labels=pad([d.labels for d in dialogues], NO_LABEL),
        votes=None,
        ratings={name: pad([d.ratings[name] for d in dialogues], torch.nan) for name in dialogues[0].ratings},
        speakers=pad([d.speakers for d in dialogues], NOT_TOLD),
        utterance_ids=tuple(tuple(u.utterance_id for u in d.utterances) for d in dialogues),
    )


def collate_for(dialogues: Sequence[Dialogue], device: torch.device, *, padded: bool = False) -> DialogueBatch:
    """Collate dialogues on the device of a model: what lies in a CPU's memory is not copied unless it is padded."""
    return collate(dialogues, padded=padded or device.type != "cpu").to(device)


def pad(rows: Sequence[Tensor], value: float) -> Tensor:
    """Stack the rows of several dialogues, (L, ...) -> (B, L, ...)."""
    if value or rows[0].dim() < 3:
        return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
    # Embeddings are large. Of numpy's zeros the system makes the pages that are written to alone.
    shape = (len(rows), max(map(len, rows)), *rows[0].shape[1:])
    padded = torch.from_numpy(np.zeros(shape, rows[0].numpy().dtype))
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


def standardization(dialogues: Sequence[Dialogue], modality: str) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation (K, D) over the utterances that have the modality.

    Raises:
        PipelineError: none has it.
    """
    count = sum(int(dialogue.present[modality].sum()) for dialogue in dialogues)
    if not count:
        raise PipelineError(f"no training utterance has {modality}; remove it from model.modalities")
    # Dialogue by dialogue: all rows at once would be a second copy of the corpus.
    parts = [(dialogue.inputs[modality], dialogue.present[modality]) for dialogue in dialogues]
    zero = torch.zeros_like(parts[0][0][0], dtype=torch.float64)
    mean = sum((values[present].double().sum(0) for values, present in parts), zero) / count
    variance = sum(((values[present].double() - mean).square().sum(0) for values, present in parts), zero) / count
    return mean.float(), variance.sqrt().float()
