"""Timelines for annotation tools: Praat's TextGrid, ELAN's EAF and NIST's RTTM."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from lpgnet.pipeline.reports.rows import Timeline, TimelineRow, cut_to, printable, tiers

EMOTION = "emotion"
_MEDIA_TYPES = {".wav": "audio/x-wav", ".mp3": "audio/mpeg", ".mp4": "video/mp4", ".m4a": "audio/mp4"}


def to_text_grid(timeline: Timeline) -> str:
    """A tier of words and a tier of emotions for every speaker, by praatio."""
    from praatio import textgrid

    grid = textgrid.Textgrid(0.0, timeline.seconds)
    for name, rows in tiers(cut_to(timeline.rows, timeline.seconds)).items():
        for title, entries in _text_grid_tiers(printable(name), rows).items():
            grid.addTier(textgrid.IntervalTier(title, entries, 0.0, timeline.seconds))
    with TemporaryDirectory(prefix="lpgnet-") as folder:
        path = Path(folder) / "a.TextGrid"
        grid.save(str(path), format="long_textgrid", includeBlankSpaces=True, reportingMode="silence")
        return path.read_text(encoding="utf-8")


def _text_grid_tiers(name: str, rows: Sequence[TimelineRow]) -> dict[str, list[tuple[float, float, str]]]:
    words = [(row.start, row.end, printable(row.text)) for row in rows if row.text and printable(row.text)]
    emotions = [(row.start, row.end, printable(row.label)) for row in rows]
    return ({name: words} if words else {}) | {f"{name} {EMOTION}": emotions}


def to_eaf(timeline: Timeline) -> str:
    """EAF 3.0 with the recording linked, a tier of words and a tier of emotions for every speaker."""
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "lpgnet",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if timeline.recording is not None:
        _link(header, timeline.recording)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    writer = _EafTiers(root, order)
    for name, rows in tiers(timeline.rows).items():
        writer.add(printable(name), rows, [printable(row.text or "") for row in rows])
        writer.add(f"{printable(name)} {EMOTION}", rows, [printable(row.label) for row in rows])
    kind = {"LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true", "GRAPHIC_REFERENCES": "false"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _link(header: ElementTree.Element, recording: Path) -> None:
    media = {
        "MEDIA_URL": recording.resolve().as_uri(),
        "MIME_TYPE": _MEDIA_TYPES.get(recording.suffix.lower(), "unknown"),
        "RELATIVE_MEDIA_URL": f"./{recording.name}",
    }
    ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)


class _EafTiers:
    """Adds tiers to a document, numbering time slots and annotations through."""

    def __init__(self, root: ElementTree.Element, order: ElementTree.Element) -> None:
        self._root, self._order = root, order
        self._n_slots = self._n_annotations = 0

    def add(self, name: str, rows: Sequence[TimelineRow], values: Sequence[str]) -> None:
        tier = ElementTree.SubElement(self._root, "TIER", {"TIER_ID": name, "LINGUISTIC_TYPE_REF": "default-lt"})
        for row, value in zip(rows, values, strict=True):
            self._n_annotations += 1
            slots = {"TIME_SLOT_REF1": self._slot(row.start), "TIME_SLOT_REF2": self._slot(row.end)}
            holder = ElementTree.SubElement(tier, "ANNOTATION")
            annotation = ElementTree.SubElement(
                holder, "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": f"a{self._n_annotations}", **slots}
            )
            ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = value

    def _slot(self, seconds: float) -> str:
        self._n_slots += 1
        values = {"TIME_SLOT_ID": f"ts{self._n_slots}", "TIME_VALUE": str(round(seconds * 1000))}
        ElementTree.SubElement(self._order, "TIME_SLOT", values)
        return values["TIME_SLOT_ID"]


def to_rttm(timeline: Timeline) -> str:
    """A SPEAKER line a turn; the emotion stands in the field for subtypes, its probability in that for confidence."""
    lines = [
        f"SPEAKER {_field(timeline.name)} 1 {row.start:.3f} {row.end - row.start:.3f} <NA> {_field(row.label)} "
        f"{_field(row.speaker)} {row.probability:.4f} <NA>\n"
        for row in timeline.rows
    ]
    return "".join(lines)


def _field(text: str | None) -> str:
    """RTTM has spaces between its fields, so none inside of them."""
    return "_".join(printable(text or "").split()) or "<NA>"
