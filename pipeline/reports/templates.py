"""The templates of the reports."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(*, html: bool = True) -> Environment:
    """Return the templates of all reports; values are escaped in HTML."""
    return Environment(
        loader=PackageLoader("lpgnet.pipeline", "reports"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
