"""The `crema_d` reader: clips whose names tell actor, sentence and emotion, and a table of the raters' votes.

Names, sentences, columns and the kinds of presentation are those of the corpus's README
(https://github.com/CheyneyComputerScience/CREMA-D); the corpus is described by Cao et al., CREMA-D: Crowd-sourced
Emotional Multimodal Actors Dataset, IEEE Transactions on Affective Computing 5(4), 2014.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, corpus_root, one_of
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.ratings import majority, votes_in
from lpgnet.pipeline.corpora.text import Row, cell, named_rows, read_any_text, read_bytes
from lpgnet.pipeline.errors import PipelineError, shorten

VERSION = 1
# Actors, who say given sentences in a given emotion.
ABOUT = About("English", "acted", synthetic=False)
PUBLISHED_COUNTS: PublishedCounts = {(): {(): 7442}}

_CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
# The columns of the votes are the first letters of the codes.
_COLUMNS = {code[0]: code for code in _CODES}
_SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
# One file has a single X for its level; the table of votes gives it two.
_NAME = re.compile(r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>LO|MD|HI|XX?)")
# What the raters were given, by the first digit of a row's number.
_PRESENTATIONS = {"voice": "1", "face": "2", "both": "3"}
_LABELS = ("intended", "perceived")
# Issue 8 of the corpus's repository: it plays, and there is no sound.
_SILENT = "1076_MTI_SAD_XX"
_DEMOGRAPHICS = ("Age", "Sex", "Race", "Ethnicity")
_VOTES_FILE = "processedResults/tabulatedVotes.csv"
_POINTER = b"version https://git-lfs"

_Votes = Mapping[str, dict[str, float]]


@dataclass(frozen=True)
class _Clip:
    """A clip: its path, relative to the root, and what its name tells."""

    path: str
    actor: str
    sentence: str
    emotion: str
    level: str

    @property
    def name(self) -> str:
        """As the table of votes has it."""
        return f"{self.actor}_{self.sentence}_{self.emotion}_{self.level}"


def read(root: str, *, label: str = "intended", votes: str = "voice") -> ReadCorpus:
    """Read CREMA-D.

    These are no conversations: each clip is a dialogue of its own, so that none is context of another. By the voice
    alone, raters recognize the intended emotion of 41 % of the clips (the paper's abstract), so the two kinds of label
    differ much. What is known of the actor goes to `extra`.

    Args:
        root: folder with `AudioWAV`, `processedResults/tabulatedVotes.csv` and `VideoDemographics.csv`; without the
            tables there are no votes or demographics.
        label: `intended` is the emotion that the actor was asked for; `perceived` the one that most raters chose,
            null where several are first.
        votes: those of the raters that had the `voice`, the `face`, or `both`.

    Raises:
        PipelineError: no clip is there, or a row of a table is wrong; names file and line.
        UsageError: an option has another value.
    """
    one_of(label, _LABELS, option="label")
    one_of(votes, _PRESENTATIONS, option="votes")
    folder = corpus_root(root)
    clips, warnings = _clips(folder)
    counted, notes = _read_votes(folder, _PRESENTATIONS[votes])
    actors, more = _read_actors(folder)
    if counted and (unrated := [clip.name for clip in clips if clip.name not in counted]):
        notes.append(f"{folder / _VOTES_FILE}: has no votes of {votes} for {shorten(unrated)}")
    utterances = [_utterance(clip, counted.get(clip.name), actors.get(clip.actor, {}), label=label) for clip in clips]
    return ReadCorpus(utterances=utterances, warnings=[*warnings, *notes, *more], version=VERSION)


def sources(root: str, *, label: str = "intended", votes: str = "voice") -> list[Path]:
    """Return the two tables, and the folder of the clips, whose change tells that clips came or went."""
    folder = corpus_root(root)
    tables = (folder / _VOTES_FILE, folder / "VideoDemographics.csv")
    return [_audio_folder(folder), *(path for path in tables if path.is_file())]


def _audio_folder(folder: Path) -> Path:
    return folder / "AudioWAV" if (folder / "AudioWAV").is_dir() else folder


def _clips(folder: Path) -> tuple[list[_Clip], list[str]]:
    audio = _audio_folder(folder)
    files = sorted(path for path in audio.iterdir() if path.suffix.lower() == ".wav" and path.name[0] != ".")
    found = {path: _clip(path, folder) for path in files}
    clips = [clip for clip in found.values() if clip]
    if not clips:
        raise PipelineError(f"{folder}: has no clip such as AudioWAV/1001_DFA_ANG_XX.wav; set corpus.root")
    others = [path.name for path, clip in found.items() if clip is None]
    warnings = [f"{audio}: left out, as the name is none of CREMA-D's: {shorten(others)}"] if others else []
    return clips, [*warnings, *_sound_warnings(files, audio)]


def _clip(path: Path, folder: Path) -> _Clip | None:
    match = _NAME.fullmatch(path.stem)
    if match is None or match["sentence"] not in _SENTENCES or match["emotion"] not in _CODES:
        return None
    level = match["level"].ljust(2, "X")
    return _Clip(path.relative_to(folder).as_posix(), match["actor"], match["sentence"], match["emotion"], level)


def _sound_warnings(files: Sequence[Path], audio: Path) -> list[str]:
    warnings = []
    if any(path.stem == _SILENT for path in files):
        warnings.append(f"{audio}: {_SILENT} is known to be without sound and is used without audio")
    if _is_pointer(files[0]):
        warnings.append(f"{files[0]}: is a pointer of Git LFS, not sound; run `git lfs pull` in the corpus's folder")
    return warnings


def _is_pointer(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < 1000 and read_bytes(path).startswith(_POINTER)


def _read_votes(folder: Path, presentation: str) -> tuple[_Votes, list[str]]:
    """Read the votes of one kind of presentation, by the name of the clip."""
    path = folder / _VOTES_FILE
    if not path.is_file():
        return {}, [f"{path}: no such file; there are no votes"]
    text, warnings = read_any_text(path)
    return dict(_vote_rows(text, path, presentation)), warnings


def _vote_rows(text: str, path: Path, presentation: str) -> Iterator[tuple[str, dict[str, float]]]:
    # R writes the numbers of the rows into a column without a name.
    start = next((start for start in ('"",', ",") if text.startswith(start)), None)
    named = f"number,{text[len(start) :]}" if start else text
    for line, row in named_rows(named, path):
        where = f"{path}, line {line}"
        if cell(row, "number", where=where).startswith(presentation):
            yield cell(row, "fileName", where=where), _votes(row, where=where)


def _votes(row: Row, *, where: str) -> dict[str, float]:
    counts = {
        code: votes_in(cell(row, column, where=where), where=f"{where}, column '{column}'")
        for column, code in _COLUMNS.items()
    }
    return {code: count for code, count in counts.items() if count}


def _read_actors(folder: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    path = folder / "VideoDemographics.csv"
    if not path.is_file():
        return {}, []
    text, warnings = read_any_text(path)
    rows = [(f"{path}, line {line}", row) for line, row in named_rows(text, path)]
    return {cell(row, "ActorID", where=where): _demographics(row, where=where) for where, row in rows}, warnings


def _demographics(row: Row, *, where: str) -> dict[str, str]:
    return {column.lower(): cell(row, column, where=where) for column in _DEMOGRAPHICS}


def _utterance(clip: _Clip, votes: dict[str, float] | None, actor: Mapping[str, str], *, label: str) -> Utterance:
    name = Path(clip.path).stem
    extra: dict[str, Any] = {"sentence": clip.sentence, "intended": clip.emotion, "level": clip.level, **actor}
    return Utterance(
        dialogue_id=name,
        utterance_id=name,
        audio=None if name == _SILENT else clip.path,
        text=_SENTENCES[clip.sentence],
        speaker=clip.actor,
        label=clip.emotion if label == "intended" else majority(votes or {}),
        votes=votes or None,
        extra=extra,
    )
