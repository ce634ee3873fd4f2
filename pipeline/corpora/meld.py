"""The `meld` reader: three CSV files of subtitled turns and a folder of clips for each split."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, corpus_root
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.text import Row, named_rows, read_any_text
from lpgnet.pipeline.errors import PipelineError, did_you_mean, shorten

VERSION = 2
# The actors of a TV series.
ABOUT = About("English", "acted", synthetic=False)


@dataclass(frozen=True)
class _Split:
    """Where a split lies, and which of its clips are known to be missing, corrupt or minutes of other audio."""

    name: str
    clips: str
    bad: frozenset[str]

    @property
    def table(self) -> str:
        """File name of the split's table."""
        return f"{self.name}_sent_emo.csv"


@dataclass(frozen=True)
class _Row:
    """One row of a table: the numbers of its dialogue and turn, and its cells by column."""

    dialogue: int
    turn: int
    cells: Mapping[str, str]

    @property
    def clip(self) -> str:
        """Name of the utterance's clip."""
        return f"dia{self.dialogue}_utt{self.turn}"


_SPLITS = (
    _Split("train", "train_splits", frozenset({"dia125_utt3"})),
    _Split("dev", "dev_splits_complete", frozenset({"dia110_utt7"})),
    _Split("test", "output_repeated_splits_test", frozenset({"dia38_utt4", "dia220_utt0"})),
)
_LABELS = ("neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust")
_PER_LABEL = {
    "train": (4710, 1743, 683, 1109, 1205, 268, 271),
    "dev": (470, 163, 111, 153, 150, 40, 22),
    "test": (1256, 402, 208, 345, 281, 50, 68),
}
# The distribution table of the corpus's own README.
PUBLISHED_COUNTS: PublishedCounts = {
    ("split",): {(split,): sum(counts) for split, counts in _PER_LABEL.items()},
    ("split", "label"): {
        (split, label): count
        for split, counts in _PER_LABEL.items()
        for label, count in zip(_LABELS, counts, strict=True)
    },
}
_FOLDERS = (".", "data", "data/MELD")
# Of a clip in several forms the first is taken; the corpus comes as mp4.
_SUFFIXES = (".wav", ".flac", ".mp4")
_TEXTS = ("Utterance", "Speaker", "Emotion")
_EXTRA = {
    "Sentiment": "sentiment",
    "Season": "season",
    "Episode": "episode",
    "StartTime": "start_time",
    "EndTime": "end_time",
}
_COLUMNS = (*_TEXTS, "Dialogue_ID", "Utterance_ID", *_EXTRA)
# Bytes of cp1252 that were once decoded as Latin-1 stand as C1 controls in old copies of the tables.
_CONTROLS = {code: bytes([code]).decode("cp1252", errors="ignore") or chr(code) for code in range(0x80, 0xA0)}


def read(root: str) -> ReadCorpus:
    """Read MELD.

    A clip holds one utterance, so `start` and `end` are null; the times within the episode go to `extra` as they
    stand. Ids restart in every split and get its name: `train_dia0_utt3`. Where a clip is missing, or known to be
    bad, `audio` is null.

    Args:
        root: folder with `train_sent_emo.csv`, `dev_sent_emo.csv` and `test_sent_emo.csv` (or with `data/` that holds
            them), and the clips, mp4 as they come or else wav or FLAC, in `train_splits/`, `dev_splits_complete/` and
            `output_repeated_splits_test/`.

    Raises:
        PipelineError: no table is there, or a row is wrong; names file and line.
    """
    folder = corpus_root(root)
    if not any(_table_path(folder, split) for split in _SPLITS):
        raise PipelineError(f"{root}: has no {_SPLITS[0].table}, directly or in {' or '.join(_FOLDERS[1:])}")
    utterances: list[Utterance] = []
    warnings: list[str] = []
    for split in _SPLITS:
        found, notes = _read_split(folder, split)
        utterances += found
        warnings += notes
    return ReadCorpus(utterances=utterances, warnings=warnings, version=VERSION)


