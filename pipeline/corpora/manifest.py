"""The manifest: one utterance a line, dialogues contiguous and in turn order; validated whenever it is read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from lpgnet.pipeline.common.files import parse_object, read_json, read_text, write_atomically
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.ratings import DIMENSIONS, Ranges, check_in_range, check_ranges, check_ratings, check_votes
from lpgnet.pipeline.errors import PipelineError, did_you_mean

MANIFEST_FILE = "manifest.jsonl"
CORPUS_FILE = "corpus.json"
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Utterance:
    """One turn of a dialogue.

    Attributes:
        audio: path relative to the corpus root, or None where there is no recording.
        start, end: seconds in that file; None means from its beginning, or to its end.
        channel: 0-based channel, or None for all channels mixed down.
        text: the words, or None where there is no transcript.
        label: the corpus's own code; the config maps it to a class.
        votes: of the raters, by code, fractions allowed; None where they are not known.
        valence, arousal, dominance: the mean rating, in the corpus's own range; None where there is none.
        extra: whatever else the corpus has.
    """

    dialogue_id: str
    utterance_id: str
    audio: str | None = None
    start: float | None = None
    end: float | None = None
    channel: int | None = None
    text: str | None = None
    speaker: str | None = None
    session: str | None = None
    condition: str | None = None
    label: str | None = None
    votes: dict[str, float] | None = None
    valence: float | None = None
    arousal: float | None = None
    dominance: float | None = None
    split: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """What a manifest was read from.

    Attributes:
        root: its folder or address.
        version: of its reader.
        about: what is known of its speech.
        ranges: the lowest and the highest rating that its raters could give, of each dimension that they rated.
    """

    name: str
    root: str
    reader: str
    version: int
    about: About = field(default_factory=About)
    ranges: Ranges = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A corpus and its utterances."""

    corpus: Corpus
    utterances: tuple[Utterance, ...]

    def dialogues(self) -> Iterator[tuple[str, list[Utterance]]]:
        """Yield each dialogue's id and its utterances in turn order."""
        for dialogue_id, turns in groupby(self.utterances, key=lambda utterance: utterance.dialogue_id):
            yield dialogue_id, list(turns)


_NAMES = tuple(entry.name for entry in fields(Utterance))
_STRINGS = ("audio", "text", "speaker", "session", "condition", "label", "split")


def check_utterances(utterances: Sequence[Utterance], *, source: str) -> None:
    """Check that ids are unique and dialogues contiguous, which no single line shows.

    Raises:
        PipelineError: names the source, the row and the id.
    """
    seen: dict[str, int] = {}
    closed: set[str] = set()
    for row, utterance in enumerate(utterances, start=1):
        where = f"{source}, row {row}"
        if utterance.utterance_id in seen:
            first = seen[utterance.utterance_id]
            raise PipelineError(
                f"{where}: utterance_id '{utterance.utterance_id}' is already used in row {first}; ids must be unique"
            )
        seen[utterance.utterance_id] = row
        if utterance.dialogue_id in closed:
            raise PipelineError(
                f"{where}: dialogue '{utterance.dialogue_id}' continues after another began; keep its rows together"
            )
        if row > 1 and utterances[row - 2].dialogue_id != utterance.dialogue_id:
            closed.add(utterances[row - 2].dialogue_id)


def check_dimensions(utterances: Sequence[Utterance], ranges: Ranges, *, source: str) -> None:
    """Check every rating against the corpus's range of its dimension.

    Raises:
        PipelineError: names the source, the row and the id.
    """
    check_ranges(ranges, where=source)
    for row, utterance in enumerate(utterances, start=1):
        for name in DIMENSIONS:
            if (rating := getattr(utterance, name)) is not None:
                where = f"{source}, row {row}, utterance {utterance.utterance_id}"
                check_in_range(name, rating, ranges, where=where)


