"""What a search may set: for each field of `model` or `training` a list of values, or the ends of a range."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from lpgnet.model import CONFIG_TYPES
from lpgnet.model.configuration import Range
from lpgnet.pipeline.common.files import from_json
from lpgnet.pipeline.config import Config, TrainingConfig, check_number, in_words, known_keys
from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean
from lpgnet.pipeline.model_config import ModelConfig

# The values of one trial, by dotted key.
Settings = dict[str, Any]

KEY = "search.space"
SECTIONS = {"model": ModelConfig, "training": TrainingConfig}
# Fields of these sections that no search sets, and why.
FIXED = {
    "training.seed": "the runs of a trial have the seeds 0, 1, ...; search.seeds says how many",
    "training.select": "is the score that trials are compared by",
    "training.drop_unlabelled": "changes the data",
    "training.device": "changes no result that is meant to differ",
    "training.tracker": "changes no result",
    "training.keep_checkpoints": "changes no result",
    "training.micro_batches": "changes memory, and no result but the supervised contrast's",
    "training.compile": "changes speed and no result that is meant to differ",
}
# What decides what is measured: two trials that differ in it cannot be compared by the score.
DECIDES_SCORE = {
    "ccc": ("model.dimensions",),
    "loss": (
        *("model.dimensions", "model.dimension_weight"),
        *("training.target", "training.unagreed", "training.vote_smoothing"),
    ),
}
EXAMPLE = "{training.learning_rate: {low: 1e-4, high: 3e-3, log: true}, model.hidden_size: [64, 128]}"
MOST_VALUES = 1000
# Larger whole numbers are not exact in the arithmetic of a sampler.
LARGEST = 2**53


@dataclass(frozen=True)
class Choices:
    """Values to choose from."""

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return _written(value) in map(_written, self.values)

    def index(self, value: object) -> int:
        """Return the place of a value among them, from 0 on."""
        return [_written(one) for one in self.values].index(_written(value))


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`, both included.

    Attributes:
        whole: whole numbers alone.
        log: as likely from 1 to 10 as from 10 to 100.
        step: between whole numbers that are tried.
    """

    low: float
    high: float
    whole: bool = False
    log: bool = False
    step: int = 1

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.low <= value <= self.high and (not self.whole or (value - self.low) % self.step == 0)


Space = dict[str, Choices | Interval]


def parse_space(given: Mapping[str, Any], select: str) -> Space:
    """Check what a configuration says is to be searched.

    Args:
        given: `search.space`: a list of values, or {low, high, log, step}, by dotted key.
        select: the development score that trials are compared by, such as `ccc`.

    Raises:
        UsageError: names the key and what is wrong.
    """
    if not given:
        raise UsageError(f"key '{KEY}': name what to search, such as {EXAMPLE}")
    # In one order, whichever they are written in: it decides what is tried.
    return {key: _parse(key, given[key], select) for key in sorted(given)}


def _parse(key: str, value: object, select: str) -> Choices | Interval:
    try:
        kind = _kind_of(key, select)
        if isinstance(value, dict):
            return _interval(key, value, kind)
        if isinstance(value, list):
            return _choices(key, value, kind)
    except UsageError as error:
        said = str(error).replace(f"key '{key}'", key)
        raise UsageError(f"key '{KEY}': {said}") from None
    raise UsageError(f"key '{KEY}': {key} is {value!r:.60}; give a list of values, or {{low: ..., high: ...}}")


def _kind_of(key: str, select: str) -> Any:
    kinds = _searchable()
    if key in FIXED:
        raise UsageError(f"{key} {FIXED[key]}; leave it out")
    if key in DECIDES_SCORE.get(select, ()):
        raise UsageError(f"{key} decides what {select} measures; leave it out, or compare by another training.select")
    if key in kinds:
        return kinds[key]
    if key in SECTIONS:
        raise UsageError(f"{key} is a section; name its fields with dots, such as {next(n for n in kinds if key in n)}")
    if key in known_keys(Config):
        raise UsageError(f"{key} cannot be searched: only fields of model and training leave the data as they are")
    raise UsageError(f"there is no field {key!r:.60}{did_you_mean(key[:100], kinds)}")


def _searchable() -> dict[str, Any]:
    """The type of each field that a search may set, by dotted key."""
    kinds = {f"{part}.{name}": kind for part, of in SECTIONS.items() for name, kind in get_type_hints(of).items()}
    return {key: kind for key, kind in kinds.items() if key not in FIXED}


def _choices(key: str, values: Sequence[object], kind: Any) -> Choices:
    typed = tuple(_typed(key, value, kind) for value in values)
    written = [_written(value) for value in typed]
    if twice := next((one for one in written if written.count(one) > 1), None):
        raise UsageError(f"{key} has {twice:.60} twice")
    if not 1 <= len(typed) <= MOST_VALUES:
        raise UsageError(f"{key} has {len(typed)} values; give 1 to {MOST_VALUES}, or {{low: ..., high: ...}}")
    return Choices(typed)


def _interval(key: str, given: Mapping[Any, object], kind: Any) -> Interval:
    number = _number_of(kind)
    if number is None:
        raise UsageError(f"{key} is no number; give a list of values instead of low and high")
    whole = issubclass(number, int)
    known = ("low", "high", "log", *(["step"] if whole else []))
    if unknown := [str(name) for name in given if name not in known]:
        close = did_you_mean(unknown[0][:100], known)
        raise UsageError(f"{key} has an unknown '{unknown[0]:.60}'{close}; known here: {', '.join(known)}")
    if missing := {"low", "high"} - given.keys():
        raise UsageError(f"{key} has no {min(missing)}; give low and high")
    low, high = (_typed(key, given[end], number) for end in ("low", "high"))
    log = _typed(f"{key}, log", given.get("log", False), bool)
    step = _typed(f"{key}, step", given.get("step", 1), int)
    _check_interval(key, low, high, log=log, step=step)
    return Interval(low, high, whole, log, step)


