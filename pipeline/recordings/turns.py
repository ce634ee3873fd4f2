"""From a recording, and a transcript where there is one, to turns that the model can take."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.corpora.audio import BLOCK_SECONDS, AudioInfo, Segment, read_blocks, segment_of
from lpgnet.pipeline.errors import PipelineError, counted, kind_and_words, shorten
from lpgnet.pipeline.recordings.config import TurnsConfig
from lpgnet.pipeline.recordings.diarizers import INSTALL, SAMPLING_RATE, Diarizer, SpeakerCount, SpeakerTurn
from lpgnet.pipeline.recordings.transcripts import FORMATS, TimedTurn, Transcript, Turn, read_transcript
from lpgnet.pipeline.recordings.transcripts.base import Word

if TYPE_CHECKING:
    import numpy as np

    from lpgnet.pipeline.corpora.voice_activity import Span
    from lpgnet.pipeline.recordings.channels import Channels, OwnSpeech
    from lpgnet.pipeline.recordings.speech_models import SpeechModel

_UEM = FORMATS[".uem"].name


@dataclass(frozen=True)
class Turns:
    """The turns of a recording in the order of their starts; `choices` tells people how they came about."""

    turns: tuple[TimedTurn, ...]
    choices: tuple[str, ...]


@dataclass
class TurnFinder:
    """Finds the turns of recordings; its models are loaded when a recording needs them.

    Attributes:
        turns: how long they are.
        voice_activity: what counts as speech.
        channels: `speakers` if every channel is one, `mix` if all are mixed down, `auto` to tell it by what they hold.
        wants_words: the model reads words, so turns without them are recognized where there is a recognizer.
        needs_words: it cannot do without.
        aligner, recognizer: give the model, or are None where the user named none.
        diarizer: gives what finds who speaks; None leaves the speakers unknown.
        diarizer_name: for people.
        suggest_diarizer: without one, say how to install one.
        speakers: how many there are, for the diarizer.
        language: that is spoken, for a recognizer that knows several; None detects it.
    """

    turns: TurnsConfig = field(default_factory=TurnsConfig)
    voice_activity: VoiceActivityConfig = field(default_factory=VoiceActivityConfig)
    channels: Literal["auto", "mix", "speakers"] = "auto"
    wants_words: bool = True
    needs_words: bool = False
    aligner: Callable[[], SpeechModel] | None = None
    recognizer: Callable[[], SpeechModel] | None = None
    diarizer: Callable[[], Diarizer] | None = None
    diarizer_name: str | None = None
    suggest_diarizer: bool = False
    speakers: SpeakerCount = field(default_factory=SpeakerCount)
    language: str | None = None
    _choices: list[str] = field(default_factory=list)
    # Of the recording at hand: whether its channels are speakers, what they hold where it was measured, and what of
    # it was left out.
    per_channel: bool = field(default=False, init=False)
    _held: Channels | None = field(default=None, init=False)
    _own: list[OwnSpeech] = field(default_factory=list, init=False)

    def find(
        self, recording: Path, info: AudioInfo, transcript: str | Path | Transcript | None, *, is_part: bool = False
    ) -> Turns:
        """Find the turns of a recording.

        Args:
            recording: the file.
            info: what the recording holds.
            transcript: None finds the turns by voice activity.
            is_part: the recording is truncated: turns after its end are left out instead of refused.

        Returns:
            At least one turn, in the order of their starts, and how they came about.

        Raises:
            PipelineError: a file cannot be read, or there is nothing in it to label.
        """
        self._choices, self._own = [], []
        if is_part:
            self._choices.append(f"warning: the recording is truncated; its first {info.seconds:.1f} s are labelled")
        self._look_at_channels(recording, info)
        found = self._given(recording, info, transcript, is_part=is_part)
        turns = self._found(recording, info) if found is None else found
        self._tell_bleed()
        # Words first, so that long turns are cut between them.
        turns = self._shaped(self._with_words(recording, info, turns))
        return Turns(tuple(sorted(turns, key=lambda turn: turn.start)), tuple(self._choices))

    def _given(
        self, recording: Path, info: AudioInfo, transcript: str | Path | Transcript | None, *, is_part: bool
    ) -> list[TimedTurn] | None:
        """The turns of the transcript with times for all of them; None where there is no transcript."""
        read = transcript if isinstance(transcript, Transcript) else _read(recording, transcript)
        if read is None:
            return None
        self._choices += [f"turns: {read.path} ({read.format})", *(f"warning: {line}" for line in read.warnings)]
        if not read.turns:
            raise PipelineError(f"{read.path}: has no turns; transcribe the recording first")
        turns = self._until(info.seconds, read) if is_part and read.has_times else read.turns
        if read.has_times:
            _check_times(recording, info, turns)
        else:
            turns = tuple(self._aligned(read, recording, info))
        timed = [TimedTurn.of(turn) for turn in turns]
        if read.format == _UEM:
            return self._found(recording, info, within=timed)
        placed = self._on_channels(recording, info, timed)
        # What channels hold of each other is left out of no turn here.
        self._own = []
        return placed

    def _until(self, end: float, read: Transcript) -> tuple[Turn, ...]:
        """The turns that begin before the end of a part of the recording, the last ones cut there (seconds)."""
        kept = tuple(replace(turn, end=min(turn.end or end, end)) for turn in read.turns if (turn.start or 0.0) < end)
        if not kept:
            raise PipelineError(f"{read.path}: all its turns are after the end of the recording, which is truncated")
        if len(kept) < len(read.turns):
            self._choices.append(f"warning: left out after that: {counted(len(read.turns) - len(kept), 'turn')}")
        return kept

    def _aligned(self, transcript: Transcript, recording: Path, info: AudioInfo) -> list[Turn]:
        if self.aligner is None:
            raise PipelineError(
                f"{transcript.path}: its turns have no times; give a transcript with times, such as SRT, or a CTC "
                "model that aligns them: --aligner hf:MODEL"
            )
        from lpgnet.pipeline.recordings.alignment import align

        model = self.aligner()
        self._choices.append(f"times: by forced alignment with {model.name}")
        return align(model, transcript.turns, _whole(recording, info))

    def _found(self, recording: Path, info: AudioInfo, within: Sequence[TimedTurn] | None = None) -> list[TimedTurn]:
        """Stretches of speech, in the whole recording or within some parts of it."""
        channels = range(info.channels) if self.per_channel else [None]
        parts = _parts(within) if within else [(None, None)]
        segments = [
            segment_of(str(recording), info, start=start, end=end, channel=channel)
            for channel in channels
            for start, end in parts
        ]
        turns = self._spoken(segments, info) if self.diarizer is None or self.per_channel else self._diarized(segments)
        if not turns:
            raise PipelineError(
                f"{recording}: nobody speaks in it, as far as can be told from its sound; "
                "check the recording or give a transcript"
            )
        return turns

    def _spoken(self, segments: Sequence[Segment], info: AudioInfo) -> list[TimedTurn]:
        """What lies between pauses, whoever speaks."""
        turns = [
            TimedTurn(span.start, span.end, None, _name(segment.channel, info), channel=segment.channel)
            for segment in segments
            for span in self._speech(segment)
        ]
        speakers = f", each of {info.channels} channels as a speaker" if self.per_channel else ""
        stretches = counted(len(turns), "stretch", "stretches")
        self._choices.append(f"turns: {stretches} of speech by voice activity{speakers}")
        if self.suggest_diarizer and not self.per_channel:
            self._choices.append(f"speakers: unknown; {INSTALL} to tell them apart, or --diarizer none to go without")
        return turns

    def _diarized(self, segments: Sequence[Segment]) -> list[TimedTurn]:
        """What each speaker says between pauses; the segments are one recording, whose speakers are the same."""
        blocks = (block for segment in segments for block in read_blocks(segment, SAMPLING_RATE, seconds=BLOCK_SECONDS))
        found = place(self._who_speaks(blocks), segments)
        turns = [
            TimedTurn(turn.start, turn.end, None, turn.speaker)
            for turn in join_pauses(name_speakers(found), self.turns.max_pause)
        ]
        n_speakers = len({turn.speaker for turn in turns})
        told = f"number given: {self.speakers}" if self.speakers.is_given else "number not given"
        counts = f"{counted(len(turns), 'turn')} of {counted(n_speakers, 'speaker')} ({told})"
        self._choices.append(f"turns: {counts} by {self.diarizer_name}")
        return turns

    def _who_speaks(self, blocks: Iterable[np.ndarray]) -> list[SpeakerTurn]:
        assert self.diarizer is not None
        diarizer = self.diarizer()
        try:
            return diarizer.diarize(blocks, self.speakers)
        except PipelineError:
            raise
        except Exception as error:  # whatever a third party's code may raise
            why = f"cannot tell who speaks ({kind_and_words(error)})"
            raise PipelineError(f"the diarizer {self.diarizer_name} {why}") from error

    def _speech(self, segment: Segment) -> list[Span]:
        from lpgnet.pipeline.corpora.voice_activity import find_speech

        if self._held is None or segment.channel is None:
            return find_speech(segment, self.voice_activity)
        from lpgnet.pipeline.recordings.channels import find_own_speech

        self._own.append(find_own_speech(segment, self.voice_activity, self._held.bleed[segment.channel]))
        return self._own[-1].spans

    def _look_at_channels(self, recording: Path, info: AudioInfo) -> None:
        """Decide whether the channels are speakers, and say why."""
        self.per_channel, self._held = self.channels == "speakers" and info.channels > 1, None
        if info.channels == 1 or self.channels == "mix":
            return
        from lpgnet.pipeline.recordings.channels import MOST_CHANNELS, measure_channels

        why = f"told apart are at most {MOST_CHANNELS}"
        if info.channels <= MOST_CHANNELS:
            held = measure_channels(str(recording), info)
            why = held.figures
            self.per_channel = self.per_channel or held.are_speakers
            self._held = held if self.per_channel else None
        decided = "each is a speaker" if self.per_channel else "mixed"
        self._choices.append(f"channels: {info.channels}, {decided} ({why})")

    def _on_channels(self, recording: Path, info: AudioInfo, turns: list[TimedTurn]) -> list[TimedTurn]:
        """The turns, each on the channel that speaks in it where channels are speakers."""
        if not self.per_channel:
            return turns
        from lpgnet.pipeline.recordings.channels import choose_channels

        whole = [segment_of(str(recording), info, start=None, end=None, channel=c) for c in range(info.channels)]
        chosen = choose_channels(turns, [self._speech(segment) for segment in whole])
        if silent := chosen.count(None):
            self._choices.append(f"channels: none speaks in {silent} of {len(turns)} turns, for which they are mixed")
        return [
            replace(turn, channel=channel, speaker=turn.speaker or _name(channel, info))
            for turn, channel in zip(turns, chosen, strict=True)
        ]

    def _tell_bleed(self) -> None:
        stretches, seconds = sum(own.n_removed for own in self._own), sum(own.seconds_removed for own in self._own)
        if stretches or seconds >= 0.1:
            self._choices.append(
                f"bleed: {seconds:.1f} s left out, {stretches} whole stretches of speech among it, in which a channel "
                "holds only what is said on another"
            )

    def _shaped(self, turns: Sequence[TimedTurn]) -> list[TimedTurn]:
        joined = join_tiny(turns, self.turns)
        split = [piece for turn in joined for piece in split_long(turn, self.turns.max_turn)]
        if len(joined) < len(turns):
            self._choices.append(
                f"joined: {len(turns) - len(joined)} turns shorter than {self.turns.min_turn:g} s to their neighbour"
            )
        if len(split) > len(joined):
            self._choices.append(f"split: turns longer than {self.turns.max_turn:g} s, so that {len(split)} result")
        return split

    def _with_words(self, recording: Path, info: AudioInfo, turns: list[TimedTurn]) -> list[TimedTurn]:
        """The turns with words where the model wants them and somebody can tell them."""
        if not self.wants_words or any(turn.text for turn in turns):
            return turns
        if self.recognizer is None and self.needs_words:
            raise PipelineError(
                f"{recording}: no transcript found, and this model needs text. Put one with words beside it "
                f"({', '.join(list(FORMATS)[:4])}, ...) or name it with --transcript, or let a model recognize the "
                "words (--asr hf:openai/whisper-small)"
            )
        if self.recognizer is None:
            self._choices.append(
                "warning: no words, so the labels are by the voice alone; give a transcript, or a model that "
                "recognizes the words (--asr hf:openai/whisper-small)"
            )
            return turns
        from lpgnet.pipeline.recordings.words_of_turns import find_words

        found = find_words(
            self.recognizer(),
            turns,
            lambda start, end, channel: segment_of(str(recording), info, start=start, end=end, channel=channel),
            self.voice_activity,
            language=self.language,
            max_pause=self.turns.max_pause,
        )
        self._choices.append(found.choice)
        return found.turns


def _parts(within: Sequence[TimedTurn]) -> list[tuple[float | None, float | None]]:
    """Stretches of the recording: regions of several channels are one."""
    from lpgnet.pipeline.recordings.stretches import united

    return [(span.start, span.end) for span in united(within)]


def _check_times(recording: Path, info: AudioInfo, turns: Sequence[Turn]) -> None:
    """Refuse turns that do not lie in the recording, before they are split or joined and known by other numbers."""
    complaints = []
    for number, turn in enumerate(turns, start=1):
        try:
            segment_of(str(recording), info, start=turn.start, end=turn.end, channel=None)
        except PipelineError as error:
            complaints.append(f"turn {number} {error}")
    if complaints:
        raise PipelineError(f"{recording}: {shorten(complaints, most=3)}; check that the transcript belongs to it")


def _read(recording: Path, transcript: str | Path | None) -> Transcript | None:
    return read_transcript(Path(transcript), recording=recording.stem) if transcript else None


def _whole(recording: Path, info: AudioInfo) -> Segment:
    return segment_of(str(recording), info, start=None, end=None, channel=None)


def _name(channel: int | None, info: AudioInfo) -> str | None:
    return None if channel is None or info.channels == 1 else f"channel {channel + 1}"


def place(turns: Iterable[SpeakerTurn], segments: Sequence[Segment]) -> list[SpeakerTurn]:
    """Give turns their place in the recording of whose segments, one after another, their times were counted.

    Args:
        turns: in seconds from the first sample of the first segment; one that reaches over a seam is cut there.
        segments: stretches of one recording.

    Returns:
        The turns in seconds of the recording, in the order of their starts.
    """
    begins = [0.0, *accumulate(segment.seconds for segment in segments)]
    placed = []
    for turn in turns:
        for number in range(
            max(0, bisect_right(begins, turn.start) - 1), bisect_left(begins, turn.end, hi=len(segments))
        ):
            offset = segments[number].start / segments[number].sampling_rate - begins[number]
            start = round(offset + max(turn.start, begins[number]), 3)
            end = round(offset + min(turn.end, begins[number + 1]), 3)
            if start < end:
                placed.append(replace(turn, start=start, end=end))
    return sorted(placed, key=lambda turn: (turn.start, turn.end))


def name_speakers(turns: Sequence[SpeakerTurn]) -> list[SpeakerTurn]:
    """Name the speakers "speaker 1", "speaker 2" and so on, in the order in which they first speak."""
    numbers: dict[str, int] = {}
    return [replace(turn, speaker=f"speaker {numbers.setdefault(turn.speaker, len(numbers) + 1)}") for turn in turns]


def join_pauses(turns: Sequence[SpeakerTurn], max_pause: float) -> list[SpeakerTurn]:
    """Join the turns of one speaker over pauses of at most `max_pause` seconds, whoever else speaks meanwhile.

    Args:
        turns: in the order of their starts.
        max_pause: seconds.

    Returns:
        Turns in the order of their starts.
    """
    joined: list[SpeakerTurn] = []
    last: dict[str, int] = {}
    for turn in turns:
        place = last.get(turn.speaker)
        if place is not None and turn.start - joined[place].end <= max_pause:
            joined[place] = replace(joined[place], end=max(joined[place].end, turn.end))
        else:
            last[turn.speaker] = len(joined)
            joined.append(turn)
    return joined


def join_tiny(turns: Sequence[TimedTurn], config: TurnsConfig) -> list[TimedTurn]:
    """Join turns that are too short to tell an emotion to the turn beside them of the same speaker.

    A tiny turn goes to the nearer of the two neighbors, where the pause between is short enough and the two together
    are not too long; otherwise it stays. Turns of different speakers, and overlapping ones, stay as they are.

    Args:
        turns: in the order of their starts.
        config: how short is too short, and how long too long.

    Returns:
        The turns in the same order.
    """
    groups: list[list[TimedTurn]] = []
    # What the last group is as one turn, but for its words: put together once, they cost no more than they are long.
    whole: TimedTurn | None = None
    for turn in turns:
        if whole and _may_join(whole, turn, config):
            groups[-1].append(turn)
            whole = replace(whole, end=turn.end)
        else:
            groups.append([turn])
            whole = turn
    return [_together(group) for group in groups]


def _may_join(before: TimedTurn, after: TimedTurn, config: TurnsConfig) -> bool:
    if (before.speaker, before.channel) != (after.speaker, after.channel):
        return False
    tiny = min(before.seconds, after.seconds) < config.min_turn
    pause = after.start - before.end
    return tiny and 0 <= pause <= config.max_pause and after.end - before.start <= config.max_turn


def _together(group: Sequence[TimedTurn]) -> TimedTurn:
    if len(group) == 1:
        return group[0]
    text = " ".join(turn.text for turn in group if turn.text) or None
    words = tuple(word for turn in group for word in turn.words)
    return replace(group[0], end=group[-1].end, text=text, words=words)


def split_long(turn: TimedTurn, max_turn: float) -> list[TimedTurn]:
    """Split a turn that is too long into equal parts, each with the words that begin in it.

    Where the words have no times of their own, they are taken to follow each other evenly.

    Args:
        turn: of any length.
        max_turn: the most seconds of a part.

    Returns:
        The parts in their order; the turn alone where it is short enough.
    """
    start, seconds = turn.start, turn.seconds
    # A thousandth more than allowed is no reason to cut.
    n_parts = int(max(1, -(-(seconds - 1e-3) // max_turn)))
    if n_parts == 1:
        return [turn]
    borders = [round(start + seconds * part / n_parts, 3) for part in range(n_parts)] + [turn.end]
    said: list[list[Word]] = [[] for _ in range(n_parts)]
    for word, begin in _words_with_starts(turn):
        # A rounded border may stand after the start of the first word.
        said[max(0, bisect_right(borders, begin, hi=n_parts) - 1)].append(word)
    parts = []
    for (first, last), words in zip(pairwise(borders), said, strict=True):
        text = " ".join(word.text for word in words) or None
        parts.append(replace(turn, start=first, end=last, text=text, words=tuple(words) if turn.words else ()))
    return parts


def _words_with_starts(turn: TimedTurn) -> list[tuple[Word, float]]:
    """The words of a turn, each with a start within it."""
    words = list(turn.words) or [Word(text) for text in (turn.text or "").split()]
    placed: list[tuple[Word, float]] = []
    for place, word in enumerate(words):
        at = word.start if word.start is not None else turn.start + turn.seconds * place / len(words)
        # A rounded time may stand outside its turn, and would leave the word in no part.
        start = min(max(at, turn.start), turn.start + turn.seconds - 1e-3)
        placed.append((replace(word, start=start), start))
    return placed
