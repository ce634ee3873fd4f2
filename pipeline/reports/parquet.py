"""Timelines of many recordings as a Parquet dataset: a row a turn, in parts that appear whole."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lpgnet.pipeline.errors import PipelineError, failed_file, kind_and_words
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow

if TYPE_CHECKING:
    import pyarrow as pa

# Below the output folder: the dataset, and the table of what could not be labelled.
DATASET, FAILED = "timelines.parquet", "failed.parquet"
# What a killed process left half written, and nobody writes any more (seconds).
_ABANDONED = 86_400
_SUFFIX = ".unfinished"


@dataclass(frozen=True)
class Fingerprints:
    """What labelled a recording: digests of the model and of its encoders, by modality."""

    model: str
    encoders: Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """A timeline of the dataset.

    Attributes:
        recording: the path or address that people gave.
        made_from: digest of all that the timeline depends on.
    """

    timeline: Timeline
    recording: str
    made_from: str


@dataclass(frozen=True)
class Failure:
    """A recording that could not be labelled, the name of its timeline, and why."""

    recording: str
    timeline: str
    reason: str


@dataclass(frozen=True)
class TimelineDataset:
    """The Parquet files of an output folder.

    A part has all rows of its recordings, and its name is a digest of what they are made from: work that is done twice
    writes the same part twice.

    Attributes:
        out: the output folder.
        scratch: a folder of the same disk for files that are not whole yet.
    """

    out: Path
    scratch: Path

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        return self.out / DATASET

    def done(self) -> dict[str, str]:
        """Return the timelines that are there, and the digest of what each was made from.

        Raises:
            PipelineError: a part cannot be read.
        """
        return {name: made_from for part in reversed(self._parts()) for name, made_from in _contents(part).items()}

    def add(self, entries: Sequence[Entry], fingerprints: Fingerprints) -> Path:
        """Write a part; it is durable when this returns.

        Raises:
            PipelineError: it cannot be written.
        """
        return self._write_part(_table(entries, fingerprints))

    def settle(self, leave_out: Collection[str] = ()) -> None:
        """Take rows out that are not to be there; call it while nobody writes.

        Of a timeline that several parts have, as after one that was made anew or a run that was interrupted or tried
        twice, the newest stays.

        Args:
            leave_out: timelines of which none stays.

        Raises:
            PipelineError: a part cannot be read or written.
        """
        seen, parts = set(leave_out), self._parts()
        right = set()
        for part in parts:
            names = set(_contents(part))
            if kept := names - seen:
                right.add(part if kept == names else self._reduced(part, kept))
            seen |= names
        for part in set(parts) - right:
            part.unlink()
        self._remove_abandoned()

    def write_failures(self, failures: Iterable[Failure]) -> None:
        """Write the table of what could not be labelled, in place of the one that is there.

        Raises:
            PipelineError: it cannot be written.
        """
        import pyarrow as pa

        names = ("recording", "timeline", "reason")
        rows = [{name: in_utf8(getattr(failure, name)) for name in names} for failure in failures]
        schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in names])
        self._write(pa.Table.from_pylist(rows, schema), self.out / FAILED)

    def _parts(self) -> list[Path]:
        """The parts, the newest first."""
        found = [(part.stat().st_mtime_ns, part.name) for part in self.folder.glob("part-*.parquet")]
        return [self.folder / name for _, name in sorted(found, reverse=True)]

    def _reduced(self, part: Path, kept: Collection[str]) -> Path:
        """Write a part of some of the timelines of another, in whose place it comes."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = _read(part)
        return self._write_part(
            table.filter(pc.is_in(table["timeline"], value_set=pa.array(sorted(kept), pa.string())))
        )

    def _write_part(self, table: pa.Table) -> Path:
        made = sorted(_pairs(table).items())
        name = hashlib.sha256(repr(made).encode()).hexdigest()[:32]
        return self._write(table, self.folder / f"part-{name}.parquet")

    def _write(self, table: pa.Table, path: Path) -> Path:
        """Write a table whole or not at all."""
        import pyarrow.parquet as pq

        from lpgnet.cache.files import sync_folder

        temporary = self.scratch / f"{path.name}.{uuid4().hex}{_SUFFIX}"
        try:
            for folder in (self.scratch, path.parent):
                folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                pq.write_table(table, file, compression="zstd", write_page_checksum=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        except OSError as error:
            raise failed_file(error, path) from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return path

    def _remove_abandoned(self) -> None:
        for path in self.scratch.glob(f"*{_SUFFIX}"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()


def in_utf8(text: str) -> str:
    """Give a text that UTF-8 has, half characters (of the names of files) as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _contents(part: Path) -> dict[str, str]:
    """The timelines of a part, and what each was made from."""
    return _pairs(_read(part, columns=("timeline", "made_from")))


def _pairs(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["timeline"].to_pylist(), table["made_from"].to_pylist(), strict=True))


def _read(part: Path, columns: Sequence[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            return file.read(columns and list(columns))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise PipelineError(
            f"{part}: is damaged ({kind_and_words(error)}); delete it, and its recordings are labelled again"
        ) from None


def _table(entries: Sequence[Entry], fingerprints: Fingerprints) -> pa.Table:
    """Lay the turns of timelines out as a table; all are of one model, so that they have the same columns."""
    import pyarrow as pa

    rows = [
        _row(entry, number, row, fingerprints, warnings)
        for entry in entries
        for warnings in [in_utf8("; ".join(entry.timeline.warnings)) or None]
        for number, row in zip(count(1), entry.timeline.rows, strict=False)
    ]
    return pa.Table.from_pylist(rows, pa.schema([_field(name, value) for name, value in rows[0].items()]))


def _row(
    entry: Entry, number: int, row: TimelineRow, fingerprints: Fingerprints, warnings: str | None
) -> dict[str, Any]:
    return {
        "recording": in_utf8(entry.recording),
        "timeline": in_utf8(entry.timeline.name),
        "turn": number,
        "utterance": in_utf8(row.utterance),
        "start": row.start,
        "end": row.end,
        "speaker": row.speaker,
        "channel": row.channel,
        "text": row.text,
        "label": row.label,
        **{f"p_{name}": float(value) for name, value in row.probabilities.items()},
        **{f"w_{name}": float(value) for name, value in row.modality_weights.items()},
        **{name: float(value) for name, value in row.dimensions.items()},
        "warnings": warnings,
        "model": fingerprints.model,
        **{f"{modality}_encoder": value for modality, value in fingerprints.encoders.items()},
        "made_from": entry.made_from,
    }


def _field(name: str, value: object) -> pa.Field:
    """Give the type of a column, which does not follow from a first value that is missing."""
    import pyarrow as pa

    if name in _MAY_BE_MISSING:
        return pa.field(name, pa.int32() if name == "channel" else pa.string())
    kinds: dict[type, Callable[[], pa.DataType]] = {str: pa.string, int: pa.int32, float: pa.float64}
    return pa.field(name, kinds[type(value)](), nullable=False)


_MAY_BE_MISSING = ("speaker", "channel", "text", "warnings")
