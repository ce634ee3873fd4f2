"""The `datasets` reader: a dataset of the Hugging Face Hub, or one in a local folder, with named columns."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpgnet.pipeline.common.console import progress_bar
from lpgnet.pipeline.common.files import open_binary, open_regular
from lpgnet.pipeline.corpora.audio import open_audio, refuse_link
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus
from lpgnet.pipeline.corpora.clips import Clips
from lpgnet.pipeline.corpora.columns import Columns, read_rows, wanted_columns
from lpgnet.pipeline.corpora.containers import is_container
from lpgnet.pipeline.corpora.hub_files import Split, dataset_folder, home_of, open_splits, source_files, unreadable
from lpgnet.pipeline.corpora.manifest import SPLITS
from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean, shorten

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 2
PUBLISHED_COUNTS: PublishedCounts = {}
# The beginnings of names of splits, as in `train.clean` and `validation_en`.
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "valid", "validation", "val"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_WORD = re.compile(r"[a-z]+")
# A file in an archive, as `datasets` writes it: `zip://call.wav::/folder/archive.zip`.
_IN_ARCHIVE = "::"
_ARCHIVES = ("zip://", "tar://")


@dataclass
class _Row:
    """One row: its split, its number there (from 0, as in `datasets`), its cells, and the file of its audio."""

    split: str
    number: int
    cells: dict[str, Any]
    audio: Path | None

    @property
    def place(self) -> str:
        """Where it stands, for errors."""
        return f"split {self.split}, row {self.number}"


def read(
    root: str,
    *,
    clips: Path,
    name: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    files: Sequence[str] | None = None,
    splits: Mapping[str, str | None] | None = None,
    columns: Mapping[str, str] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    audio: str | None = None,
    follow_links: bool = True,
    fetched: Path | None = None,
) -> ReadCorpus:
    """Read a corpus from a dataset.

    Columns are as those of the `table` reader; codes that the dataset numbers get their names. Without a column for
    `dialogue_id`, each row is a dialogue of its own. Clips that the dataset holds as bytes are written as files, once;
    recordings in its folder are used where they are.

    Args:
        root: folder of the dataset, where there is no name: what `save_to_disk` wrote, Parquet, Arrow, CSV or JSON
            files, or recordings with their metadata (`audiofolder`).
        clips: folder for the clips, unless `audio` names one.
        name: of a dataset of the hub, `owner/dataset`.
        config: name of the dataset's configuration, where it has several.
        revision: the branch, tag or commit of the hub's dataset.
        files: patterns of the files that are read, and of the hub fetched, such as `en/*`; None: all.
        splits: which of the dataset's splits are read, and as which of ours (train, dev, test or null); None: all of
            them, by their names.
        columns: name of the column for each field of the manifest that has another name in the dataset.
        ranges: the lowest and the highest rating that raters could give, as in `{valence: [1, 5]}`.
        audio: folder for the clips.
        follow_links: allow links that lead out of the dataset's folder.
        fetched: what `fetch` gave.

    Raises:
        PipelineError: the dataset is not there, lacks a column or a split, or a row is wrong; names split and row.
        UsageError: an option is not what it should be.
    """
    _check_options(splits, files, {"name": name, "config": config, "revision": revision, "audio": audio})
    wanted = wanted_columns(columns, ranges)
    source = name or root
    folder = fetched or dataset_folder(root, name, revision, files)
    reading = _Reading(
        folder, home_of(folder, name), Clips(Path(audio) if audio else clips), wanted, source, follow_links
    )
    rows = reading.rows(_chosen(open_splits(folder, config, files, source=source), splits, source))
    _say_parts(rows, wanted, splits, reading.warnings)
    _name_dialogues(rows, wanted, reading.warnings)
    base = _place_audio(rows, wanted, reading)
    placed = [(row.place, row.cells) for row in rows]
    found = read_rows(placed, wanted, source=source, version=VERSION, own=list(reading.own))
    own = root if base == folder else str(base)
    return replace(found, warnings=[*reading.told(), *found.warnings], root=own)


def fetch(
    root: str, *, name: str | None = None, revision: str | None = None, files: Sequence[str] | None = None, **_: object
) -> Path | None:
    """Fetch a dataset of the hub, whose branches may move; return its folder, of one commit, or None of a local one."""
    _check_options(None, files, {"name": name, "revision": revision})
    return None if name is None else dataset_folder(root, name, revision, files)


def sources(
    root: str,
    *,
    name: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    files: Sequence[str] | None = None,
    fetched: Path | None = None,
    **_: object,
) -> list[Path]:
    """Return the files that the manifest depends on, and folders of recordings; of the hub, that of the commit."""
    _check_options(None, files, {"name": name, "config": config, "revision": revision})
    folder = fetched or dataset_folder(root, name, revision, files)
    return [folder] if name is not None else source_files(folder, config, files)


def home(root: str, *, name: str | None = None, fetched: Path | None = None, **options: Any) -> str:
    """Return the folder that the files of a dataset lie in: of the hub, that of the repository in the cache."""
    if name is None:
        return root
    return str(home_of(fetched or dataset_folder(root, name, options.get("revision"), options.get("files")), name))


def _check_options(splits: object, files: object, texts: Mapping[str, object]) -> None:
    for option, value in texts.items():
        if not isinstance(value, str | None) or value == "":
            raise UsageError(f"corpus.options.{option}: give a name in quotes, not {value!r:.60}")
    if texts.get("revision") and not texts.get("name"):
        raise UsageError("corpus.options.revision: is of a dataset of the hub; name it in corpus.options.name")
    if files is not None and not (isinstance(files, list | tuple) and all(isinstance(one, str) for one in files)):
        raise UsageError(f"corpus.options.files: give a list of patterns such as [en/*], not {files!r:.60}")
    if not isinstance(splits, Mapping | None):
        raise UsageError(f"corpus.options.splits: give {{split: train, dev, test or null}}, not {splits!r:.60}")
    for name, part in (splits or {}).items():
        if not isinstance(name, str) or part not in (*SPLITS, None):
            raise UsageError(f"corpus.options.splits.{name}: give {', '.join(SPLITS)} or null, not {part!r:.60}")


def _chosen(found: list[Split], splits: Mapping[str, str | None] | None, source: str) -> list[Split]:
    """Return the splits that are read, in the order in which they were asked for."""
    by_name = {split.name: split for split in found}
    for name in splits or ():
        if name not in by_name:
            raise PipelineError(
                f"{source}: has no split '{name}'{did_you_mean(name, by_name)}; its splits are {shorten(by_name)}"
            )
    return [by_name[name] for name in splits] if splits else found


def _part_of(name: str) -> str | None:
    """Return which of our splits a name means."""
    word = _WORD.match(name.lower())
    return _PARTS.get(word[0]) if word else None


@dataclass
class _Reading:
    """Turns the tables of a dataset into rows, and writes the clips that they hold."""

    folder: Path
    # What its recordings may lie in: of the hub, the folder of the repository, whose snapshots link to its blobs.
    home: Path
    clips: Clips
    columns: Columns
    source: str
    follow_links: bool
    warnings: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    # The columns that the dataset has, as keys.
    own: dict[str, None] = field(default_factory=dict)

    def rows(self, splits: Iterable[Split]) -> list[_Row]:
        """Read splits, in memory that does not grow with their audio."""
        rows: list[_Row] = []
        with progress_bar("split", unit="rows") as bar:
            for split in splits:
                task = bar.add_task("dataset", total=split.n_rows or 1, split=split.name)
                for row in self._rows(split):
                    rows.append(row)
                    bar.update(task, completed=row.number + 1, total=max(split.n_rows or 1, row.number + 1))
        return rows

    def told(self) -> list[str]:
        """Return the warnings, with a few of the clips that cannot be read."""
        if not self.unreadable:
            return self.warnings
        listed = shorten(self.unreadable, most=3)
        return [*self.warnings, f"{len(self.unreadable)} clips cannot be read: {listed}"]

    def _rows(self, split: Split) -> Iterator[_Row]:
        number = 0
        # Files are closed here, whatever is wrong with a row.
        with closing(split.tables()) as tables:
            while (table := self._next(tables, split, number)) is not None:
                self.own |= dict.fromkeys(table.column_names)
                column = _audio_column(table, split, self.columns, self.source)
                for cells, sound in zip(_cells(table, column), _sounds(table, column), strict=True):
                    where = f"{self.source}, split {split.name}, row {number}"
                    yield _Row(split.name, number, _named(cells, split, where), self._file(sound, where))
                    number += 1
        if split.n_rows is not None and split.n_rows != number:
            self.warnings.append(
                f"{self.source}, split {split.name}: has {number} rows, but its card says {split.n_rows}; fetch it"
                " again"
            )

    def _next(self, tables: Iterator[pa.Table], split: Split, number: int) -> pa.Table | None:
        try:
            return next(tables, None)
        except Exception as error:
            raise unreadable(error, f"{self.source}, split {split.name}, from row {number} on") from None

    def _file(self, sound: object, where: str) -> Path | None:
        """Return the file of a cell of audio: bytes, a path, or both, of which the bytes count."""
        if isinstance(sound, dict):
            content, name = sound.get("bytes"), sound.get("path")
            sound = name if content is None else content
        else:
            name = None
        if isinstance(sound, bytes):
            return self._kept(sound, name, where)
        if sound is None:
            return None
        if not isinstance(sound, str):
            raise PipelineError(f"{where}: its audio is neither bytes nor a path; convert the column to Audio")
        return self._in_archive(sound, where) if _IN_ARCHIVE in sound else self._inside(sound, where)

    def _kept(self, content: bytes, name: str | None, where: str) -> Path:
        try:
            path = self.clips.keep(content, name)
        except PipelineError as error:
            raise PipelineError(f"{where}: {error}") from None
        return self._readable(path, where)

    def _readable(self, path: Path, where: str) -> Path:
        try:
            # A video is decoded when it is needed.
            if not is_container(_head(path)):
                with open_audio(str(path)):
                    pass
        except PipelineError as error:
            self.unreadable.append(f"{where}: {error}")
        return path

    def _inside(self, path: str, where: str) -> Path:
        file = Path(os.path.abspath(self.folder / path))
        if "://" in path or "\0" in path or not file.is_relative_to(self.folder):
            raise PipelineError(
                f"{where}: its audio '{path:.200}' lies outside {self.folder}; put the recordings there, or store their"
                " bytes in the dataset"
            )
        return file

    def _in_archive(self, path: str, where: str) -> Path:
        inner, _, archive = path.rpartition(_IN_ARCHIVE)
        file = self._inside(archive, where)
        if not inner.startswith(_ARCHIVES) or _IN_ARCHIVE in inner:
            raise PipelineError(f"{where}: its audio '{path:.200}' is in no zip or tar archive; unpack it")
        try:
            self.check(file)
            with open_binary(f"{inner}{_IN_ARCHIVE}{file}") as stream:
                return self._readable(self.clips.keep_stream(stream, inner), where)
        except Exception as error:
            raise PipelineError(f"{where}: '{path:.200}' cannot be unpacked ({error})") from None

    def check(self, file: Path) -> None:
        """Refuse a file that must not be opened.

        Raises:
            PipelineError: a link to it leads elsewhere.
            OSError: there is none, or it is no regular file.
        """
        if not self.follow_links:
            refuse_link(str(file), str(self.home))
        open_regular(file).close()

    def copied(self, file: Path, where: str) -> Path:
        """Copy a recording to the clips; one that cannot be copied is told, and has a path at which there is none."""
        try:
            self.check(file)
            with open_regular(file) as stream:
                return self.clips.keep_stream(stream, file.name)
        except (PipelineError, OSError) as error:
            reason = error if isinstance(error, PipelineError) else f"{file}: {error.strerror or error}"
            self.unreadable.append(f"{where}: {reason}")
            return self.clips.folder / file.relative_to(self.folder)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _audio_column(table: pa.Table, split: Split, columns: Columns, source: str) -> str | None:
    """Return the column of audio: the named one, the one that is called so, or the only one of that kind."""
    named, known = columns.named.get("audio", "audio"), table.column_names
    if named in known:
        return named
    if "audio" in columns.named:
        raise PipelineError(
            f"{source}, split {split.name}: has no column '{named}' for audio{did_you_mean(named, known)}; its columns"
            f" are {shorten(known, most=20)}"
        )
    found = [name for name, kind in split.features.items() if type(kind).__name__ in ("Audio", "Video")]
    return found[0] if len(found) == 1 else None


def _sounds(table: pa.Table, column: str | None) -> Iterator[object]:
    """The cells of audio, one at a time."""
    if column is None:
        yield from [None] * table.num_rows
    else:
        yield from (cell.as_py() for cell in table.column(column))


def _cells(table: pa.Table, column: str | None) -> list[dict[str, Any]]:
    """The other cells, without those that hold bytes: they are pictures and the like."""
    kept = [one.name for one in table.schema if one.name != column and not _holds_bytes(one.type)]
    rows: list[dict[str, Any]] = table.select(kept).to_pylist()
    return rows


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if any(pa.types.is_nested(kind) and _holds_bytes(kind.field(n).type) for n in range(kind.num_fields)):
        return True
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _named(cells: Mapping[str, Any], split: Split, where: str) -> dict[str, Any]:
    return {
        name: _plain(_with_name(value, split.features.get(name), f"{where}, column '{name}'"))
        for name, value in cells.items()
    }


def _with_name(value: Any, feature: Any, where: str) -> Any:
    """Put the name of a class in the place of its number, also in a list of them."""
    if isinstance(value, list):
        return [_with_name(one, getattr(feature, "feature", None), where) for one in value]
    names = getattr(feature, "names", None)
    if names is None or not isinstance(value, int) or value == -1:
        return None if names is not None and value == -1 else value
    if not 0 <= value < len(names):
        raise PipelineError(f"{where}: {value} is no class; the dataset has {len(names)}")
    return names[value]


def _plain(value: Any) -> Any:
    """Return what JSON can hold; what is not a number is nothing."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return value if isinstance(value, str | int | None) else str(value)


