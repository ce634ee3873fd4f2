"""JSON from anywhere is read or refused with the name of its file: no depth and no number ends the program."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.common.files import JSON_DIGITS, JSON_LEVELS, parse_json, parse_object
from lpgnet.pipeline.errors import PipelineError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES)
def test_reads_what_json_reads(value: object) -> None:
    assert parse_json(json.dumps(value), where="a.json") == value


def nested(levels: int, *, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('{"a":[', "]}"), ('[1,{"a":', "},2]")])
@pytest.mark.parametrize("levels", [JSON_LEVELS, JSON_LEVELS + 1, 900, 100_000])
def test_depth(opening: str, closing: str, levels: int) -> None:
    times = levels // (opening.count("[") + opening.count("{"))
    text = nested(times, opening=opening, closing=closing)
    depth = times * (opening.count("[") + opening.count("{"))
    if depth <= JSON_LEVELS:
        assert parse_json(text, where="a.json") == json.loads(text)
        return
    with pytest.raises(PipelineError, match=r"^a\.json: is nested too deeply; at most 64 levels"):
        parse_json(text, where="a.json")


def test_many_brackets_are_no_depth() -> None:
    assert parse_json("[" + "[]," * 10_000 + "{}]", where="a.json") == [*[[]] * 10_000, {}]
    assert parse_json(json.dumps("[" * 1000), where="a.json") == "[" * 1000


@pytest.mark.parametrize("sign", ["", "-"])
def test_digits(sign: str) -> None:
    longest = sign + "9" * (JSON_DIGITS - len(sign))
    assert parse_json(longest, where="a.json") == int(longest)
    float(parse_json(longest, where="a.json"))
    for digits in (JSON_DIGITS + 1, 4301, 100_000):
        with pytest.raises(PipelineError, match=rf"^a\.json: has a number of {digits} digits; at most 300 are read"):
            parse_json(f'{{"n": {sign}{"1" * (digits - len(sign))}}}', where="a.json")


def test_where_it_is_wrong() -> None:
    with pytest.raises(PipelineError, match=r"^a\.json, line 2: is not JSON \(.* at column 3\)"):
        parse_json("[\n1,", where="a.json", several_lines=True)
    with pytest.raises(PipelineError, match=r"^a, line 3: is not JSON \(.* at column 4\)"):
        parse_object("[1,", where="a, line 3")
    with pytest.raises(PipelineError, match=r"^a, line 3: is not a JSON object"):
        parse_object("[1]", where="a, line 3")
