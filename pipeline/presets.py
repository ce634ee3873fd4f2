"""Presets: configurations by name, which are read beneath everything that a user gives."""

from __future__ import annotations

from pathlib import Path

from lpgnet.pipeline.errors import UsageError, did_you_mean

# Beside this package, in a checkout and where it is installed.
PRESETS = Path(__file__).parents[1] / "configs" / "presets"


def preset_names() -> list[str]:
    """List the presets that there are."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_file(name: str) -> Path:
    """Return the file of a preset.

    Raises:
        UsageError: there is none of that name; names the nearest.
    """
    if name not in (known := preset_names()):
        hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
        raise UsageError(f"no preset is called {name!r:.60}{hint}")
    return PRESETS / f"{name}.yaml"
