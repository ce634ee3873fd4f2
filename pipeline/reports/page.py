"""Timelines as one HTML page with everything in it: it opens from a mail attachment and asks no address."""

from __future__ import annotations

import base64
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lpgnet.pipeline.corpora.audio import describe, read_blocks, segment_of
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.media import needs_decoding
from lpgnet.pipeline.reports.config import PageConfig
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow
from lpgnet.pipeline.reports.templates import templates

TEMPLATE = "timeline.html"
# Colours and patterns in the page's style; more classes than that begin again.
N_STYLES = 8
# What browsers play, by (format, coding) as libsndfile names them; anything else is compressed for the page.
_PLAYED = {
    "WAV": ("audio/wav", ("PCM_16", "PCM_24", "PCM_U8", "FLOAT")),
    "FLAC": ("audio/flac", ("PCM_16", "PCM_24", "PCM_S8")),
    "OGG": ("audio/ogg", ("VORBIS", "OPUS")),
    "MP3": ("audio/mpeg", ("MPEG_LAYER_III",)),
    "MPEG": ("audio/mpeg", ("MPEG_LAYER_III",)),
}
# What libsndfile does not decode, browsers do, all but AVI.
_CONTAINERS = {".m4a": "audio/mp4", ".mp4": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
_COMPRESSED_RATE = 24_000


def to_html(timeline: Timeline, folder: Path, config: PageConfig) -> str:
    """The page of a timeline.

    Args:
        folder: where it will stand, to link a recording that is not embedded.
    """
    template = templates().get_template(TEMPLATE)
    return template.render(
        timeline=timeline,
        classes=timeline.classes,
        modalities=list(timeline.rows[0].modality_weights),
        speakers=timeline.speakers(),
        summary=[_summary(timeline, speaker) for speaker in timeline.speakers()],
        data=_data(timeline),
        audio=_audio(timeline.recording, folder, config),
        embedded=timeline.recording is not None and _is_small(timeline.recording, config),
        style=_style_of,
        clock=clock,
    )


def clock(seconds: float) -> str:
    """Seconds as people read them: `0:07`, `1:02:03`."""
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def _style_of(number: int) -> int:
    return number % N_STYLES


def _data(timeline: Timeline) -> dict[str, Any]:
    """What the page's script needs to know; words are in the page itself."""
    classes, speakers = timeline.classes, timeline.speakers()
    return {
        "seconds": timeline.seconds,
        "classes": classes,
        "turns": [
            {
                "start": round(row.start, 3),
                "end": round(row.end, 3),
                "speaker": speakers.index(row.speaker),
                "label": classes.index(row.label),
                "probabilities": [round(value, 4) for value in row.probabilities.values()],
            }
            for row in timeline.rows
        ],
    }


def _summary(timeline: Timeline, speaker: str | None) -> dict[str, Any]:
    """One speaker's share: turns, seconds, and the seconds in each class."""
    rows = [row for row in timeline.rows if row.speaker == speaker]
    seconds: Counter[str] = Counter()
    for row in rows:
        seconds[row.label] += row.end - row.start  # type: ignore[assignment]
    total = sum(seconds.values())
    return {
        "speaker": speaker,
        "turns": len(rows),
        "seconds": total,
        "shares": [
            (number, name, seconds[name] / total if total else 0.0) for number, name in enumerate(timeline.classes)
        ],
        "weights": _mean_weights(rows),
    }


def _mean_weights(rows: Sequence[TimelineRow]) -> list[tuple[str, float]]:
    names = list(rows[0].modality_weights)
    return [(name, sum(row.modality_weights[name] for row in rows) / len(rows)) for name in names]


def _is_small(recording: Path, config: PageConfig) -> bool:
    return recording.stat().st_size <= config.embed_megabytes * 1e6


def _audio(recording: Path | None, folder: Path, config: PageConfig) -> str | None:
    """Where the page's player finds the sound: in the page itself, or beside it."""
    if recording is None:
        return None
    if not _is_small(recording, config):
        return quote(os.path.relpath(recording.resolve(), folder.resolve()).replace(os.sep, "/"))
    kind, content = _playable(recording)
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _playable(recording: Path) -> tuple[str, bytes]:
    """The recording in a form that browsers play."""
    import soundfile

    if needs_decoding(recording):
        return _CONTAINERS.get(recording.suffix.lower(), "video/webm"), recording.read_bytes()
    found = soundfile.info(str(recording))
    kind, codings = _PLAYED.get(found.format, ("", ()))
    if found.subtype in codings:
        return kind, recording.read_bytes()
    return "audio/ogg", _compressed(recording)


def _compressed(recording: Path) -> bytes:
    """The recording mixed down to Ogg Opus."""
    import soundfile

    segment = segment_of(str(recording), describe(str(recording)), start=None, end=None, channel=None)
    target = io.BytesIO()
    try:
        with soundfile.SoundFile(target, "w", _COMPRESSED_RATE, 1, format="OGG", subtype="OPUS") as sound:
            for block in read_blocks(segment, _COMPRESSED_RATE, seconds=30.0):
                sound.write(block)
    except soundfile.LibsndfileError as error:
        raise PipelineError(f"{recording}: cannot be compressed for the report ({error})") from None
    return target.getvalue()