def _say_parts(
    rows: Iterable[_Row], columns: Columns, splits: Mapping[str, str | None] | None, warnings: list[str]
) -> None:
    """Write which of our splits each row belongs to: by its own column, or else by the dataset's split."""
    column = columns.named.get("split", "split")
    parts = dict(splits) if splits else {name: _part_of(name) for name in dict.fromkeys(row.split for row in rows)}
    for row in rows:
        own = row.cells.get(column) if splits is None else None
        row.cells[column] = (_part_of(str(own)) or own) if own else parts[row.split]
    unknown = [name for name, part in parts.items() if part is None] if splits is None and len(parts) > 1 else []
    if unknown and any(row.cells[column] is None for row in rows):
        warnings.append(
            f"splits {shorten(unknown)} mean none of {', '.join(SPLITS)}, so their rows have no split; say what they"
            " are in corpus.options.splits, or choose a scheme in splits.scheme"
        )


def _name_dialogues(rows: Sequence[_Row], columns: Columns, warnings: list[str]) -> None:
    """Make each row a dialogue where there is no column for it, and tell apart ids that restart in every split."""
    dialogue, utterance = (columns.named.get(name, name) for name in ("dialogue_id", "utterance_id"))
    if "dialogue_id" not in columns.named and rows and not any(dialogue in row.cells for row in rows):
        warnings.append(
            "no column tells the dialogue_id, so that each row is a dialogue of its own; name it in"
            " corpus.options.columns"
        )
        for row in rows:
            row.cells[dialogue] = str(row.cells.get(utterance) or f"{row.split}_{row.number:06d}")
    for column in (dialogue, utterance):
        if _restarts(rows, column):
            for row in rows:
                if row.cells.get(column) not in (None, ""):
                    row.cells[column] = f"{row.split}_{row.cells[column]}"


