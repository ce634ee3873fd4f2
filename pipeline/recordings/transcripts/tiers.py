"""Annotation tiers as transcripts: Praat's TextGrid, in its long and its short form, and ELAN's EAF.

A tier is a speaker, but for tiers of words and phones as forced aligners write them, and for tiers of emotions and of
valence, arousal and dominance.

A TextGrid is read here as Praat reads it, as a stream of numbers, strings and flags in which all else is decoration:
praatio drops the sign of negative times in the long form, takes a file that was cut off for a whole one, and breaks on
exponents and on words that look like its headings. EAF is read here because pympi-ling expands entities, needs a schema
and numbered ids, and loses tiers of one name. test_transcript_libraries.py shows each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from lpgnet.pipeline.corpora.ratings import DIMENSIONS
from lpgnet.pipeline.errors import PipelineError, shorten
from lpgnet.pipeline.recordings.transcripts.base import (
    Cue,
    Source,
    TimedWord,
    Turn,
    squeeze,
    start_of,
    time_at,
    turns_from_words,
)

_TOKEN = re.compile(
    r'"(?P<string>[^"]*(?:""[^"]*)*)"|(?<!\S)(?P<number>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)|<(?P<flag>\w+)>'
)
_WORDS = "words"
_NOT_SPEECH = ("phones", "emotion", "emotions", *DIMENSIONS)


@dataclass(frozen=True)
class _Interval:
    """A stretch of a tier, in seconds; `name` tells where it stands."""

    start: float
    end: float
    text: str
    name: str


@dataclass(frozen=True)
class _Tier:
    """What a tier holds in its order."""

    speaker: str
    intervals: tuple[_Interval, ...]

    @property
    def kind(self) -> str:
        """The last word of the tier's name: `words` in `Ann - words`."""
        return self.speaker.lower().split()[-1] if self.speaker.split() else ""


def _cues(tiers: Sequence[_Tier]) -> list[Cue]:
    """The turns of all tiers by start; from tiers of words only where there is no other."""
    speech = [tier for tier in tiers if tier.kind not in _NOT_SPEECH]
    turns = [tier for tier in speech if tier.kind != _WORDS]
    found = [cue for tier in turns for cue in _turn_cues(tier)] or [cue for tier in speech for cue in _word_cues(tier)]
    return sorted(found, key=lambda cue: start_of(cue.turn))


def _turn_cues(tier: _Tier) -> list[Cue]:
    return [
        Cue(
            Turn(interval.start, interval.end, squeeze(interval.text), tier.speaker.strip() or None),
            interval.name,
        )
        for interval in tier.intervals
    ]


def _word_cues(tier: _Tier) -> list[Cue]:
    speaker = tier.speaker.strip()[: -len(_WORDS)].rstrip(" -") or None
    words = [TimedWord(squeeze(interval.text), interval.start, interval.end) for interval in tier.intervals]
    turns = turns_from_words(words, speaker)
    return [Cue(turn, f"tier {tier.speaker}, turn {number}") for number, turn in enumerate(turns, start=1)]


def read_textgrid(source: Source) -> list[Cue]:
    """Read Praat's TextGrid: intervals with words in them; point tiers are left aside.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: it is no TextGrid, or it is cut off; names the line.
    """
    tokens = _Tokens(source)
    if [tokens.string(), tokens.string()] != ["ooTextFile", "TextGrid"]:
        raise PipelineError(f"{source.path}: is not a TextGrid in text form (save it as a text file in Praat)")
    tokens.bounds()
    tokens.flag()
    tiers = [_textgrid_tier(tokens) for _ in range(tokens.count())]
    return _cues([tier for tier in tiers if tier is not None])


def _textgrid_tier(tokens: _Tokens) -> _Tier | None:
    kind, name = tokens.string(), tokens.string()
    tokens.bounds()
    if kind != "IntervalTier":
        for _ in range(tokens.count()):
            tokens.point()
        return None
    places = range(1, tokens.count() + 1)
    intervals = [_Interval(*tokens.bounds(), tokens.string(), f"tier {name}, interval {place}") for place in places]
    return _Tier(name, tuple(interval for interval in intervals if interval.text.strip()))


