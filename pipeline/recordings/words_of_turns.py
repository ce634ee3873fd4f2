"""Words for turns that have none: what is said in their speech, recognized and given to who says it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.corpora.voice_activity import Span, find_speech
from lpgnet.pipeline.recordings.recognition import Recognition, recognize
from lpgnet.pipeline.recordings.speakers_of_words import turns_of_words
from lpgnet.pipeline.recordings.speech_models import SpeechModel
from lpgnet.pipeline.recordings.stretches import MARGIN_SECONDS, into_speech, speech_of, stretches_of
from lpgnet.pipeline.recordings.transcripts.base import TimedTurn

# Long speech is cut at pauses, and words are kept out of them, so that shorter ones count than those that end a turn.
SHORTEST_PAUSE = 0.1

# A segment of the recording by its start and end in seconds (None: that of the recording) and its channel.
Cut = Callable[[float | None, float | None, int | None], Segment]


@dataclass(frozen=True)
class TurnsWithWords:
    """Turns in the order of their starts; `choice` tells people how their words came about."""

    turns: list[TimedTurn]
    choice: str


@dataclass(frozen=True)
class _Channel:
    """The turns of a channel, where somebody speaks in them, and what is heard of that."""

    turns: list[TimedTurn]
    speech: list[Span]
    stretches: list[Segment]


def find_words(
    model: SpeechModel,
    turns: Sequence[TimedTurn],
    cut: Cut,
    voice_activity: VoiceActivityConfig,
    *,
    language: str | None,
    max_pause: float,
) -> TurnsWithWords:
    """Recognize the speech of turns, each moment of a channel once, and give its words to the speakers.

    Args:
        model: writes text.
        turns: of one recording, without words; they may overlap.
        cut: gives a segment of the recording.
        voice_activity: what counts as speech; nothing else is heard.
        language: code of the language; None detects it.
        max_pause: the longest pause between two words of one turn (seconds).

    Returns:
        The turns; those in which no word was found keep their borders.

    Raises:
        UsageError: the model does not know the language.
        PipelineError: the recording cannot be decoded.
    """
    model.check_language(language)
    numbers = sorted({turn.channel for turn in turns}, key=lambda number: -1 if number is None else number)
    channels = [
        _heard(model, [turn for turn in turns if turn.channel == number], cut(None, None, number), cut, voice_activity)
        for number in numbers
    ]
    heard = recognize(model, [stretch for channel in channels for stretch in channel.stretches], language=language)
    left = iter(heard.words)
    found: list[TimedTurn] = []
    for channel in channels:
        words = [word for _ in channel.stretches for word in next(left)]
        found += turns_of_words(into_speech(words, channel.speech), channel.turns, max_pause=max_pause)
    found.sort(key=lambda turn: turn.start)
    return TurnsWithWords(found, _choice(model, found, heard, detected=language is None))


def _heard(
    model: SpeechModel, turns: list[TimedTurn], whole: Segment, cut: Cut, voice_activity: VoiceActivityConfig
) -> _Channel:
    shorter = replace(voice_activity, min_silence=min(voice_activity.min_silence, SHORTEST_PAUSE))
    speech = speech_of(turns, find_speech(whole, shorter))
    # What does not save a window is heard by itself, as CTC models were taught.
    pause = 2 * MARGIN_SECONDS if model.writes_timestamps else min(voice_activity.min_silence, 2 * MARGIN_SECONDS)
    spans = stretches_of(speech, longest=model.window_seconds, seconds=whole.seconds, pause=pause)
    channel = turns[0].channel
    return _Channel(turns, speech, [cut(span.start, span.end, channel) for span in spans])


def _choice(model: SpeechModel, turns: Sequence[TimedTurn], heard: Recognition, *, detected: bool) -> str:
    language = f" in {heard.language}{' (detected)' if detected else ''}" if heard.language else ""
    silent = sum(turn.text is None for turn in turns)
    dropped = (
        f"; {heard.n_dropped} of {len(heard.words)} stretches of speech left without words, since those found repeat "
        "themselves or were guessed where nobody seems to speak"
        if heard.n_dropped
        else ""
    )
    return f"words: recognized by {model.name}{language}; none found in {silent} of {len(turns)} turns{dropped}"
