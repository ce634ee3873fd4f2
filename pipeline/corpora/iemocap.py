"""The `iemocap` reader: transcripts give the turns and their order, the evaluation files the labels and times."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.agreement import SHARED_VOTES
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, corpus_root, one_of
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.ratings import DIMENSIONS
from lpgnet.pipeline.corpora.text import read_any_text
from lpgnet.pipeline.errors import PipelineError, shorten

VERSION = 2
# Actors, who play written scenes and improvise others.
ABOUT = About("English", "acted", synthetic=False)
_LABELS = ("ang", "hap", "exc", "sad", "neu")
_PER_SESSION = {
    "Ses01": (229, 135, 143, 194, 384),
    "Ses02": (137, 117, 210, 197, 362),
    "Ses03": (240, 135, 151, 305, 320),
    "Ses04": (327, 65, 238, 143, 258),
    "Ses05": (170, 143, 299, 245, 384),
}
_CODES = {
    "neu": 1708,
    "ang": 1103,
    "sad": 1084,
    "exc": 1041,
    "hap": 595,
    "fru": 1849,
    "sur": 107,
    "fea": 40,
    "dis": 2,
    "oth": 3,
    "xxx": 2507,
}
PUBLISHED_COUNTS: PublishedCounts = {
    (): {(): sum(_CODES.values())},
    ("label",): {(code,): count for code, count in _CODES.items()},
    ("session", "label"): {
        (session, label): count
        for session, counts in _PER_SESSION.items()
        for label, count in zip(_LABELS, counts, strict=True)
    },
}
_RELEASE = "IEMOCAP_full_release"
_AUDIO = ("sentences", "dialog")
_CONDITIONS = {"impro": "improvised", "script": "scripted"}
_DIALOGUE = re.compile(r"(?P<session>Ses\d\d)[FM]_(?P<condition>impro|script)\w+")
_TURN = re.compile(r"(?P<id>Ses\w+)\s*\[[\d.]+\s*-\s*[\d.]+\]:(?P<text>.*)")
# The single raters' lines (C-E2:, A-F1:) begin otherwise.
_LABEL = re.compile(r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<id>\w+)\t(?P<code>\w+)\t\[(?P<ratings>[^\]]*)\]\s*")
# An evaluator's line: C-E2 judged somebody else, C-F1 and C-M1 are the actors' own reports.
_RATER = re.compile(r"C-(?P<kind>[EFM])\d+:(?P<names>[^(]*)(?:\(.*)?", re.IGNORECASE)
# The header, and the single raters' ratings, whose means are used.
_UNREAD = ("%", "A-", "a-")
_CATEGORIES = {
    "neutral": "neu",
    "neutral state": "neu",
    "anger": "ang",
    "sadness": "sad",
    "excited": "exc",
    "happiness": "hap",
    "frustration": "fru",
    "surprise": "sur",
    "fear": "fea",
    "disgust": "dis",
    "other": "oth",
}
# Evaluators rated from 1 to 5 (Busso et al., IEMOCAP, Language Resources and Evaluation 42, 2008); the triple is their
# mean, without the actors' own reports. The release has some 0.5 and 5.5, which public code for it sets to 1 and 5.
_RANGE = (1.0, 5.0)
_SLIP = 0.5
_Codes: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class _Label:
    """What an evaluation file says of an utterance.

    Attributes:
        start, end: seconds within the dialogue's recording.
        ratings: by dimension.
        others: the codes that each evaluator named.
        own: the codes that each actor named of the play.
    """

    code: str
    start: float
    end: float
    ratings: dict[str, float]
    others: tuple[_Codes, ...]
    own: tuple[_Codes, ...]


@dataclass(frozen=True)
class _Block:
    """A label line, and the evaluators' lines below it, each with its number."""

    line: tuple[int, str]
    raters: list[tuple[int, str]]


