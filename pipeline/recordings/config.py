"""What a user sets of how turns are found in a recording."""

from __future__ import annotations

from dataclasses import dataclass

from lpgnet.pipeline.common.ranges import AtLeastOne, NonNegativeFloat, Probability


@dataclass(frozen=True)
class VoiceActivityConfig:
    """What counts as speech.

    Attributes:
        threshold: probability of speech above which a stretch of speech begins
        release: probability of speech below which it ends, at most the threshold
        min_speech: shorter stretches are not speech (seconds)
        min_silence: shorter pauses do not end a stretch (seconds)
        padding: added to both ends of a stretch, as far as there is silence (seconds)
    """

    threshold: Probability = 0.7
    release: Probability = 0.6
    min_speech: NonNegativeFloat = 0.1
    min_silence: NonNegativeFloat = 0.15
    padding: NonNegativeFloat = 0.0


@dataclass(frozen=True)
class TurnsConfig:
    """How long turns are.

    Attributes:
        max_turn: longer turns are split (seconds)
        min_turn: shorter turns are joined to the one beside them, of the same speaker (seconds)
        max_pause: turns are not joined over a longer pause (seconds)
    """

    max_turn: AtLeastOne = 30.0
    min_turn: NonNegativeFloat = 0.3
    max_pause: NonNegativeFloat = 0.5
