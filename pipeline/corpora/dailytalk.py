"""The `dailytalk` reader: `metadata.json` tells what is known of every turn, which has a wav and a text file.

The layout and the emotions are those that the corpus's own code reads (https://github.com/keonlee9420/DailyTalk); the
corpus is described by Lee, Park and Kim, DailyTalk: Spoken Dialogue Dataset for Conversational Text-to-Speech, arXiv
2207.01063.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lpgnet.pipeline.common.files import parse_object
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, corpus_root, without
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.text import read_any_text, read_utf8
from lpgnet.pipeline.errors import PipelineError

VERSION = 1
# Two people, who read dialogues aloud.
ABOUT = About("English", "acted", synthetic=False)
PUBLISHED_COUNTS: PublishedCounts = {}

_EXTRA = ("act", "topic")


def read(root: str) -> ReadCorpus:
    """Read DailyTalk.

    The same two people speak in every dialogue, so no test split can be without the speakers of training: take
    `splits: {scheme: dialogue, allow_speaker_overlap: true}`. The emotions are those that DailyDialog's texts were
    labeled with, before they were spoken; most turns have `no emotion`.

    Args:
        root: folder with `metadata.json`, and `data/<dialogue>/<turn>_<speaker>_d<dialogue>.wav` and `.txt`.

    Raises:
        PipelineError: the metadata are not there, or what they say of a turn is wrong; names the dialogue and the turn.
    """
    folder = corpus_root(root)
    texts, warnings = _read_texts(folder)
    utterances = [_utterance(*turn, folder, texts) for turn in _turns(folder)]
    if not utterances:
        raise PipelineError(f"{_metadata(folder)}: has no dialogues")
    return ReadCorpus(utterances=utterances, warnings=[*warnings, *_missing(utterances, folder)], version=VERSION)


def sources(root: str) -> list[Path]:
    """Return the metadata, the text of every turn, and the folders of the dialogues."""
    folder = corpus_root(root)
    return [_metadata(folder), *sorted((folder / "data").glob("*")), *_text_files(folder)]


def _metadata(folder: Path) -> Path:
    return folder / "metadata.json"


def _text_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "data").glob("*/*.txt") if path.name[0] != ".")


def _read_texts(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Read the first line of every text file, by its path relative to the root, without the suffix."""
    texts: dict[str, str] = {}
    warnings: list[str] = []
    for path in _text_files(folder):
        text, notes = read_any_text(path)
        texts[path.relative_to(folder).with_suffix("").as_posix()] = text.strip().split("\n")[0].strip()
        warnings += notes
    return texts, warnings


def _turns(folder: Path) -> Iterator[tuple[int, int, Mapping[str, Any], str]]:
    """Yield each turn's dialogue and number, what is known of it, and where that stands."""
    path = _metadata(folder)
    dialogues = parse_object(read_utf8(path), where=str(path))
    for dialogue, turns in _numbered(dialogues, where=str(path), what="dialogue"):
        where = f"{path}, dialogue {dialogue}"
        for turn, said in _numbered(turns, where=where, what="turn"):
            yield dialogue, turn, said, f"{where}, turn {turn}"


def _numbered(values: Mapping[str, Any], *, where: str, what: str) -> list[tuple[int, dict[str, Any]]]:
    for key, value in values.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise PipelineError(f"{where}: {what} '{key:.40}' is not a number")
        if not isinstance(value, dict):
            raise PipelineError(f"{where}, {what} {key}: must be an object, not {value!r:.60}")
    return sorted((int(key), value) for key, value in values.items())


def _utterance(
    dialogue: int, turn: int, said: Mapping[str, Any], where: str, folder: Path, texts: Mapping[str, str]
) -> Utterance:
    speaker, emotion = said.get("speaker"), said.get("emotion")
    if str(speaker) not in ("0", "1"):
        raise PipelineError(f"{where}: speaker must be 0 or 1, not {speaker!r:.60}")
    if not isinstance(emotion, str | None):
        raise PipelineError(f"{where}: emotion must be a text, not {emotion!r:.60}")
    name = f"{turn}_{speaker}_d{dialogue}"
    path = f"data/{dialogue}/{name}"
    return Utterance(
        dialogue_id=f"d{dialogue}",
        utterance_id=name,
        audio=f"{path}.wav" if (folder / f"{path}.wav").is_file() else None,
        text=texts.get(path),
        speaker=str(speaker),
        label=emotion or None,
        extra={key: said[key] for key in _EXTRA if key in said},
    )


def _missing(utterances: Sequence[Utterance], folder: Path) -> list[str]:
    data = folder / "data"
    lacking = {
        f"{data}: no wav file, so without audio": [u for u in utterances if u.audio is None],
        f"{data}: no text file, so without text": [u for u in utterances if u.text is None],
    }
    return without(lacking, utterances)
