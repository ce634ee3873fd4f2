"""Folds by their names: which groups of dialogues each holds out, as their turns tell without embeddings."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from lpgnet.pipeline.config import SplitsConfig
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError

# The fold of a corpus that names its own splits.
MANIFEST = "manifest"


class HasTurns(Protocol):
    """A dialogue, whatever else is known of it."""

    @property
    def dialogue_id(self) -> str:
        """Its id."""
        ...

    @property
    def utterances(self) -> Sequence[Utterance]:
        """Its turns, in order."""
        ...


# The sessions, speakers or numbered parts that a dialogue belongs to.
GroupsOf = Callable[[HasTurns], set[str]]
Conversation = TypeVar("Conversation", bound=HasTurns)


def fold_name(dialogues: Sequence[HasTurns], config: SplitsConfig) -> str:
    """Return the name of the fold that the configuration tests on."""
    return MANIFEST if config.scheme == "manifest" else joined(held_out(dialogues, config))


def joined(groups: Sequence[str]) -> str:
    """Return the name of the fold that holds out these groups."""
    return "+".join(groups)


def held_out(dialogues: Sequence[HasTurns], config: SplitsConfig) -> list[str]:
    """Return the groups that are tested on: the configured ones, or the last."""
    return list(config.test) if config.test else groups(dialogues, config)[-1:]


def groups(dialogues: Sequence[HasTurns], config: SplitsConfig) -> list[str]:
    """List the groups that the scheme holds out: sessions, speakers, or numbered parts of the dialogues."""
    own = groups_of(dialogues, config)
    return sorted({group for dialogue in dialogues for group in own(dialogue)})


def groups_of(dialogues: Sequence[HasTurns], config: SplitsConfig) -> GroupsOf:
    """Return what gives the groups of a dialogue that the scheme holds out."""
    if config.scheme == "dialogue":
        drawn = shuffled(dialogues, config)
        parts = {dialogue.dialogue_id: str(index % config.folds + 1) for index, dialogue in enumerate(drawn)}
        return lambda dialogue: {parts[dialogue.dialogue_id]}
    return grouped_by(config.scheme, key="splits.scheme")


def grouped_by(kind: str, *, key: str) -> GroupsOf:
    """Return what gives a dialogue's sessions or speakers; `key` is the setting that asks for them."""
    return lambda dialogue: {_group(getattr(u, kind), dialogue, kind, key) for u in dialogue.utterances}


def _group(value: str | None, dialogue: HasTurns, kind: str, key: str) -> str:
    if value is None:
        raise PipelineError(
            f"dialogue {dialogue.dialogue_id} has an utterance without a {kind}, which {key} needs; "
            "add it to the corpus, or choose another value"
        )
    return value


def shuffled(dialogues: Sequence[Conversation], config: SplitsConfig) -> list[Conversation]:
    """Return the dialogues in the order of a draw."""
    return random.Random(config.seed).sample(list(dialogues), len(dialogues))