def utterance_from(values: dict[str, Any], *, where: str) -> Utterance:
    """Build an utterance from the fields of one row; `where` names the file and the line in errors.

    Raises:
        PipelineError: a field is unknown, missing or of the wrong type, or the times make no sense.
    """
    for name in values:
        if name not in _NAMES:
            raise PipelineError(f"{where}: unknown field '{name}'{did_you_mean(name, _NAMES)}")
    for name in ("dialogue_id", "utterance_id"):
        if not isinstance(values.get(name), str) or not values[name]:
            raise PipelineError(f"{where}: field '{name}' must be a non-empty string, not {values.get(name)!r}")
    _check_types(values, where=where)
    _check_times(values, where=where)
    check_votes(values.get("votes"), where=where)
    check_ratings(values, where=where)
    return Utterance(**{name: value for name, value in values.items() if name != "extra" or value is not None})


def _check_types(values: dict[str, Any], *, where: str) -> None:
    for name in _STRINGS:
        if not isinstance(values.get(name), str | None):
            raise PipelineError(f"{where}: field '{name}' must be a string or null, not {values[name]!r}")
    channel = values.get("channel")
    if channel is not None and (not isinstance(channel, int) or isinstance(channel, bool) or channel < 0):
        raise PipelineError(f"{where}: field 'channel' must be 0, 1, ... or null, not {channel!r}")
    if not isinstance(values.get("extra") or {}, dict):
        raise PipelineError(f"{where}: field 'extra' must be an object, not {values['extra']!r}")
    if values.get("split") not in (*SPLITS, None):
        raise PipelineError(
            f"{where}: field 'split' must be one of {', '.join(SPLITS)} or null, not {values['split']!r}"
        )


def _check_times(values: dict[str, Any], *, where: str) -> None:
    for name in ("start", "end"):
        time = values.get(name)
        is_number = isinstance(time, int | float) and not isinstance(time, bool) and math.isfinite(time)
        if time is not None and (not is_number or time < 0):
            raise PipelineError(f"{where}: field '{name}' must be seconds, 0 or more, or null, not {time!r}")
    start, end = values.get("start"), values.get("end")
    if start is not None and end is not None and end <= start:
        raise PipelineError(
            f"{where}: utterance '{values['utterance_id']}' ends at {end} s but starts at {start} s; correct the times"
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.jsonl` and `corpus.json`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(_row(utterance), ensure_ascii=False) for utterance in manifest.utterances)
    write_atomically(folder / MANIFEST_FILE, "".join(f"{line}\n" for line in lines))
    write_atomically(folder / CORPUS_FILE, json.dumps(asdict(manifest.corpus), indent=2) + "\n")


def _row(utterance: Utterance) -> dict[str, Any]:
    # So that the manifest of a corpus that nobody rated is what it was before there were ratings, and so are its runs.
    absent = [name for name in ("votes", *DIMENSIONS) if getattr(utterance, name) is None]
    return {name: value for name, value in asdict(utterance).items() if name not in absent}


def read_manifest(folder: Path) -> Manifest:
    """Read and validate a manifest.

    Raises:
        PipelineError: the files are missing, are not UTF-8 JSON Lines, or a row is wrong; names file, line and field.
    """
    path = folder / MANIFEST_FILE
    utterances = tuple(_read_rows(path))
    if not utterances:
        raise PipelineError(f"{path}: has no utterances; run the prepare stage again")
    check_utterances(utterances, source=str(path))
    corpus = read_json(folder / CORPUS_FILE, Corpus)
    check_dimensions(utterances, corpus.ranges, source=str(path))
    return Manifest(corpus=corpus, utterances=utterances)


def _read_rows(path: Path) -> Iterator[Utterance]:
    for line_number, line in enumerate(read_text(path).split("\n"), start=1):
        where = f"{path}, line {line_number}"
        if line.strip():
            yield utterance_from(parse_object(line, where=where), where=where)


def count_by(utterances: Iterable[Utterance], name: str) -> dict[str, int]:
    """Count the utterances with each value of a field, most frequent first; None counts as `-`."""
    counts = Counter(getattr(utterance, name) or "-" for utterance in utterances)
    return dict(counts.most_common())
