"""The `iemocap` reader: transcripts give the turns and their order, the evaluation files the labels and times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, corpus_root
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.text import read_any_text
from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean, shorten

VERSION = 1
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
# The single raters' lines (C-E2:, A-F1:) begin otherwise, and so does the header (%).
_LABEL = re.compile(r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<id>\w+)\t(?P<code>\w+)\t\[(?P<ratings>[^\]]*)\]\s*")
_RATINGS = ("valence", "activation", "dominance")


@dataclass(frozen=True)
class _Label:
    """One line of an evaluation file; times in seconds within the dialogue's recording."""

    code: str
    start: float
    end: float
    ratings: dict[str, float]


def read(root: str, *, audio: str = "sentences") -> ReadCorpus:
    """Read IEMOCAP.

    The utterances are the labelled ones, all 10,039 of them, in the order of the transcript files. Lines that are
    only in a transcript (`..._MXX0`, `M: Yeah.`) have neither a label nor a wav file of their own and are left out.

    Args:
        root: folder with `Session1` to `Session5`, or its parent that has them in `IEMOCAP_full_release`.
        audio: `sentences` takes one wav file per utterance, with null `start` and `end`; `dialog` takes one per
            dialogue, with the times in it.

    Raises:
        PipelineError: no dialogue is there, or a file is not as it should be; names the file and the line.
        UsageError: `audio` is neither.
    """
    if audio not in _AUDIO:
        raise UsageError(
            f"corpus.options.audio: '{audio}' is not one of {', '.join(_AUDIO)}{did_you_mean(audio, _AUDIO)}"
        )
    folder, dialogues = _dialogues(root)
    utterances: list[Utterance] = []
    warnings: list[str] = []
    for transcript in dialogues:
        found, notes = _read_dialogue(transcript, folder, audio=audio)
        utterances += found
        warnings += notes
    return ReadCorpus(utterances=utterances, warnings=warnings, version=VERSION)


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
    return dict(_label_lines(text, path)), warnings


def _label_lines(text: str, path: Path) -> Iterator[tuple[str, _Label]]:
    for line_number, line in enumerate(text.split("\n"), start=1):
        if not line.startswith("["):
            continue
        match = _LABEL.fullmatch(line.strip())
        if match is None:
            raise PipelineError(f"{path}, line {line_number}: is not a label line: {line.strip()!r}")
        yield match["id"], _label(match, where=f"{path}, line {line_number}")


def _label(match: re.Match[str], *, where: str) -> _Label:
    try:
        ratings = [float(rating) for rating in match["ratings"].split(",")]
        named = dict(zip(_RATINGS, ratings, strict=True))
        return _Label(code=match["code"], start=float(match["start"]), end=float(match["end"]), ratings=named)
    except ValueError:
        raise PipelineError(f"{where}: has a time or a rating that is not a number") from None


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
        extra=dict(label.ratings),
    )
