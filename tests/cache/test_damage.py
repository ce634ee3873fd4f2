"""Damage of every kind: no wrong number is ever read, checking finds it, and everything else still serves."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from store_rows import FINGERPRINT, row_key, row_values

from lpgnet.cache import DamagedRowError, FeatureStore, StoreError, repair, verify
from lpgnet.cache.shards import Shard

Fill = Callable[..., FeatureStore]
ROWS = 4
# Frames have every column that there is, so there every single byte is changed.
KINDS = [(True, "float32", 1), (False, "float32", 5), (False, "bfloat16", 5), (True, "float16", 5)]


def damaged_to(path: Path, content: bytes) -> None:
    """Another file of this name: views of the old one stay as they are."""
    path.unlink()
    path.write_bytes(content)


def check(root: Path, *, frames: bool, sound: range) -> list[int]:
    """Reads every row, and gives those of the damaged shard that could be read: rightly, or not at all."""
    store, read = FeatureStore(root, FINGERPRINT), []
    for number in range(ROWS):
        try:
            row = store[row_key(number)]
        except StoreError:
            continue
        assert np.array_equal(row.values, row_values(number, frames=frames)), f"row {number} is wrong"
        assert (row.n_frames, row.flags) == (len(row.values) if frames else 3, number)
        read.append(number)
    assert all(np.array_equal(store[row_key(n)].values, row_values(n, frames=frames)) for n in sound)
    bad = verify(store).bad
    assert len(bad) == 1 and bad[0].rows >= ROWS - len(read) - sum(row_key(n) not in store for n in range(ROWS))
    return read


def changes(content: bytes, step: int) -> Iterator[bytes]:
    """The content with every `step`-th byte changed in turn, in a way that differs from byte to byte."""
    for position in range(0, len(content), step):
        other = bytearray(content)
        other[position] ^= 1 << position % 8 if position % 3 else 0xFF
        yield bytes(other)


@pytest.mark.parametrize(("frames", "dtype", "step"), KINDS)
def test_every_class_of_byte(filled: Fill, frames: bool, dtype: str, step: int) -> None:
    store = filled(range(ROWS), range(10, 12), frames=frames, dtype=dtype)
    path = store.shards[0].path
    for changed in changes(path.read_bytes(), step):
        damaged_to(path, changed)
        check(store.root, frames=frames, sound=range(10, 12))


@pytest.mark.parametrize("frames", [False, True])
def test_truncation_at_a_hundred_lengths(filled: Fill, frames: bool) -> None:
    store = filled(range(ROWS), range(10, 12), frames=frames)
    path = store.shards[0].path
    content = path.read_bytes()
    lengths = sorted(
        {*np.linspace(0, len(content) - 1, 90, dtype=int).tolist(), *(len(content) - n for n in range(1, 20))}
    )
    assert len(lengths) >= 100
    for length in lengths:
        damaged_to(path, content[:length])
        check(store.root, frames=frames, sound=range(10, 12))


@pytest.mark.parametrize("block", [1, 8, 64, 512, 4096])
@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_overwritten_blocks(filled: Fill, block: int, fill: bytes) -> None:
    store = filled(range(ROWS), range(10, 12))
    path = store.shards[0].path
    content = path.read_bytes()
    for start in range(0, len(content), max(block, 16)):
        changed = content[:start] + fill * min(block, len(content) - start) + content[start + block :]
        if changed != content:
            damaged_to(path, changed)
            check(store.root, frames=False, sound=range(10, 12))


def test_appended_and_repeated_bytes(filled: Fill) -> None:
    store = filled(range(ROWS), range(10, 12))
    path = store.shards[0].path
    content = path.read_bytes()
    for changed in (content + b"\0", content + content, content[8:], content[:400] + content[392:]):
        damaged_to(path, changed)
        check(store.root, frames=False, sound=range(10, 12))


def test_rows_that_changed_places_are_found(filled: Fill) -> None:
    """Right numbers under the wrong key are as wrong as any."""
    store = filled(range(ROWS), range(10, 12))
    path = store.shards[0].path
    content, size = path.read_bytes(), row_values(0).nbytes
    start = content.index(row_values(0).tobytes())
    assert content[start + size : start + 2 * size] == row_values(1).tobytes()
    swapped = content[:start] + row_values(1).tobytes() + row_values(0).tobytes() + content[start + 2 * size :]
    damaged_to(path, swapped)
    assert check(store.root, frames=False, sound=range(10, 12)) == [2, 3]


def test_damage_is_found_at_every_read_not_only_the_first(filled: Fill) -> None:
    store = filled(range(ROWS))
    path = store.shards[0].path
    assert np.array_equal(store[row_key(1)].values, row_values(1))
    position = path.read_bytes().index(row_values(1).tobytes())
    with open(path, "r+b") as file:
        os.pwrite(file.fileno(), b"\x7f", position)
    with pytest.raises(DamagedRowError, match=f"row 1 of .*{path.name}.*repair"):
        store[row_key(1)]
    with pytest.raises(DamagedRowError):
        list(store.read([row_key(0), row_key(1)]))
    assert np.array_equal(store[row_key(0)].values, row_values(0))


def test_repair_keeps_sound_rows_and_counts_the_others(filled: Fill) -> None:
    store = filled(range(ROWS), range(10, 12))
    path = store.shards[0].path
    content = path.read_bytes()
    damaged_to(path, content.replace(row_values(1).tobytes(), row_values(7).tobytes()))
    report = repair(store)
    assert (report.saved, report.lost) == (ROWS - 1, 1) and report.set_aside[0].shard == path.name
    assert store.missing(map(row_key, range(ROWS))) == [row_key(1)] and not verify(store).bad
    assert (store.folder / "damaged" / path.name).exists()
    assert all(np.array_equal(store[row_key(n)].values, row_values(n)) for n in (0, 2, 3, 10, 11))


def test_repair_counts_all_rows_of_a_shard_that_cannot_be_opened(filled: Fill) -> None:
    store = filled(range(ROWS), range(10, 12))
    path = store.shards[0].path
    damaged_to(path, path.read_bytes()[:50])
    assert FeatureStore(store.root, FINGERPRINT).damaged[0].rows == ROWS
    report = repair(store)
    assert (report.saved, report.lost) == (0, ROWS) and len(store) == 2 and not store.damaged


def test_repair_counts_no_row_that_another_shard_has(tmp_path: Path) -> None:
    stores = [FeatureStore(tmp_path, FINGERPRINT) for _ in range(2)]
    for store in stores:
        with store.writer({}) as writer:
            for number in range(ROWS):
                writer.add(row_key(number), row_values(number), n_frames=3)
    path = stores[0].shards[0].path
    damaged_to(path, path.read_bytes().replace(row_values(1).tobytes(), row_values(7).tobytes()))
    report = repair(stores[0])
    assert (report.saved, report.lost) == (ROWS - 1, 0)
    assert np.array_equal(stores[0][row_key(1)].values, row_values(1))


def test_repair_of_a_sound_store_does_nothing(filled: Fill) -> None:
    store = filled(range(ROWS))
    before = {path.name for path in store.folder.iterdir()}
    report = repair(store)
    assert (report.set_aside, report.saved, report.lost) == ((), 0, 0)
    assert {path.name for path in store.folder.iterdir()} == before


def test_a_renamed_shard_is_noticed_and_its_rows_are_saved(filled: Fill) -> None:
    store = filled(range(ROWS), range(10, 12))
    path = store.shards[0].path
    path.rename(path.with_name("copy of a shard.arrow"))
    assert [damage.shard for damage in verify(store).bad] == ["copy of a shard.arrow"]
    report = repair(store)
    assert report.saved == ROWS and store.missing(map(row_key, range(ROWS))) == []


def test_a_damaged_shard_is_set_aside_twice_without_overwriting(filled: Fill) -> None:
    store = filled(range(ROWS))
    path = store.shards[0].path
    for _ in range(2):
        path.write_bytes(b"nonsense")
        repair(store)
    assert len(list((store.folder / "damaged").iterdir())) == 2


def test_opening_a_shard_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    for content in (b"", b"\0" * 100, os.urandom(1000), b"\xff\xff\xff\xff\xff\xff\xff\x7f"):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="damaged or not a shard") as caught:
            Shard(path, FINGERPRINT)
        assert "\n" not in str(caught.value)
