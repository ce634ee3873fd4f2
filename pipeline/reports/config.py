"""Settings of the reports."""

from dataclasses import dataclass

from lpgnet.pipeline.common.ranges import NonNegativeFloat


@dataclass(frozen=True)
class PageConfig:
    """The HTML page of a timeline.

    Attributes:
        embed_megabytes: recordings of up to this size are embedded in the page, larger ones are linked (megabytes)
    """

    embed_megabytes: NonNegativeFloat = 16.0
