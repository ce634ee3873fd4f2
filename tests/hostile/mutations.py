"""Damage done to valid inputs: flipped, cut, repeated, spliced, and values that nobody expects in their place."""

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

MOST_BYTES = 64 * 2**10
_NUMBER = re.compile(rb"-?\d+(?:[.:]\d+)*")
_NUMBERS = (
    b"-1",
    b"0",
    b"1e999",
    b"-1e305",
    b"1e-400",
    b"NaN",
    b"-Infinity",
    b"9" * 4400,
    b"2147483648",
    b"1_0",
    b"0x10",
)
# What parsers and terminals trip over, whichever the format.
_TOKENS = (
    *(b"\0", b"\r", b"\n\n", b"\t", b" " * 3000, b"\x1b[31m", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x80"),
    *("\u2028\x85".encode(), "\u202e".encode(), "e\u0301".encode() * 20, b"\\ud800", b"\\u0000", b"\\", b'"', b"'"),
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"[" * 3000,
        b'{"a":' * 3000,
        b"a" * 3000,
        b"(" * 300,
        b"..",
        b"../../etc",
    ),
    *(b"<", b">", b"<v\t", b"&#1114112;", b"&amp;", b"<!--", b"-->", b"%s", b"=1+1", b",", b";", b":", b"#", b"-"),
    *(b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0" * 64),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**63, -(10**400), 1e305, float("nan"), float("-inf"), "", "nan", "\ud800", "a\nb", "\0"),
    *("\x1b[2J", "x" * 3000, "../../etc/passwd", "/dev/zero", [], {}, [[]], [None], {"": None}, {"a": {"a": 1}}),
)

Step = Callable[[bytes, Random, Sequence[bytes]], bytes]


def mutate(samples: Sequence[bytes], draw: Random) -> bytes:
    """Damage one of the samples in one to eight ways, the same for the same state of `draw`; at most 64 kB."""
    data = draw.choice(samples)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        data = draw.choice(_STEPS)(data, draw, samples)
    return data[:MOST_BYTES]


def _flip(data: bytes, draw: Random, samples: Sequence[bytes]) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 3, 10))):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(data: bytes, draw: Random, samples: Sequence[bytes]) -> bytes:
    start, end = _stretch(data, draw)
    return data[:start] + data[end:]


def _end(data: bytes, draw: Random, samples: Sequence[bytes]) -> bytes:
    return data[: _stretch(data, draw)[1]]


def _repeat(data: bytes, draw: Random, samples: Sequence[bytes]) -> bytes:
    start, end = _stretch(data, draw)
    times = min(draw.choice((2, 5, 50, 5000)), MOST_BYTES // max(1, end - start) + 1)
    return data[:start] + data[start:end] * times + data[end:]


def _splice(data: bytes, draw: Random, samples: Sequence[bytes]) -> bytes:
    other = draw.choice(samples)
    start, end = _stretch(other, draw)
    place = draw.randint(0, len(data))
    return data[:place] + other[start:end] + data[place + (end - start) * draw.randint(0, 1) :]


def _insert(data: bytes, draw: Random, samples: Sequence[bytes]) -> bytes:
    place = draw.randint(0, len(data))
    return data[:place] + draw.choice(_TOKENS) * draw.choice((1, 1, 1, 300)) + data[place:]


def _renumber(data: bytes, draw: Random, samples: Sequence[bytes]) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return _insert(data, draw, samples)
    match = draw.choice(found)
    return data[: match.start()] + draw.choice(_NUMBERS) + data[match.end() :]


def _revalue(data: bytes, draw: Random, samples: Sequence[bytes]) -> bytes:
    """Put a value of another kind, or none, in the place of one of a JSON text, or of one of its lines."""
    lines = data.split(b"\n")
    whole = draw.choice(lines) if _parsed(data) is None else data
    document = [_parsed(whole)]
    if document == [None]:
        return _insert(data, draw, samples)
    holder, key = draw.choice(_places(document))
    if draw.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key] = draw.choice(_VALUES)
    return data.replace(whole, json.dumps(document[0]).encode(), 1)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every list or object with each of its indices or keys."""
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    found = [(document, key, value) for key, value in inner]
    deeper = [place for _, _, value in found if isinstance(value, dict | list) for place in _places(value)]
    return [(holder, key) for holder, key, _ in found] + deeper


def _stretch(data: bytes, draw: Random) -> tuple[int, int]:
    """A stretch of the data: short, long, or a line."""
    start = draw.randint(0, len(data))
    end = data.find(b"\n", start) + 1 if draw.random() < 0.3 else 0
    return start, end or min(len(data), start + draw.choice((1, 4, 40, len(data))))


_STEPS: tuple[Step, ...] = (_flip, _cut, _end, _repeat, _splice, _insert, _insert, _renumber, _revalue, _revalue)
