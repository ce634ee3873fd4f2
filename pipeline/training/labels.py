"""The turns of a corpus and their classes, by the label map of a configuration: what is known without embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lpgnet.pipeline.config import class_names
from lpgnet.pipeline.corpora.manifest import Manifest, Utterance
from lpgnet.pipeline.errors import PipelineError, did_you_mean

NO_LABEL = -100


@dataclass(frozen=True)
class Turns:
    """The turns of a dialogue that are read.

    Attributes:
        labels: class indices, -100 for none.
    """

    dialogue_id: str
    utterances: tuple[Utterance, ...]
    labels: tuple[int, ...]


def labelled_turns(manifest: Manifest, labels: Mapping[str, str | None], *, drop_unlabelled: bool) -> Iterator[Turns]:
    """Yield the turns of each dialogue; leave out dialogues without any.

    Args:
        manifest: the utterances.
        labels: the class that each of the corpus's codes stands for, or None to ignore the code.
        drop_unlabelled: leave out utterances without a class.

    Raises:
        PipelineError: a label code that the map neither maps nor ignores.
    """
    for dialogue_id, turns in manifest.dialogues():
        indices = class_indices(turns, labels)
        kept = [(u, i) for u, i in zip(turns, indices, strict=True) if not drop_unlabelled or i != NO_LABEL]
        if kept:
            utterances, classes = zip(*kept, strict=True)
            yield Turns(dialogue_id, utterances, classes)


def class_indices(utterances: Sequence[Utterance], labels: Mapping[str, str | None]) -> list[int]:
    """Return the class index of each utterance by the config's label map; -100 where it has none.

    Raises:
        PipelineError: a code that the map neither maps nor ignores.
    """
    classes = class_names(labels)
    unknown = [u for u in utterances if u.label is not None and u.label not in labels]
    if unknown:
        code = str(unknown[0].label)
        raise PipelineError(
            f"utterance {unknown[0].utterance_id}: label code '{code}' is not in the config's labels "
            f"({len(unknown)} such utterances){did_you_mean(code, labels)}; map it to a class, or to null to ignore it"
        )
    names = [labels[u.label] if u.label is not None else None for u in utterances]
    return [NO_LABEL if name is None else classes.index(name) for name in names]
