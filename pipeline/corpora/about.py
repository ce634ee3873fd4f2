"""What a corpus holds, as far as a model that was trained on it must tell: its language, and whose speech it is."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class About:
    """What kind of speech a corpus holds; null means unknown, or what the reader knows.

    Attributes:
        language: its language, such as English
        speech: acted (read, staged, improvised on demand) or natural
        synthetic: whether a machine speaks
    """

    language: str | None = None
    speech: Literal["acted", "natural"] | None = None
    synthetic: bool | None = None
