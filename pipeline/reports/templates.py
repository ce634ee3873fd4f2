"""The templates of the reports."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(*, html: bool = True) -> Environment:
    """The templates of all reports; what is put into a page is escaped."""
    return Environment(
        loader=PackageLoader("lpgnet.pipeline", "reports"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