def _check_interval(key: str, low: float, high: float, *, log: bool, step: int) -> None:
    if low >= high:
        raise UsageError(f"{key}: low is {low} and must be below high, {high}")
    if log and low <= 0:
        raise UsageError(f"{key}: low is {low}; with log it must be above 0")
    if step < 1 or (step > 1 and (log or (high - low) % step)):
        raise UsageError(f"{key}: step is {step}; give one that leads from low to high, and none with log")


def _number_of(kind: Any) -> type[int | float] | None:
    """The type of numbers that a field holds, or None."""
    (one, *others) = [part for part in _parts(kind) if part is not NoneType]
    is_number = not others and isinstance(one, type) and issubclass(one, int | float) and not issubclass(one, bool)
    return one if is_number else None


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _typed(key: str, value: object, kind: Any) -> Any:
    """Return the value as the field holds it.

    Raises:
        UsageError: it is none that the field can have.
    """
    if value is None and NoneType in _parts(kind):
        return None
    if number := _number_of(kind):
        return _checked_number(key, value, number)
    try:
        return from_json(value, next(part for part in _parts(kind) if part is not NoneType), where=key)
    except PipelineError:
        raise UsageError(f"{key}: {value!r:.60} is not {in_words(kind)}") from None


def _checked_number(key: str, value: Any, number: type[int | float]) -> int | float:
    whole = issubclass(number, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise UsageError(f"{key}: {value!r:.60} is not a {'whole ' if whole else ''}number")
    if not (abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)):
        raise UsageError(f"{key}: {value!r:.60} is too large a number, or none")
    check_number(number, value, key)
    # A network's own field has its range there; where several have the field, one of them must take the value.
    ranges = _ranges(key)
    if ranges and not any(value in allowed for allowed in ranges):
        raise UsageError(f"{key}: {value} is not {ranges[0].needs}")
    return value if whole else float(value)


def _ranges(key: str) -> list[Range]:
    section, _, name = key.partition(".")
    if section != "model":
        return []
    hints = [get_type_hints(kind, include_extras=True).get(name) for kind in CONFIG_TYPES.values()]
    return [part.__metadata__[0] for hint in hints for part in _parts(hint) if get_origin(part) is Annotated]


def combinations(space: Space) -> list[Settings] | None:
    """Return every combination of values in order, or None where there are more than `MOST_VALUES`."""
    sizes = [_size(one) for one in space.values()]
    if math.prod(sizes) > MOST_VALUES:
        return None
    return [dict(zip(space, values, strict=True)) for values in product(*map(_all, space.values()))]


def _size(one: Choices | Interval) -> float:
    if isinstance(one, Choices):
        return len(one.values)
    return 1 + (one.high - one.low) // one.step if one.whole else math.inf


def _all(one: Choices | Interval) -> Sequence[Any]:
    return one.values if isinstance(one, Choices) else range(int(one.low), int(one.high) + 1, one.step)


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return the configuration with the values of a trial."""
    by_section: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        by_section[section][name] = value
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in by_section.items()})


def nested(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the values of a trial as a configuration file has them: the sections, and in them the fields."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    return sections


def own_settings(config: Config, space: Space) -> Settings | None:
    """Return the values that the configuration has itself, or None where one of them is not in the space."""
    own = {key: _own_value(config, key, allowed) for key, allowed in space.items()}
    return own if all(value in space[key] for key, value in own.items()) else None


def _own_value(config: Config, key: str, allowed: Choices | Interval) -> Any:
    """The configuration's value; in place of a null that is not searched, the network's own default."""
    section, _, name = key.partition(".")
    value = getattr(getattr(config, section), name)
    if section == "training" or value is not None or None in allowed:
        return value
    return {entry.name: entry.default for entry in fields(CONFIG_TYPES[config.model.kind])}.get(name)


def identity(config: Config) -> str:
    """Return a text that is the same for two configurations that train the same model in the same way.

    Raises:
        ModelError: no network can be built.
    """
    settings = config.model.settings()
    ranges = {name: [0.0, 1.0] for name in settings.get("dimensions", [])}
    model = CONFIG_TYPES[config.model.kind](**settings, ranges=ranges)
    inputs = [config.model.type, config.model.modalities]
    return json.dumps([inputs, model.to_dict(), asdict(config.training)], sort_keys=True)


def _written(value: object) -> str:
    """A value as text, by which 1, 1.0 and true differ."""
    return json.dumps(value)


def shown_value(value: object) -> str:
    """Format a value for people: `0.00123`, `true`, `[text, audio]`."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(shown_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe_space(space: Space) -> Iterator[tuple[str, str]]:
    """Say of each field what it may be."""
    for key, one in space.items():
        if isinstance(one, Choices):
            yield key, ", ".join(map(shown_value, one.values))
        else:
            step = f" in steps of {one.step}" if one.step > 1 else ""
            log = " on a logarithmic scale" if one.log else ""
            yield key, f"{shown_value(one.low)} to {shown_value(one.high)}{step}{log}"
