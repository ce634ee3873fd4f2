"""Every regular expression of the project takes time in proportion to its input, whatever the input is.

Patterns are found in the sources, so that none can be forgotten. What is hostile to a pattern is derived from the
pattern: the beginning of something that matches, then a piece of it over and over, then an end that does not match.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice, product, zip_longest
from pathlib import Path
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

import pytest

from tests.growth import grows_too_fast

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipeline", "cache", "feature_extractors", "model", "lpgnet", "docs", "examples", "benchmarks")
# Of the module `re` nothing else is called: a pattern has a name, by which this test finds how it is used.
ALLOWED = {"compile", "escape"}


@dataclass
class Found:
    """A pattern of the sources, and the methods that are called on it."""

    pattern: re.Pattern[str]
    methods: set[str] = field(default_factory=set)


def collected(folder: Path) -> dict[str, Found]:
    """The patterns of a folder's modules, as `file:NAME`."""
    found: dict[str, Found] = {}
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = {name: Found(pattern) for name, pattern in compiled(tree, path)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in own:
                own[node.value.id].methods.add(node.attr)
        found |= {f"{path.relative_to(ROOT)}:{name}": entry for name, entry in own.items()}
    return found


def compiled(tree: ast.Module, path: Path) -> Iterator[tuple[str, re.Pattern[str]]]:
    """The names and patterns of a module's own constants; fails where a pattern is anything else."""
    named = [node for node in tree.body if isinstance(node, ast.Assign) and called(node.value) == "compile"]
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"re", "regex"}, f"{path}: call functions of re by re.NAME, so that this test finds them"
    calls = {name for node in ast.walk(tree) if (name := called(node))}
    assert calls <= ALLOWED, f"{path}: give the pattern of re.{min(calls - ALLOWED)} a name, by re.compile"
    n_compiled = sum(called(node) == "compile" for node in ast.walk(tree))
    assert n_compiled == len(named), f"{path}: re.compile must make a constant of the module, so that it is tested"
    for node in named:
        assert isinstance(node.targets[0], ast.Name)
        pattern = eval(compile(ast.Expression(node.value), str(path), "eval"), {"re": re})
        yield node.targets[0].id, pattern if isinstance(pattern.pattern, str) else of_text(pattern)


def of_text(pattern: re.Pattern[bytes]) -> re.Pattern[str]:
    """The same pattern for texts, which takes as long."""
    return re.compile(pattern.pattern.decode("latin-1"), pattern.flags | re.ASCII)


def called(node: ast.AST) -> str | None:
    """The name of the function of `re` that is called, or None."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        return node.func.attr if node.func.value.id == "re" else None
    return None


PATTERNS = {name: found for folder in FOLDERS for name, found in collected(ROOT / folder).items()}


def examples(pattern: re.Pattern[str], most: int = 8) -> list[str]:
    """Texts that match as a rule: every alternative, with and without what is optional."""
    palette = [*dict.fromkeys(character for character in pattern.pattern if not character.isalnum()), *"a1 \t\n"]
    tree = parser.parse(pattern.pattern, pattern.flags)
    return list(islice(dict.fromkeys("".join(parts) for parts in in_sequence(tree, palette)), most))


def in_sequence(tree: parser.SubPattern, palette: list[str]) -> Iterator[tuple[str, ...]]:
    choices = [list(islice(of_node(kind, value, palette), 4)) for kind, value in tree]
    # Each choice once beside the first of all others, and not the product of them all.
    first = [own[0] for own in choices]
    yield tuple(first)
    for place, own in enumerate(choices):
        for choice in own[1:]:
            yield (*first[:place], choice, *first[place + 1 :])


def of_node(kind: object, value: object, palette: list[str]) -> Iterator[str]:
    match kind, value:
        case kinds.LITERAL, int(code):
            yield chr(code)
        case ((kinds.MAX_REPEAT | kinds.MIN_REPEAT | kinds.POSSESSIVE_REPEAT), (least, most, inner)):
            for text in map("".join, in_sequence(inner, palette)):
                yield text * max(least, 1)
            if not least:
                yield ""
            elif most > least:
                yield "".join(next(in_sequence(inner, palette))) * (least + 1)
        case kinds.SUBPATTERN, (_, _, _, inner):
            yield from map("".join, in_sequence(inner, palette))
        case kinds.ATOMIC_GROUP, inner:
            yield from map("".join, in_sequence(inner, palette))
        case kinds.BRANCH, (_, branches):
            ways = [list(map("".join, in_sequence(branch, palette))) for branch in branches]
            yield from (way for turn in zip_longest(*ways) for way in turn if way is not None)
        case kinds.GROUPREF_EXISTS, (_, present, _):
            yield from map("".join, in_sequence(present, palette))
        case ((kinds.ASSERT | kinds.ASSERT_NOT | kinds.AT), _):
            yield ""
        case _:
            yield from fitting(kind, value, palette)


def fitting(kind: object, value: object, palette: list[str]) -> Iterator[str]:
    """The characters of the palette, then any, that a set of characters has."""
    state = parser.State()
    state.str = ""
    tree = parser.SubPattern(state, [(kind, value)])
    from re import _compiler  # type: ignore[attr-defined]

    one = _compiler.compile(tree)
    yield from (character for character in [*palette, *map(chr, range(33, 1000))] if one.fullmatch(character))


def hostile(pattern: re.Pattern[str]) -> Iterator[Callable[[int], str]]:
    """Makers of texts of about so many characters on which a careless pattern takes long."""
    texts = examples(pattern)
    heads = {text[:stop] for text in texts for stop in range(len(text) + 1)}
    short = {text[start:stop] for text in texts for start in range(len(text)) for stop in (start + 1, start + 2)}
    for head, piece, tail in product(sorted(heads), sorted(short | heads - {""}), ("", "\0", "\n!")):
        yield lambda size, head=head, piece=piece, tail=tail: head + piece * (size // len(piece)) + tail


def uses(found: Found) -> list[Callable[[str], object]]:
    """How the project applies the pattern."""
    pattern = found.pattern
    whole = [getattr(pattern, name) for name in ("fullmatch", "match") if name in found.methods]
    if found.methods <= {"fullmatch", "match"}:
        return whole
    return [*whole, lambda text: sum(1 for _ in pattern.finditer(text))]


def slow_text(found: Found) -> str | None:
    """The start of a text that takes the pattern too long, or None."""
    return next(
        (make(40)[:60] for make in hostile(found.pattern) for use in uses(found) if grows_too_fast(use, make)), None
    )


@pytest.mark.parametrize("name", PATTERNS)
def test_every_pattern_is_linear(name: str) -> None:
    assert PATTERNS[name].methods, f"{name} is used nowhere"
    assert (text := slow_text(PATTERNS[name])) is None, f"{name} takes too long on {text!r}..."


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"<v(?:\.[^\s>]*)?\s+([^>]+)>", "split"),
        (r"<v\s([^>]+)>", "split"),
        (r"<v(?:\.[^\s>]*)?\s([^<>]+)>", "split"),
        (r"</?[A-Za-z][^<>]*>|\{\\[^}]*\}", "sub"),
        (r"\s*-?\s*(?P<name>\w+):", "fullmatch"),
        (r"literal for (int|float)[^:]*: (.*)$", "search"),
        (r"a+b", "search"),
        (rb'<meta\s+name="og:[^>]*>', "sub"),
    ],
)
def test_quadratic_patterns_are_found(pattern: str | bytes, method: str) -> None:
    compiled = re.compile(pattern) if isinstance(pattern, str) else of_text(re.compile(pattern))
    assert slow_text(Found(compiled, {method}))