class _Tokens:
    """The numbers, strings and flags of a TextGrid, one after the other."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._matches = _TOKEN.finditer(source.text)

    def _next(self, kind: str) -> str:
        match = next(self._matches, None)
        if match is None:
            raise PipelineError(f"{self._source.path}: ends where a {kind} should follow; the file is cut off")
        if match.lastgroup != kind or (kind == "number" and not math.isfinite(float(match[kind]))):
            line = self._source.text.count("\n", 0, match.start()) + 1
            raise self._source.error(f"line {line}", f"has {squeeze(match.group())[:40]} where a {kind} should stand")
        return match[kind]

    def string(self) -> str:
        return self._next("string").replace('""', '"')

    def bounds(self) -> tuple[float, float]:
        return float(self._next("number")), float(self._next("number"))

    def point(self) -> tuple[float, str]:
        return float(self._next("number")), self.string()

    def count(self) -> int:
        return int(float(self._next("number")))

    def flag(self) -> str:
        return self._next("flag")


def read_eaf(source: Source) -> list[Cue]:
    """Read ELAN's EAF: the annotations with times of their own, a tier per speaker, by its participant or its id.

    Tiers that hang on another (translations, glosses) are left aside. Where no annotation has words, they are turns
    alone.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: it is not XML, declares a document type, or an annotation has no such time slot.
    """
    root = _parse_xml(source)
    slots = {slot.get("TIME_SLOT_ID", ""): slot.get("TIME_VALUE") for slot in root.findall("TIME_ORDER/TIME_SLOT")}
    tiers = [_eaf_tier(tier, slots, source) for tier in root.findall("TIER") if tier.get("PARENT_REF") is None]
    cues = _cues(tiers)
    if any(cue.turn.text for cue in cues):
        return cues
    return [Cue(Turn(cue.turn.start, cue.turn.end, None, cue.turn.speaker), cue.name) for cue in cues]


def _parse_xml(source: Source) -> ElementTree.Element:
    # Entities are how a small XML file grows to gigabytes or reads other files; EAF has no use for them.
    if "<!DOCTYPE" in source.text or "<!ENTITY" in source.text:
        raise PipelineError(f"{source.path}: declares a document type or entities, which no EAF file needs; refused")
    try:
        root = ElementTree.fromstring(source.text)
    except ElementTree.ParseError as error:
        raise PipelineError(f"{source.path}: is not XML ({error})") from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise PipelineError(f"{source.path}: is not an EAF file (its root is {root.tag})")
    return root


def _eaf_tier(tier: ElementTree.Element, slots: dict[str, str | None], source: Source) -> _Tier:
    name = tier.get("PARTICIPANT") or tier.get("TIER_ID") or ""
    annotations = tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION")
    found = [_eaf_interval(annotation, slots, source) for annotation in annotations]
    lost = [a.get("ANNOTATION_ID", "?") for a, interval in zip(annotations, found, strict=True) if interval is None]
    if lost:
        source.warnings.append(f"{source.path}: left out, no times: {shorten(lost)} of tier {name}")
    return _Tier(name, tuple(interval for interval in found if interval is not None))


def _eaf_interval(annotation: ElementTree.Element, slots: dict[str, str | None], source: Source) -> _Interval | None:
    """An annotation in seconds; None where one of its slots has no time, which ELAN allows."""
    name = f"annotation {annotation.get('ANNOTATION_ID', '?')}"
    ids = [annotation.get(f"TIME_SLOT_REF{side}", "") for side in (1, 2)]
    for slot in ids:
        if slot not in slots:
            raise source.error(name, f"refers to the time slot '{slot}', which is not there")
    times = [slots[slot] for slot in ids]
    if None in times:
        return None
    start, end = (time_at(time or "", source, name) / 1000 for time in times)
    return _Interval(start, end, annotation.findtext("ANNOTATION_VALUE") or "", name)
