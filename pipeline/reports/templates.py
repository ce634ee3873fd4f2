"""The templates of the reports."""

from __future__ import annotations

import base64

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


def image_address(content: bytes) -> str:
    """Return the data address of a PNG image, by which a page holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