class _Notes:
    """What is odd about a file, and in which lines; one warning for each oddity."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, line: int, oddity: str) -> None:
        self._lines[oddity].append(line)

    def warnings(self) -> list[str]:
        """Return the oddities in the order in which they were found."""
        return [
            f"{self.path}, line{'s' * (len(lines) > 1)} {shorten(lines)}: {oddity}"
            for oddity, lines in self._lines.items()
        ]


def read(root: str, *, audio: str = "sentences") -> ReadCorpus:
    """Read IEMOCAP.

    The utterances are the labelled ones, all 10,039 of them, in the order of the transcript files. Lines that are
    only in a transcript (`..._MXX0`, `M: Yeah.`) have neither a label nor a wav file of their own and are left out.

    Evaluators who named several categories divide their vote among them. `extra.shared_votes` tells which of the votes
    these are, and `extra.self_votes` what the actors themselves reported. An evaluator's line that cannot be read, or
    that names a category which the corpus does not have, loses its vote with a warning rather than an error: the
    utterance and its label are sound, and nobody can ask the evaluator again.

    Args:
        root: folder with `Session1` to `Session5`, or its parent that has them in `IEMOCAP_full_release`.
        audio: `sentences` takes one wav file per utterance, with null `start` and `end`; `dialog` takes one per
            dialogue, with the times in it.

    Raises:
        PipelineError: no dialogue is there, or a file is not as it should be; names the file and the line.
        UsageError: `audio` is neither.
    """
    one_of(audio, _AUDIO, option="audio")
    folder, dialogues = _dialogues(root)
    utterances: list[Utterance] = []
    warnings: list[str] = []
    for transcript in dialogues:
        found, notes = _read_dialogue(transcript, folder, audio=audio)
        utterances += found
        warnings += notes
    return ReadCorpus(utterances, warnings, VERSION, dict.fromkeys(DIMENSIONS, _RANGE))


def sources(root: str, *, audio: str = "sentences") -> list[Path]:
    """Return the transcript and the evaluation file of every dialogue."""
    transcripts = _dialogues(root)[1]
    labels = [_label_path(path) for path in transcripts]
    return transcripts + [path for path in labels if path.is_file()]


def _dialogues(root: str) -> tuple[Path, list[Path]]:
    """Return the corpus root and its transcript files; macOS leaves files beside them whose names begin with `._`."""
    folder = corpus_root(root)
    for base in (folder, folder / _RELEASE):
        found = sorted(base.glob("Session[1-5]/dialog/transcriptions/Ses*.txt"))
        if found:
            return folder, found
    raise PipelineError(f"{root}: has no Session1/dialog/transcriptions/*.txt, directly or in {_RELEASE}")


def _label_path(transcript: Path) -> Path:
    return transcript.parents[1] / "EmoEvaluation" / transcript.name


def _read_dialogue(transcript: Path, folder: Path, *, audio: str) -> tuple[list[Utterance], list[str]]:
    label_path = _label_path(transcript)
    if not label_path.is_file():
        return [], [f"{label_path}: no such file; dialogue {transcript.stem} is left out"]
    labels, warnings = _read_labels(label_path)
    turns, notes = _read_turns(transcript)
    session = transcript.parents[2].relative_to(folder).as_posix()
    utterances = [
        _utterance(name, text, labels[name], transcript=transcript, session=session, audio=audio)
        for name, text in turns.items()
        if name in labels
    ]
    lost = [name for name in labels if name not in turns]
    if lost:
        warnings.append(f"{transcript}: has no line for {shorten(lost)}; they are left out, as their order is unknown")
    return utterances, warnings + notes


def _read_turns(path: Path) -> tuple[dict[str, str], list[str]]:
    text, warnings = read_any_text(path)
    matches = (_TURN.fullmatch(line.strip()) for line in text.split("\n"))
    return {match["id"]: match["text"].strip() for match in matches if match}, warnings


def _read_labels(path: Path) -> tuple[dict[str, _Label], list[str]]:
    text, warnings = read_any_text(path)
    notes = _Notes(path)
    labels = dict(_label(block, notes) for block in _blocks(text, notes))
    return labels, warnings + notes.warnings()


def _blocks(text: str, notes: _Notes) -> Iterator[_Block]:
    block: _Block | None = None
    for number, line in enumerate(map(str.strip, text.split("\n")), start=1):
        if line.startswith("["):
            if block is not None:
                yield block
            block = _Block((number, line), [])
        elif not line or line.startswith(_UNREAD):
            continue
        elif block is not None:
            block.raters.append((number, line))
        else:
            notes.add(number, "an evaluator's line stands before the first label line; its vote is left out")
    if block is not None:
        yield block


def _label(block: _Block, notes: _Notes) -> tuple[str, _Label]:
    """Return an utterance's id and label."""
    number, line = block.line
    where = f"{notes.path}, line {number}"
    match = _LABEL.fullmatch(line)
    if match is None:
        raise PipelineError(f"{where}: is not a label line: {line!r}")
    start, end, named = _numbers(match, where=where)
    ratings = {name: _in_range(name, rating, number, notes) for name, rating in named.items()}
    raters = [(kind, codes) for line in block.raters for kind, codes in _rater(*line, notes)]
    others = tuple(codes for kind, codes in raters if kind == "E")
    own = tuple(codes for kind, codes in raters if kind != "E")
    return match["id"], _Label(match["code"], start, end, ratings, others, own)


