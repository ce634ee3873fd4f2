"""Encoders that were tuned: which utterances each has seen, and which splits would therefore be too easy for it.

An utterance is known by what it is, not by its id: by the stretch of sound that it is; and, by an encoder of text or
where there is no sound, by its words and those of the whole dialogue around it, since words alone ("Yes.") come again
in other dialogues.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpgnet.cache import StatCache, text_key
from lpgnet.feature_extractors.adapters import RECORD_FILE, is_tuned
from lpgnet.pipeline.common.files import read_json
from lpgnet.pipeline.config import Config
from lpgnet.pipeline.corpora.manifest import Manifest, Utterance
from lpgnet.pipeline.embeddings.plan import plan_audio
from lpgnet.pipeline.embeddings.stores import stat_cache_file
from lpgnet.pipeline.errors import PipelineError, counted, shorten

if TYPE_CHECKING:
    from lpgnet.feature_extractors import EncoderSpec
    from lpgnet.pipeline.training.dialogues import Dialogue
    from lpgnet.pipeline.training.splits import Split


@dataclass(frozen=True)
class Content:
    """What an utterance is, whatever it is called.

    Attributes:
        audio: key of its stretch of sound; None where it has none that can be read.
        text: key of its words among those of its dialogue; None where it has none.
    """

    audio: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class TuningScore:
    """What the heads that an encoder was tuned with score.

    Attributes:
        n: labelled utterances.
    """

    weighted_f1: float
    ua: float
    n: int


@dataclass(frozen=True)
class TuningScores:
    """Of a tuned encoder: on what it has learned from, and on what its epoch was chosen by."""

    training: TuningScore
    development: TuningScore

    @property
    def gap(self) -> float:
        """How much better it is on what it has learned from (weighted F1)."""
        return float(self.training.weighted_f1 - self.development.weighted_f1)


@dataclass(frozen=True)
class Seen:
    """Some utterances that an encoder was tuned on, or that its epoch was chosen by."""

    contents: list[Content]
    score: TuningScore


@dataclass(frozen=True)
class Base:
    """The encoder that was tuned: its name, and a digest of its configuration and weights."""

    name: str
    content: str


@dataclass(frozen=True)
class TunedRecord:
    """The contents of `tuned.json`.

    Attributes:
        corpus: name of what it was tuned on.
        fold: what was held out.
        settings: it was tuned with, as the section `tune` of the configuration.
        epoch: that was chosen.
        training: utterances that it learned from.
        development: utterances that the epoch was chosen by.
    """

    base: Base
    modality: str
    corpus: str
    fold: str
    settings: dict[str, Any]
    epoch: int
    training: Seen
    development: Seen

    @property
    def scores(self) -> TuningScores:
        """What it scores on both."""
        return TuningScores(self.training.score, self.development.score)


def read_record(folder: Path) -> TunedRecord:
    """Read what a tuned encoder has seen.

    Raises:
        PipelineError: the record is missing or damaged; names the field.
    """
    return read_json(folder / RECORD_FILE, TunedRecord)


def folder_of(spec: EncoderSpec) -> Path | None:
    """Return the folder of a tuned encoder; None for any other."""
    family, _, model = spec.name.partition(":")
    folder = Path(model).expanduser() if family == "hf" else None
    return folder if folder and is_tuned(folder) else None


@dataclass(frozen=True)
class Tuned:
    """The tuned encoders that embedded a corpus.

    Attributes:
        records: by modality.
        contents: what each utterance of the corpus is, by id; empty without tuned encoders.
    """

    records: Mapping[str, TunedRecord] = field(default_factory=dict)
    contents: Mapping[str, Content] = field(default_factory=dict)


def find_tuned(config: Config, manifest: Manifest, specs: Mapping[str, EncoderSpec]) -> Tuned:
    """Find what the encoders of a corpus were tuned on."""
    folders = {modality: folder_of(spec) for modality, spec in specs.items()}
    records = {modality: read_record(folder) for modality, folder in folders.items() if folder}
    return Tuned(records, contents_of(config, manifest)) if records else Tuned()


def contents_of(config: Config, manifest: Manifest) -> dict[str, Content]:
    """Say what each utterance of a manifest is, by id: the same whatever is trimmed, and read as context."""
    stat_cache = StatCache(stat_cache_file(config.features))
    follow_links = config.corpus.follow_links
    plan = plan_audio(manifest.utterances, manifest.corpus.root, stat_cache, follow_links=follow_links)
    audio = {request.utterance_id: request.key.hex() for request in plan.requests}
    text = {name: key for _, turns in manifest.dialogues() for name, key in _texts(turns)}
    names = [utterance.utterance_id for utterance in manifest.utterances]
    return {name: Content(audio.get(name), text.get(name)) for name in names}


def _texts(turns: Sequence[Utterance]) -> Iterable[tuple[str, str]]:
    words = [" ".join((turn.text or "").split()) for turn in turns]
    for place, turn in enumerate(turns):
        if words[place]:
            yield turn.utterance_id, text_key(words[place], (str(place), *words)).hex()


def check_unseen(tuned: Tuned, split: Split) -> None:
    """Refuse a split that tests on what an encoder has seen, or develops on what it has learned from.

    Raises:
        PipelineError: names the utterances.
    """
    for modality, record in tuned.records.items():
        learned, chosen_by = record.training.contents, record.development.contents
        for part, dialogues, before, seen, how in (
            ("test", split.test, (*split.train, *split.dev), learned, "was tuned on"),
            ("test", split.test, (*split.train, *split.dev), chosen_by, "was chosen by"),
            ("dev", split.dev, split.train, learned, "was tuned on"),
        ):
            own, known = _contents(dialogues, tuned), _contents(before, tuned)
            if ids := _find(own, seen, known.values(), by_words=modality == "text"):
                raise PipelineError(
                    f"encoders.{modality}.name: the tuned encoder {how} {counted(len(ids), 'utterance')} of the {part} "
                    f"split {split.name} ({shorten(ids)}), which are therefore too easy for it; tune one with this "
                    f"split (lpgnet tune; crossval.tune does for each fold), or use {record.base.name}"
                )


def _contents(dialogues: Sequence[Dialogue], tuned: Tuned) -> dict[str, Content]:
    ids = (utterance.utterance_id for dialogue in dialogues for utterance in dialogue.utterances)
    return {name: tuned.contents[name] for name in ids}


def _find(
    own: Mapping[str, Content], seen: Sequence[Content], before: Iterable[Content], *, by_words: bool
) -> list[str]:
    """Find utterances that were seen: by their sound, and by their words where these are read or either has no sound.

    Args:
        own: utterances of a part of a split.
        seen: by the encoder.
        before: the utterances of the parts before it. Words that are there too are what a corpus has everybody say:
            a model meets them in training with any encoder.
        by_words: whether the encoder reads words.
    """
    common = {one.text for one in before}
    sounds = {one.audio for one in seen if one.audio}
    words = {one.text for one in seen if one.text} - common
    silent = {one.text for one in seen if one.text and not one.audio} - common
    return [
        name
        for name, one in own.items()
        if one.audio in sounds or one.text in (silent if one.audio and not by_words else words)
    ]
