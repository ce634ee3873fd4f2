"""The errors that are told to people in one line instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PipelineError(Exception):
    """The work could not be done: the message names the file or utterance, what is wrong and what to do (exit 1)."""


class UsageError(PipelineError):
    """The command or its configuration is wrong (exit 2)."""


class NotFiniteError(PipelineError):
    """A model computes numbers that are not finite (exit 1)."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint such as `; did you mean 'audio'?`, or nothing when no known name is similar."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def shorten(names: Iterable[object], *, most: int = 5) -> str:
    """List the first names, and how many more there are: `a, b and 3 more`."""
    listed = [str(name) for name in names]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")