def _numbers(match: re.Match[str], *, where: str) -> tuple[float, float, dict[str, float]]:
    """Return a label line's start, end and ratings."""
    try:
        ratings = [float(rating) for rating in match["ratings"].split(",")]
        return float(match["start"]), float(match["end"]), dict(zip(DIMENSIONS, ratings, strict=True))
    except ValueError:
        raise PipelineError(f"{where}: has a time or a rating that is not a number") from None


def _in_range(name: str, rating: float, line: int, notes: _Notes) -> float:
    """Return a rating as it is, or the end of the range that it just misses."""
    low, high = _RANGE
    if low <= rating <= high:
        return rating
    if not low - _SLIP <= rating <= high + _SLIP:
        raise PipelineError(
            f"{notes.path}, line {line}: {name} {rating:g} is not between {low:g} and {high:g}; correct it"
        )
    nearest = min(max(rating, low), high)
    notes.add(line, f"{name} {rating:g} is not between {low:g} and {high:g}; it counts as {nearest:g}")
    return nearest


def _rater(number: int, line: str, notes: _Notes) -> Iterator[tuple[str, _Codes]]:
    """Give the kind of an evaluator, and the codes that they named, if they named any."""
    match = _RATER.fullmatch(line)
    names = [] if match is None else [name.strip() for name in match["names"].split(";") if name.strip()]
    unknown = [name for name in names if name.casefold() not in _CATEGORIES]
    if match is None:
        notes.add(number, f"is not an evaluator's line: {line!r:.60}; its vote is left out")
    elif unknown:
        notes.add(number, f"'{unknown[0]:.40}' is not a category of IEMOCAP; this evaluator's vote is left out")
    elif names:
        yield match["kind"].upper(), tuple(dict.fromkeys(_CATEGORIES[name.casefold()] for name in names))


def _votes(raters: Iterable[_Codes]) -> dict[str, float]:
    """Count votes by code; whoever named several codes gives each an equal share of one vote."""
    votes: defaultdict[str, Fraction] = defaultdict(Fraction)
    for codes in raters:
        for code in codes:
            votes[code] += Fraction(1, len(codes))
    return {code: float(count) for code, count in votes.items()}


def _rest(label: _Label) -> dict[str, dict[str, float]]:
    several = [codes for codes in label.others if len(codes) > 1]
    found = {"self_votes": _votes(label.own), SHARED_VOTES: _votes(several)}
    return {name: votes for name, votes in found.items() if votes}


def _utterance(name: str, text: str, label: _Label, *, transcript: Path, session: str, audio: str) -> Utterance:
    dialogue = transcript.stem
    parts = _DIALOGUE.fullmatch(dialogue)
    # The letter in the dialogue's name tells who wore the markers; the speaker's is in the last field.
    gender = name.rpartition("_")[2][:1]
    if parts is None or gender not in ("F", "M"):
        raise PipelineError(f"{transcript}: '{name}' is not an utterance id of IEMOCAP (such as Ses01F_impro01_F000)")
    whole = audio == "dialog"
    path = f"dialog/wav/{dialogue}.wav" if whole else f"sentences/wav/{dialogue}/{name}.wav"
    return Utterance(
        dialogue_id=dialogue,
        utterance_id=name,
        audio=f"{session}/{path}",
        start=label.start if whole else None,
        end=label.end if whole else None,
        text=text,
        speaker=parts["session"] + gender,
        session=parts["session"],
        condition=_CONDITIONS[parts["condition"]],
        label=label.code,
        votes=_votes(label.others) or None,
        valence=label.ratings["valence"],
        arousal=label.ratings["arousal"],
        dominance=label.ratings["dominance"],
        extra=_rest(label),
    )
