"""What counts as speech: the settings of voice activity, which need no torch."""

from dataclasses import dataclass

from lpgnet.pipeline.common.ranges import NonNegativeFloat, Probability


@dataclass(frozen=True)
class VoiceActivityConfig:
    """What counts as speech; the defaults are chosen by `benchmarks/turns.py` and meetings.

    Attributes:
        threshold: probability of speech above which a stretch of speech begins
        release: probability of speech below which it ends, at most the threshold
        min_speech: shorter stretches are not speech (seconds)
        min_silence: shorter pauses do not end a stretch; the detector takes a pause to be 0.15 s shorter than it is
            (seconds)
        padding: added to both ends of a stretch, as far as there is silence (seconds)
    """

    threshold: Probability = 0.4
    release: Probability = 0.25
    min_speech: NonNegativeFloat = 0.1
    min_silence: NonNegativeFloat = 0.3
    padding: NonNegativeFloat = 0.1
