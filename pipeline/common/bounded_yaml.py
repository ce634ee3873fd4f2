"""YAML that a small text cannot make large: its aliases are counted before anything is built."""

from __future__ import annotations

from typing import Any

import yaml

# A configuration has some two hundred values, a map of labels some dozens, a list of speakers some thousands.
YAML_VALUES = 20_000
YAML_LEVELS = 50


class UnboundedYamlError(yaml.YAMLError):
    """The text is YAML, but larger, or nested deeper, than a configuration is; the message says where and how."""


def load_yaml(text: str) -> Any:
    """Load YAML as jsonargparse does, which reads 1e-3 as a number and a date as a text.

    Raises:
        YAMLError: it is not YAML, or more than `YAML_VALUES` values with every alias written out, or deeper than
            `YAML_LEVELS`.
    """
    from jsonargparse import get_loader

    check_yaml(text)
    try:
        return get_loader("yaml")(text)
    except ValueError as error:  # a whole number of thousands of digits
        raise yaml.MarkedYAMLError(problem=str(error)) from None


def check_yaml(text: str) -> None:
    """Count what the text stands for, event by event.

    Raises:
        YAMLError: it is not YAML, or more of it than is read.
    """
    sizes: dict[str, int] = {}
    within: list[str | None] = []
    started: list[int] = []
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(event.anchor or "", YAML_VALUES + 1)  # one that is not known yet contains itself
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            sizes[event.anchor or ""] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            within.append(event.anchor)
            started.append(total)
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            sizes[within.pop() or ""] = total - started.pop()
        if total > YAML_VALUES or len(within) > YAML_LEVELS:
            problem = "is nested too deeply" if len(within) > YAML_LEVELS else "its aliases and values are too many"
            limits = f"at most {YAML_LEVELS} levels and {YAML_VALUES} values are read"
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise UnboundedYamlError(f"line {line}: {problem}; {limits}")
