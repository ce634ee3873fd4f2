"""What of each utterance is not speech: found once in every file, kept beside the manifest, cut off where wanted."""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lpgnet.cache import audio_key
from lpgnet.pipeline.common.files import read_json, write_atomically
from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.embeddings.plan import Plan, Problem, Request, why
from lpgnet.pipeline.errors import PipelineError

SPEECH_FILE = "speech.json"
# What counts as speech here, silero's own levels, whatever turns are found by: with other values a model that was
# trained on trimmed utterances would hear others in use. Whoever changes one raises the version.
MEASURED = VoiceActivityConfig(threshold=0.5, release=0.35, min_speech=0.1, min_silence=0.1, padding=0.0)
# Kept before the first and after the last speech, as words begin and end below those levels (seconds).
MARGIN = 0.1
VERSION = 1

# The digest of a file's content and the channel: what speech is looked for in.
Source = tuple[str, int | None]
# By source: where each stretch of speech starts and ends in turn (seconds of the file), or why that cannot be told.
Speech = Mapping[Source, list[float] | str]


@dataclass(frozen=True)
class Silence:
    """What of an utterance is not speech: before its first and after its last word, and of all its `seconds`."""

    lead: float
    trail: float
    speech: float
    seconds: float


def sources(plan: Plan) -> dict[Source, Segment]:
    """Return the files and channels that a plan's utterances are in, each with one of them."""
    segments = (request.source for request in plan.requests)
    return {source_of(plan, segment): segment for segment in segments if isinstance(segment, Segment)}


def whole(plan: Plan, segment: Segment) -> Segment:
    """Return all of a segment's file and channel."""
    return replace(segment, start=0, end=plan.files[segment.file].n_samples)


def source_of(plan: Plan, segment: Segment) -> Source:
    """Return what a segment of a plan is part of."""
    return plan.files[segment.file].digest, segment.channel


def find_speech_in(plan: Plan) -> Speech:
    """Look for speech in all files of a plan."""
    return look_for_speech({source: whole(plan, segment) for source, segment in sources(plan).items()})


def look_for_speech(wanted: Mapping[Source, Segment]) -> Speech:
    """Look for speech in whole files."""
    from lpgnet.pipeline.corpora.voice_activity import find_speech

    found: dict[Source, list[float] | str] = {}
    for source, segment in wanted.items():
        try:
            found[source] = [time for span in find_speech(segment, MEASURED) for time in (span.start, span.end)]
        except Exception as error:
            found[source] = why(error)
    return found


def read_speech(folder: Path) -> Speech:
    """Read what was found in an experiment's files; nothing before the features stage, or by another version.

    Raises:
        PipelineError: the file is damaged; names it and the key.
    """
    path = folder / SPEECH_FILE
    if not path.exists():
        return {}
    values = read_json(path, dict[str, Any])
    version, kept = values.get("version"), values.get("speech")
    if type(version) is not int:
        raise _damaged(path, "version")
    if version != VERSION:
        return {}
    if not isinstance(kept, dict):
        raise _damaged(path, "speech")
    return {_read_source(path, name): _read_times(path, name, times) for name, times in kept.items()}


def _damaged(path: Path, key: str) -> PipelineError:
    return PipelineError(f"{path}: wrong value @ {key}; delete it and run the features stage again")


def _read_source(path: Path, name: str) -> Source:
    digest, _, channel = name.partition(" ")
    if channel != "mix" and not (channel.isascii() and channel.isdigit() and len(channel) < 9):
        raise _damaged(path, f"speech['{name:.99}']")
    return digest, None if channel == "mix" else int(channel)


def _read_times(path: Path, name: str, times: Any) -> list[float]:
    if not (isinstance(times, list) and len(times) % 2 == 0 and set(map(type, times)) <= {float} and _rise(times)):
        raise _damaged(path, f"speech['{name:.99}']")
    return times


def _rise(times: list[float]) -> bool:
    """Tell whether each of the times is above the one before, the first not below 0, and all are numbers."""
    in_order = sorted(times) == times and len(set(times)) == len(times)
    return not times or (in_order and times[0] >= 0 and math.isfinite(sum(times)))


def write_speech(folder: Path, speech: Speech) -> None:
    """Keep what was found; files in which it cannot be told are looked at again the next time."""
    kept = {
        f"{digest} {'mix' if channel is None else channel}": times
        for (digest, channel), times in speech.items()
        if not isinstance(times, str)
    }
    # One line, as the spans of a large corpus are many.
    write_atomically(folder / SPEECH_FILE, json.dumps({"version": VERSION, "speech": kept}) + "\n")