def sources(root: str) -> list[Path]:
    """Return the tables, and the clip folders, whose change tells that clips came or went."""
    folder = corpus_root(root)
    paths = [_table_path(folder, split) for split in _SPLITS]
    clips = [folder / split.clips for split in _SPLITS]
    return [path for path in paths if path] + [path for path in clips if path.is_dir()]


def _table_path(folder: Path, split: _Split) -> Path | None:
    paths = (folder / inner / split.table for inner in _FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def _read_split(folder: Path, split: _Split) -> tuple[list[Utterance], list[str]]:
    path = _table_path(folder, split)
    if path is None:
        return [], [f"{folder}: has no {split.table}; the {split.name} split is left out"]
    rows, warnings = _read_rows(path)
    clips = _clips(folder, split)
    utterances = [_utterance(row, split, clips) for row in rows]
    return utterances, warnings + _clip_warnings(rows, split, clips, folder=folder)


def _read_rows(path: Path) -> tuple[list[_Row], list[str]]:
    """Read the rows of one table, by dialogue and turn."""
    text, warnings = read_any_text(path)
    rows = [_row(row, where=f"{path}, line {line}") for line, row in named_rows(text, path)]
    if not rows:
        raise PipelineError(f"{path}: has no rows")
    first = {row.dialogue: index for index, row in reversed(list(enumerate(rows)))}
    return sorted(rows, key=lambda row: (first[row.dialogue], row.turn)), warnings


def _row(cells: Row, *, where: str) -> _Row:
    for name in _COLUMNS:
        if name not in cells:
            raise PipelineError(f"{where}: the table has no column '{name}'{did_you_mean(name, cells)}")
    ids = {name: str(cells[name]).strip() for name in ("Dialogue_ID", "Utterance_ID")}
    for name, value in ids.items():
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise PipelineError(f"{where}: {name} '{value[:40]}' is not a number")
    texts = {name: str(cells[name]).translate(_CONTROLS).strip() for name in _COLUMNS}
    return _Row(int(ids["Dialogue_ID"]), int(ids["Utterance_ID"]), texts)


def _clips(folder: Path, split: _Split) -> dict[str, str]:
    """Find every usable clip of a split: its path, relative to the corpus root, by its name."""
    if not (folder / split.clips).is_dir():
        return {}
    found = [path for path in (folder / split.clips).iterdir() if path.suffix.lower() in _SUFFIXES]
    # The last one of a name stays.
    found.sort(key=lambda path: (_SUFFIXES.index(path.suffix.lower()), path.name), reverse=True)
    return {path.stem: f"{split.clips}/{path.name}" for path in found if path.stem not in split.bad}


def _clip_warnings(rows: Sequence[_Row], split: _Split, clips: Collection[str], *, folder: Path) -> list[str]:
    keys = [row.clip for row in rows]
    bad = [key for key in keys if key in split.bad]
    missing = [key for key in keys if key not in clips and key not in split.bad]
    warnings = [f"{folder / split.clips}: clips known to be bad, used without audio: {shorten(bad)}"] if bad else []
    if missing:
        warnings.append(
            f"{folder / split.clips}: {len(missing)} of {len(rows)} utterances have no clip as"
            f" {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]} and are without audio: {shorten(missing)}"
        )
    return warnings


def _utterance(row: _Row, split: _Split, clips: Mapping[str, str]) -> Utterance:
    cells = row.cells
    return Utterance(
        dialogue_id=f"{split.name}_dia{row.dialogue}",
        utterance_id=f"{split.name}_{row.clip}",
        audio=clips.get(row.clip),
        text=cells["Utterance"],
        speaker=cells["Speaker"] or None,
        label=cells["Emotion"] or None,
        split=split.name,
        extra={name: cells[column] or None for column, name in _EXTRA.items()},
    )
