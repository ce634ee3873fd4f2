"""Timelines as one self-contained HTML page, which makes no requests and works as an e-mail attachment."""

from __future__ import annotations

import base64
import io
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from lpgnet.pipeline.corpora.audio import describe, open_audio, read_blocks, segment_of
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.media import as_far_as_it_goes, decodable, needs_decoding
from lpgnet.pipeline.reports.config import PageConfig
from lpgnet.pipeline.reports.rows import UNCERTAIN, Timeline
from lpgnet.pipeline.reports.speakers import summaries
from lpgnet.pipeline.reports.templates import templates

TEMPLATE = "timeline.html"
# Number of colors and patterns in the page's style; further classes reuse them, and so do speakers.
N_STYLES = 8
# Formats and codings that browsers play, in libsndfile's names; anything else is compressed for the page.
_PLAYED = {
    "WAV": ("audio/wav", ("PCM_16", "PCM_24", "PCM_U8", "FLOAT")),
    "FLAC": ("audio/flac", ("PCM_16", "PCM_24", "PCM_S8")),
    "OGG": ("audio/ogg", ("VORBIS", "OPUS")),
    "MP3": ("audio/mpeg", ("MPEG_LAYER_III",)),
    "MPEG": ("audio/mpeg", ("MPEG_LAYER_III",)),
}
# Formats that libsndfile does not decode but browsers do.
_CONTAINERS = {".m4a": "audio/mp4", ".mp4": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
# What browsers play, by the suffix of a playable copy.
PLAYED_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg", **_CONTAINERS}
_COMPRESSED_RATE = 24_000


def to_html(timeline: Timeline, folder: Path, config: PageConfig) -> str:
    """Format a timeline as a page.

    Args:
        timeline: the timeline.
        folder: folder of the page, for the link to a recording that is not embedded.
        config: how the page is made.
    """
    template = templates().get_template(TEMPLATE)
    n_classes = len(timeline.classes)
    return template.render(
        timeline=timeline,
        classes=timeline.classes,
        labels=timeline.labels,
        uncertain=UNCERTAIN,
        modalities=list(timeline.rows[0].modality_weights),
        speakers=timeline.speakers(),
        numbers={speaker: number for number, speaker in enumerate(timeline.speakers())},
        summary=summaries(timeline),
        data=asdict(_page_data(timeline)),
        audio=_audio(timeline.recording, folder, config),
        embedded=timeline.recording is not None and is_embedded(timeline.recording, config),
        style=lambda label: f"class-{label % N_STYLES}" if label < n_classes else "class-uncertain",
        n_styles=N_STYLES,
        clock=clock,
    )


def clock(seconds: float) -> str:
    """Format seconds as `0:07` or `1:02:03`."""
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


@dataclass(frozen=True)
class PageTurn:
    """A turn as the page's script reads it.

    Attributes:
        id: of the utterance.
        speaker, label: indices of the speaker and the label.
        probabilities: of each class.
    """

    id: str
    start: float
    end: float
    channel: int | None
    speaker: int
    text: str | None
    label: int
    probabilities: list[float]


@dataclass(frozen=True)
class PageDimension:
    """A dimension as the page's script reads it.

    Attributes:
        low, high: its range.
        ratings: of each turn.
    """

    name: str
    low: float
    high: float
    ratings: list[float]


@dataclass(frozen=True)
class PageData:
    """What the page's script reads: the timeline, and what the corrected table calls it and its recording."""

    name: str
    audio: str | None
    seconds: float
    labels: list[str]
    n_classes: int
    uncertain: int
    n_styles: int
    speakers: list[str | None]
    turns: list[PageTurn]
    dimensions: list[PageDimension]


def _page_data(timeline: Timeline) -> PageData:
    labels, speakers = timeline.labels, timeline.speakers()
    numbers = {speaker: number for number, speaker in enumerate(speakers)}
    turns = [
        PageTurn(
            id=row.utterance,
            start=round(row.start, 3),
            end=round(row.end, 3),
            channel=row.channel,
            speaker=numbers[row.speaker],
            text=row.text,
            label=labels.index(row.label),
            probabilities=[round(value, 4) for value in row.probabilities.values()],
        )
        for row in timeline.rows
    ]
    n_classes = len(timeline.classes)
    return PageData(
        name=timeline.name,
        audio=timeline.audio,
        seconds=timeline.seconds,
        labels=labels,
        n_classes=n_classes,
        uncertain=labels.index(UNCERTAIN),
        n_styles=N_STYLES,
        speakers=speakers,
        turns=turns,
        dimensions=[_page_dimension(timeline, name) for name in timeline.dimensions],
    )


def _page_dimension(timeline: Timeline, name: str) -> PageDimension:
    low, high = timeline.ranges[name]
    return PageDimension(name, low, high, [round(row.dimensions[name], 4) for row in timeline.rows])


def is_embedded(recording: Path, config: PageConfig) -> bool:
    """Tell whether a recording is small enough to be part of the page."""
    return recording.stat().st_size <= config.embed_megabytes * 1e6


def _audio(recording: Path | None, folder: Path, config: PageConfig) -> str | None:
    """Return the address of the sound for the page's player: its data, or a relative link."""
    if recording is None:
        return None
    if not is_embedded(recording, config):
        return quote(os.fsencode(os.path.relpath(recording.resolve(), folder.resolve()).replace(os.sep, "/")))
    kind, content = _playable(recording)
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def playable_copy(recording: Path, folder: Path, name: str) -> Path:
    """Put a recording into a folder in a form that browsers play: as it is where they play that, else compressed.

    Args:
        recording: an audio or video file.
        folder: where the copy goes.
        name: its name, without a suffix.

    Raises:
        PipelineError: the recording cannot be read.
    """
    kind = _played_type(recording)
    suffix = next((suffix for suffix, played in PLAYED_TYPES.items() if played == kind), ".ogg")
    copy = folder / f"{name}{suffix}"
    if kind is None:
        copy.write_bytes(_compressed(recording))
    else:
        shutil.copyfile(recording, copy)
    return copy


def _playable(recording: Path) -> tuple[str, bytes]:
    """Return the media type and content of the recording in a form that browsers play."""
    kind = _played_type(recording)
    return (kind, recording.read_bytes()) if kind else ("audio/ogg", _compressed(recording))


def _played_type(recording: Path) -> str | None:
    """Return the media type of the recording if browsers play it, else None."""
    if needs_decoding(recording):
        return _CONTAINERS.get(recording.suffix.lower())
    with open_audio(str(recording)) as sound:
        kind, codings = _PLAYED.get(sound.format, ("", ()))
        return kind if sound.subtype in codings else None


def _compressed(recording: Path) -> bytes:
    """Return the recording mixed down and compressed to Ogg Opus."""
    import soundfile

    target = io.BytesIO()
    try:
        with (
            decodable(recording) as decoded,
            as_far_as_it_goes(decoded) as (audio, _),
            soundfile.SoundFile(target, "w", _COMPRESSED_RATE, 1, format="OGG", subtype="OPUS") as sound,
        ):
            segment = segment_of(str(audio), describe(str(audio)), start=None, end=None, channel=None)
            for block in read_blocks(segment, _COMPRESSED_RATE, seconds=30.0):
                sound.write(block)
    except soundfile.LibsndfileError as error:
        raise PipelineError(f"{recording}: cannot be compressed for the report ({error})") from None
    return target.getvalue()
