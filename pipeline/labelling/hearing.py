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
    MARGIN,
    Speech,
    find_speech_in,
    silences,
    source_of,
    speech_beyond,
    summarize,
    trim,
    with_segment,
)

# A smaller difference from the training is none (seconds): utterances differ, and speech is found to some 32 ms.
TOLERANCE = 0.1
# Speech that goes on beyond a turn's border for up to this long is the turn's own (seconds): whatever found the turn
# drew the border a little inside.
REACH = 0.25


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
    trims = model.audio_trim == "speech"
    # What was trimmed has the margin around it and no more.
    tolerance = MARGIN / 2 if trims else TOLERANCE
    longest = max(model.audio_silence.get(side, 0.0) for side in ("lead", "trail"))
    pads = pads and longest > tolerance
    if not (trims or pads):
        return Heard(plan)
    speech = find_speech_in(plan)
    cut = _cut(plan, speech) if trims else Heard(plan)
    padded = pad(cut.plan, speech, model.audio_silence, tolerance=tolerance) if pads else Heard(cut.plan)
    return Heard(padded.plan, (*cut.choices, *padded.choices))


def _cut(plan: Plan, speech: Speech) -> Heard:
    n_whole = len(plan.requests) - len(silences(plan, speech))
    whole = f"; {n_whole} without speech that is found stay whole" if n_whole else ""
    return Heard(trim(plan, speech), (f"trimmed: turns are cut to their speech, as in the model's training{whole}",))


def pad(plan: Plan, speech: Speech, trained: Mapping[str, float], *, tolerance: float = TOLERANCE) -> Heard:
    """Let turns that hug their words grow into the silence around them, as far as nobody else has a turn there.

    A turn grows into no more than half of the pause between it and the next turn of its channel, and not past the
    recording's ends. Nothing happens on a side on which the turns have about the silence of the training already.

    Args:
        plan: the turns of a recording.
        speech: where anybody speaks in it.
        trained: `audio_silence` of the model.
        tolerance: how much less than that the turns may have, in the median (seconds).
    """
    had = summarize(silences(plan, speech).values())
    lacking = {side: trained[side] for side in ("lead", "trail") if had and trained[side] - had[side] > tolerance}
    if not lacking:
        return Heard(plan)
    rooms = _rooms(plan)
    requests, n_less = [], 0
    for request in plan.requests:
        wanted = _wanted(plan, request, speech, lacking)
        grown = _bounded(wanted, rooms[request.utterance_id])
        n_less += wanted.seconds - grown.seconds > tolerance
        requests.append(with_segment(plan, request, grown))
    return Heard(replace(plan, requests=tuple(requests)), (_told(lacking, had, len(requests), n_less),))


def _told(lacking: Mapping[str, float], had: Mapping[str, float], n_turns: int, n_less: int) -> str:
    words = {"lead": "before", "trail": "after"}
    sides = " and ".join(f"{seconds:.2f} s {words[side]} (not {had[side]:.2f})" for side, seconds in lacking.items())
    less = f"; {n_less} of {n_turns} less, as another turn or the end of the recording is near" if n_less else ""
    return f"padded: turns are heard with {sides} their words, as in the model's training{less}"


def _wanted(plan: Plan, request: Request, speech: Speech, lacking: Mapping[str, float]) -> Segment:
    """The turn with the silence that it lacks, whoever speaks there and whether or not there is a recording."""
    segment = request.source
    assert isinstance(segment, Segment)
    times = speech[source_of(plan, segment)]
    first, last = speech_beyond(segment, [] if isinstance(times, str) else times, REACH)
    start, end = segment.start, segment.end
    if "lead" in lacking:
        start = min(start, round((first - lacking["lead"]) * segment.sampling_rate))
    if "trail" in lacking:
        end = max(end, round((last + lacking["trail"]) * segment.sampling_rate))
    return replace(segment, start=start, end=end)


def _bounded(segment: Segment, room: Room) -> Segment:
    return replace(segment, start=max(segment.start, room.least), end=min(segment.end, room.most))


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
