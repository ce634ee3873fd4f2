"""Timelines as files: one writer per format, chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lpgnet.pipeline.common.files import write_atomically
from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean
from lpgnet.pipeline.reports.annotations import to_audacity, to_eaf, to_rttm, to_text_grid
from lpgnet.pipeline.reports.config import PageConfig
from lpgnet.pipeline.reports.label_studio import to_label_studio
from lpgnet.pipeline.reports.page import to_html
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow
from lpgnet.pipeline.reports.subtitles import to_srt, to_vtt
from lpgnet.pipeline.reports.tables import to_csv, to_json_lines

__all__ = ["FORMATS", "Timeline", "TimelineRow", "check_formats", "output_paths", "write_timeline"]

# By name, which is also the suffix of most.
FORMATS: dict[str, Callable[[Timeline], str]] = {
    "jsonl": to_json_lines,
    "csv": to_csv,
    "srt": to_srt,
    "vtt": to_vtt,
    "textgrid": to_text_grid,
    "eaf": to_eaf,
    "rttm": to_rttm,
    "labelstudio": to_label_studio,
    "audacity": to_audacity,
}
HTML = "html"
# Of all recordings together, so not among those that each recording has.
PARQUET = "parquet"
_SUFFIXES = {"textgrid": "TextGrid", "labelstudio": "labelstudio.json", "audacity": "audacity.txt"}


def check_formats(formats: str | Sequence[str]) -> tuple[str, ...]:
    """Parse a list of formats or a string of them separated by commas.

    `all` means every format that has a file for each recording, which `parquet` has not.

    Raises:
        UsageError: a format is unknown, or there is none.
    """
    names = formats.split(",") if isinstance(formats, str) else formats
    wanted = [name.strip().lower() for name in names if name.strip()]
    known = (*FORMATS, HTML, PARQUET)
    if "all" in wanted:
        wanted[:] = [*FORMATS, HTML, *(name for name in wanted if name != "all")]
    for name in wanted:
        if name not in known:
            hint = did_you_mean(name, known) or f"; known: {', '.join(known)}, all"
            raise UsageError(f"key 'formats': unknown format '{name}'{hint}")
    if not wanted:
        raise UsageError(f"key 'formats': name at least one of {', '.join(known)}")
    return tuple(dict.fromkeys(wanted))


def output_paths(folder: Path, name: str, formats: Sequence[str]) -> dict[str, Path]:
    """Return the path of each format of a timeline."""
    return {form: folder / f"{name}.{_SUFFIXES.get(form, form)}" for form in formats}


def write_timeline(
    timeline: Timeline, folder: Path, formats: Sequence[str], page: PageConfig, *, csv_raw: bool = False
) -> list[Path]:
    """Write a timeline in each format, each file whole or not at all, and return their paths.

    Args:
        timeline: what is written.
        folder: is made where there is none.
        formats: as `check_formats` gives them.
        page: settings of the HTML page.
        csv_raw: keep cells of CSV that a spreadsheet would run as they are.

    Raises:
        PipelineError: the folder cannot be written.
    """
    paths = output_paths(folder, timeline.name, formats)
    where = (folder / timeline.name).parent
    writers: dict[str, Callable[[Timeline], str]] = {
        **FORMATS,
        "csv": partial(to_csv, raw=csv_raw),
        "eaf": partial(to_eaf, folder=where),
        HTML: partial(to_html, folder=where, config=page),
    }
    try:
        for form, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, writers[form](timeline))
    except OSError as error:
        raise PipelineError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); "
            "choose another folder with --out"
        ) from None
    return list(paths.values())
