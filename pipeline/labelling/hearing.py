"""What a model hears of each turn: cut to its speech, or with silence around the words, as the model was trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from lpgnet.model import EmotionConfig
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.embeddings.plan import Plan, Request
from lpgnet.pipeline.embeddings.silence import (
    Silence,
    Speech,
    find_in,
    silences,
    sources,
    summarize,
    trim,
    with_segment,
)

# Speech is found to within some frames of 32 ms; a smaller difference is none (seconds).
TOLERANCE = 0.1


@dataclass(frozen=True)
class Room:
    """How far a turn may grow: the samples that it must not begin before and end after."""

    least: int
    most: int


@dataclass(frozen=True)
class Heard:
    """The sound of each turn that is embedded, and what was done for it, for people to read."""

    plan: Plan
    choices: tuple[str, ...] = ()


def hear(plan: Plan, model: EmotionConfig, *, pads: bool) -> Heard:
    """Cut or pad turns to what a model was trained on; the times that people see stay.

    Args:
        plan: the turns of a recording, or the utterances of a dialogue.
        model: says what it was trained on.
        pads: whether turns that hug their words may grow.
    """
    if model.audio_trim == "speech":
        return _cut(plan, find_in(sources(plan)))
    longest = max(model.audio_silence.get(side, 0.0) for side in ("lead", "trail"))
    return pad(plan, find_in(sources(plan)), model.audio_silence) if pads and longest > TOLERANCE else Heard(plan)


def _cut(plan: Plan, speech: Speech) -> Heard:
    n_whole = len(plan.requests) - len(silences(plan, speech))
    whole = f"; {n_whole} without speech that is found stay whole" if n_whole else ""
    return Heard(trim(plan, speech), (f"trimmed: turns are cut to their speech, as in the model's training{whole}",))


def pad(plan: Plan, speech: Speech, trained: Mapping[str, float]) -> Heard:
    """Let turns that hug their words grow into the silence around them, as far as nobody else has a turn there.

    A turn grows into no more than half of the pause between it and the next turn of its channel, and not past the
    recording's ends. Nothing happens on a side on which the turns have about the silence of the training already.

    Args:
        plan: the turns of a recording.
        speech: where anybody speaks in it.
        trained: `audio_silence` of the model.
    """
    around = silences(plan, speech)
    had = summarize(around.values())
    lacking = {side: trained[side] for side in ("lead", "trail") if had and trained[side] - had[side] > TOLERANCE}
    if not lacking:
        return Heard(plan)
    rooms = _rooms(plan)
    padded = [
        _padded(plan, one, around.get(one.utterance_id), rooms[one.utterance_id], lacking) for one in plan.requests
    ]
    told = _told(lacking, had, len(padded), sum(less for _, less in padded))
    return Heard(replace(plan, requests=tuple(one for one, _ in padded)), (told,))


def _told(lacking: Mapping[str, float], had: Mapping[str, float], n_turns: int, n_less: int) -> str:
    words = {"lead": "before", "trail": "after"}
    sides = " and ".join(f"{seconds:.2f} s {words[side]} (not {had[side]:.2f})" for side, seconds in lacking.items())
    less = f"; {n_less} of {n_turns} less, as another turn or the end of the recording is near" if n_less else ""
    return f"padded: turns are heard with {sides} their words, as in the model's training{less}"


def _padded(
    plan: Plan, request: Request, own: Silence | None, room: Room, lacking: Mapping[str, float]
) -> tuple[Request, bool]:
    """The request for the grown segment, and whether it has less silence than the training."""
    segment = request.source
    assert isinstance(segment, Segment)
    lead, trail = (own.lead, own.trail) if own else (0.0, 0.0)
    start = segment.start - _missing(lacking.get("lead", 0.0) - lead, segment)
    end = segment.end + _missing(lacking.get("trail", 0.0) - trail, segment)
    grown = replace(segment, start=max(start, room.least), end=min(end, room.most))
    short = max(grown.start - start, end - grown.end) > TOLERANCE * segment.sampling_rate
    return with_segment(plan, request, grown), short


def _missing(seconds: float, segment: Segment) -> int:
    return max(0, round(seconds * segment.sampling_rate))


def _rooms(plan: Plan) -> dict[str, Room]:
    """How far each turn may grow, by its id: channels are apart from each other."""
    channels: dict[tuple[str, int | None], list[Request]] = defaultdict(list)
    for request in plan.requests:
        if isinstance(request.source, Segment):
            channels[request.source.file, request.source.channel].append(request)
    rooms: dict[str, Room] = {}
    for (file, _), requests in channels.items():
        rooms |= _rooms_in_channel(requests, plan.files[file].n_samples)
    return rooms


def _rooms_in_channel(requests: Iterable[Request], n_samples: int) -> dict[str, Room]:
    """Turns that overlap or touch are one stretch, which has room on its outside alone."""
    segments = {one.utterance_id: one.source for one in requests if isinstance(one.source, Segment)}
    stretches = _stretches(segments.values())
    middles = [(before.most + after.least) // 2 for before, after in pairwise(stretches)]
    lefts = dict(zip((stretch.least for stretch in stretches), [0, *middles], strict=True))
    rights = dict(zip((stretch.most for stretch in stretches), [*middles, n_samples], strict=True))
    return {
        name: Room(lefts.get(segment.start, segment.start), rights.get(segment.end, segment.end))
        for name, segment in segments.items()
    }


def _stretches(segments: Iterable[Segment]) -> list[Room]:
    joined: list[Room] = []
    for segment in sorted(segments, key=lambda segment: segment.start):
        if joined and segment.start <= joined[-1].most:
            last = joined.pop()
            joined.append(Room(last.least, max(last.most, segment.end)))
        else:
            joined.append(Room(segment.start, segment.end))
    return joined