def speech_within(segment: Segment, times: list[float]) -> np.ndarray:
    """Return the stretches of speech `(n, 2)` within a segment, in order, in seconds of the file.

    What reaches into it for less than a stretch may be is left out: the last sound of whoever spoke before.
    """
    return _clipped(_overlapping(segment, times), segment)


def speech_beyond(segment: Segment, times: list[float], reach: float) -> tuple[float, float]:
    """Return where a segment's first speech begins and its last ends, up to `reach` beyond its borders, in seconds.

    Without speech in it these are its borders.
    """
    start, end = segment.start / segment.sampling_rate, segment.end / segment.sampling_rate
    spans = _overlapping(segment, times)
    return (max(start - reach, spans[0, 0]), min(end + reach, spans[-1, 1])) if len(spans) else (start, end)


def _overlapping(segment: Segment, times: list[float]) -> np.ndarray:
    """The whole stretches `(n, 2)` that a segment has enough of."""
    start, end = segment.start / segment.sampling_rate, segment.end / segment.sampling_rate
    # A file of two days has tens of thousands of stretches, and as many utterances look into it.
    first, last = bisect_right(times, start) // 2, (bisect_left(times, end) + 1) // 2
    spans = np.array(times[2 * first : 2 * last], np.float64).reshape(-1, 2)
    inside = _clipped(spans, segment)
    enough: np.ndarray = spans[inside[:, 1] - inside[:, 0] >= MEASURED.min_speech]
    return enough


def _clipped(spans: np.ndarray, segment: Segment) -> np.ndarray:
    return spans.clip(segment.start / segment.sampling_rate, segment.end / segment.sampling_rate)


def trimmed(segment: Segment, times: list[float]) -> Segment:
    """Cut a segment to its first and last speech and the margin around them; without speech it stays whole."""
    spans = speech_within(segment, times)
    if not len(spans):
        return segment
    first, last = spans[0, 0] - MARGIN, spans[-1, 1] + MARGIN
    rate = segment.sampling_rate
    return replace(segment, start=max(segment.start, round(first * rate)), end=min(segment.end, round(last * rate)))


def with_segment(plan: Plan, request: Request, segment: Segment) -> Request:
    """Return the request for another segment of the same file, under the key of that one."""
    key = audio_key(plan.files[segment.file].digest, segment.start, segment.end, segment.channel)
    return replace(request, key=key, source=segment)


def trim(plan: Plan, speech: Speech) -> Plan:
    """Cut every utterance to its speech; one whose file cannot be, or was not, searched for it becomes a problem."""
    found = [_trimmed_request(plan, request, speech) for request in plan.requests]
    problems = [one for one in found if isinstance(one, Problem)]
    requests = [one for one in found if isinstance(one, Request)]
    return replace(plan, requests=tuple(requests), problems=(*plan.problems, *problems))


def _trimmed_request(plan: Plan, request: Request, speech: Speech) -> Request | Problem:
    if not isinstance(request.source, Segment):
        return request
    times = speech.get(source_of(plan, request.source), "run the features stage first")
    if isinstance(times, str):
        return Problem(request.utterance_id, f"no speech was looked for in {request.source.file}: {times}")
    return with_segment(plan, request, trimmed(request.source, times))


def silences(plan: Plan, speech: Speech) -> dict[str, Silence]:
    """Measure the utterances in which there is speech, as far as that is known, by their ids."""
    found = {}
    for request in plan.requests:
        times = speech.get(source_of(plan, request.source), "") if isinstance(request.source, Segment) else ""
        if isinstance(request.source, Segment) and not isinstance(times, str):
            silence = _measure(request.source, times)
            if silence:
                found[request.utterance_id] = silence
    return found


def _measure(segment: Segment, times: list[float]) -> Silence | None:
    spans = speech_within(segment, times)
    if not len(spans):
        return None
    start, end = segment.start / segment.sampling_rate, segment.end / segment.sampling_rate
    lead, trail = float(spans[0, 0]) - start, end - float(spans[-1, 1])
    return Silence(lead, trail, float((spans[:, 1] - spans[:, 0]).sum()), segment.seconds)


def summarize(measured: Iterable[Silence]) -> dict[str, float]:
    """Return the median `lead` and `trail` (seconds) and the `share` of the time without speech; {} of none."""
    found = list(measured)
    if not found:
        return {}
    share = 1 - sum(one.speech for one in found) / sum(one.seconds for one in found)
    lead, trail = (float(np.median([getattr(one, side) for one in found])) for side in ("lead", "trail"))
    return {"lead": round(lead, 3), "trail": round(trail, 3), "share": round(max(0.0, share), 4)}