def _restarts(rows: Iterable[_Row], column: str) -> bool:
    """Tell whether two splits have the same id."""
    first: dict[str, str] = {}
    ids = ((str(row.cells[column]), row.split) for row in rows if row.cells.get(column) not in (None, ""))
    return any(first.setdefault(name, split) != split for name, split in ids)


def _place_audio(rows: Sequence[_Row], columns: Columns, reading: _Reading) -> Path:
    """Write each row's audio relative to one folder, which is returned: the dataset's, or else that of the clips."""
    column = columns.named.get("audio", "audio")
    spoken = [row for row in rows if row.audio is not None]
    if not spoken:
        reading.warnings.append("no column holds audio; name it in corpus.options.columns")
    inside = all(row.audio.is_relative_to(reading.folder) for row in spoken if row.audio)
    base = reading.home if inside else reading.clips.folder
    for row in rows:
        path = _placed(row, base, reading)
        row.cells[column] = None if path is None else path.relative_to(base).as_posix()
    return base


def _placed(row: _Row, base: Path, reading: _Reading) -> Path | None:
    """Return where the audio of a row lies in a folder: what is elsewhere is copied there."""
    path = row.audio
    if path is None or not path.is_relative_to(reading.folder):
        return path
    if base == reading.clips.folder:
        return reading.copied(path, f"{reading.source}, {row.place}")
    # A snapshot of the hub holds links to the blobs beside it; `predict` follows none that a manifest names.
    real = Path(os.path.realpath(path)) if base != reading.folder else path
    return real if real.is_relative_to(base) else path
