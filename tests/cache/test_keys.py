"""Keys follow from the content and from nothing else."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.cache import StoreError, audio_key, file_digest, text_key

DIGEST = "ab" * 32


def test_digest_is_sha256_over_blocks() -> None:
    content = bytes(range(256)) * 10_000
    assert file_digest(io.BytesIO(content)) == hashlib.sha256(content).hexdigest()
    assert file_digest(io.BytesIO(b"")) == hashlib.sha256(b"").hexdigest()


def test_keys_are_what_they_were_when_stores_were_written() -> None:
    assert audio_key(DIGEST, 0, 16000, None).hex() == "4830c8ba2649e7c6d153b39dd0d85d5b"
    assert text_key("good morning", ("hello", "")).hex() == "a510eaf80963659863e757acb95f177c"


def test_audio_key_tells_every_part_apart() -> None:
    parts = [(DIGEST, 0, 10, None), (DIGEST, 0, 10, 0), (DIGEST, 0, 10, 1), (DIGEST, 0, 11, None)]
    parts += [(DIGEST, 1, 10, None), ("cd" * 32, 0, 10, None), (DIGEST[:-2], 0, 10, None)]
    keys = {audio_key(*part) for part in parts}
    assert len(keys) == len(parts)
    assert {len(key) for key in keys} == {16}


def test_audio_key_takes_numpy_integers() -> None:
    assert audio_key(DIGEST, np.int64(3), np.int32(9), np.int64(1)) == audio_key(DIGEST, 3, 9, 1)


@pytest.mark.parametrize(
    ("digest", "start", "end", "channel"),
    [("../x", 0, 1, None), (DIGEST.upper(), 0, 1, None), (DIGEST, 5, 5, 0), (DIGEST, -1, 5, 0), (DIGEST, 0, 5, -1)],
)
def test_audio_key_refuses(digest: str, start: int, end: int, channel: int | None) -> None:
    with pytest.raises(StoreError):
        audio_key(digest, start, end, channel)


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_text_keys_are_equal_only_for_equal_parts(one: list[str], other: list[str]) -> None:
    assert (text_key(one[0], one[1:]) == text_key(other[0], other[1:])) == (one == other)


def test_text_key_depends_on_where_parts_are_divided() -> None:
    divisions = [("ab", ("c",)), ("a", ("bc",)), ("abc", ()), ("abc", ("",)), ("", ("abc",)), ("c", ("ab",))]
    assert len({text_key(text, context) for text, context in divisions}) == len(divisions)


def test_a_lone_surrogate_has_a_key_of_its_own() -> None:
    assert text_key("\ud800") != text_key("?") != text_key("\ud801")
