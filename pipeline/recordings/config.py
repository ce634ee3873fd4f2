"""What a user sets of how turns are found in a recording."""

from dataclasses import dataclass

from lpgnet.pipeline.common.ranges import AtLeastOne, NonNegativeFloat


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
