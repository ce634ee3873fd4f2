"""Counting, dropping and merging rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from store_rows import FINGERPRINT, row_key, row_values

from lpgnet.cache import FLAGS, FeatureStore, StoreError, compact, flag_bits, gc, info, list_stores, verify
from lpgnet.cache.index import Index, key_array

Fill = Callable[..., FeatureStore]


def right(store: FeatureStore, numbers: range | list[int]) -> bool:
    """Whether the store holds exactly these rows, and rightly."""
    rows = {number: store[row_key(number)] for number in numbers}
    values = all(np.array_equal(row.values, row_values(number)) for number, row in rows.items())
    return values and all(row.flags == number for number, row in rows.items()) and len(store) == len(numbers)


def test_info_by_hand(filled: Fill) -> None:
    store = filled(range(4), range(2, 6), range(10, 11))
    report = info(store)
    assert (report.shards, report.rows, report.duplicates, report.frames, report.damaged) == (3, 7, 0, 21, 0)
    assert report.bytes == sum(path.stat().st_size for path in store.folder.glob("*.arrow"))
    assert report.oldest_ns and report.newest_ns and report.oldest_ns < report.newest_ns
    assert report.description == {"name": "made up"} and report.hours is None


def test_info_knows_hours_where_the_frame_period_is_described(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, FINGERPRINT)
    with store.writer({"seconds_per_frame": 0.02}) as writer:
        writer.add(row_key(1), row_values(1), n_frames=90_000)
    assert info(store).hours == 0.5


def test_flags_are_counted_by_hand(tmp_path: Path) -> None:
    """A row that stands behind another of its key counts for nothing, a bit of the caller's neither."""
    stores = [FeatureStore(tmp_path, FINGERPRINT) for _ in range(2)]
    for store, flags in zip(stores, (("checked", "silent"), ("checked", "clipped", "unheard of")), strict=True):
        with store.writer({}) as writer:
            writer.add(row_key(1), row_values(1), n_frames=3, flags=flag_bits(flags) | 1 << 31)
    with stores[0].writer({}) as writer:
        writer.add(row_key(2), row_values(2), n_frames=3, flags=0b01001)
        writer.add(row_key(3), row_values(3), n_frames=3)
    expected = {"checked": 2, "silent": 1, "clipped": 0, "padded": 1, "windowed": 0}
    assert info(stores[1]).flags == expected and info(stores[1]).duplicates == 1


def test_the_bits_of_flags_are_those_that_the_documents_name() -> None:
    assert [flag_bits([name]) for name in ("checked", "silent", "clipped", "padded", "windowed")] == [1, 2, 4, 8, 16]
    assert flag_bits([]) == 0 and flag_bits(FLAGS) == 31


def test_info_of_nothing(tmp_path: Path) -> None:
    report = info(FeatureStore(tmp_path, FINGERPRINT))
    assert (report.shards, report.rows, report.oldest_ns, report.newest_ns) == (0, 0, None, None)
    assert verify(FeatureStore(tmp_path, FINGERPRINT)).bad == ()


def test_stores_are_listed(filled: Fill, tmp_path: Path) -> None:
    store = filled(range(1))
    (store.root / "other").mkdir()
    (store.root / ("b" * 16)).symlink_to(store.folder)
    assert list_stores(store.root) == [FINGERPRINT] and list_stores(tmp_path / "none") == []


def test_gc_drops_what_nobody_needs(filled: Fill) -> None:
    store = filled(range(4), range(4, 8), range(8, 12))
    needed = {row_key(number) for number in (0, 1, 2, 3, 5, 99)}
    size = info(store).bytes
    dry = gc(store, needed)
    assert (dry.kept, dry.dropped, dry.skipped) == (5, 7, ()) and right(store, range(12))
    done = gc(store, needed, dry_run=False)
    assert (done.kept, done.dropped) == (5, 7) and right(FeatureStore(store.root, FINGERPRINT), [0, 1, 2, 3, 5])
    assert done.bytes_freed == size - info(store).bytes > 0
    assert len(store.shards) == 2 and not verify(store).bad
    assert gc(store, needed, dry_run=False).dropped == 0


def test_gc_leaves_a_shard_alone_in_which_a_needed_row_is_damaged(filled: Fill) -> None:
    store = filled(range(4), range(4, 8))
    path = store.shards[0].path
    content = path.read_bytes().replace(row_values(1).tobytes(), row_values(50).tobytes())
    path.unlink()
    path.write_bytes(content)
    report = gc(store, {row_key(0), row_key(1), row_key(4)}, dry_run=False)
    assert report.skipped == (path.name,) and path.exists()
    assert (report.dropped, report.kept) == (3, 5)
    assert np.array_equal(store[row_key(4)].values, row_values(4)) and row_key(5) not in store


def test_merging_keeps_every_row_once(filled: Fill) -> None:
    store = filled(*(range(first, first + 3) for first in range(0, 30, 3)))
    old = FeatureStore(store.root, FINGERPRINT)
    report = compact(store)
    assert (report.before, report.after, report.skipped) == (10, 1, ()) and report.bytes_freed > 0
    assert right(store, range(30)) and right(old, range(30)) and not verify(store).bad
    assert len(list(store.folder.glob("*.arrow"))) == 1
    assert compact(store).before == compact(store).after == 1


def test_merging_drops_duplicates_and_keeps_large_shards(tmp_path: Path) -> None:
    stores = [FeatureStore(tmp_path, FINGERPRINT) for _ in range(3)]
    for store in stores:
        with store.writer({}) as writer:
            for number in range(5):
                writer.add(row_key(number), row_values(number), n_frames=3, flags=number)
    assert info(stores[0]).duplicates == 10
    assert compact(stores[0], shard_bytes=1000).after == 3
    assert compact(stores[0]).after == 1
    assert right(stores[0], range(5)) and info(stores[0]).duplicates == 0


def test_merging_fills_shards_to_their_size(filled: Fill) -> None:
    store = filled(*(range(first, first + 3) for first in range(0, 120, 3)))
    size = 32 * row_values(0).nbytes * 3
    assert compact(store, shard_bytes=size).after == 2
    assert sorted(map(len, store.shards)) == [24, 96]


def test_merging_leaves_damaged_shards_alone(filled: Fill) -> None:
    store = filled(range(3), range(3, 6), range(6, 9))
    path = store.shards[1].path
    content = path.read_bytes().replace(row_values(4).tobytes(), row_values(50).tobytes())
    path.unlink()
    path.write_bytes(content)
    report = compact(store)
    assert (report.after, report.skipped) == (2, (path.name,)) and path.exists()


def test_merging_keeps_number_formats_apart(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, FINGERPRINT)
    for number, dtype in enumerate(["float32", "float16", "bfloat16"] * 2):
        with store.writer({}, dtype=dtype) as writer:
            writer.add(row_key(number), row_values(number), n_frames=3, flags=number)
    assert compact(store).after == 3 and right(store, range(6))


def test_frames_survive_merging_and_dropping(filled: Fill) -> None:
    store = filled(range(5), range(5, 9), frames=True)
    compact(store)
    gc(store, {row_key(number) for number in (0, 3, 6, 8)}, dry_run=False)
    for number in (0, 3, 6, 8):
        assert np.array_equal(store[row_key(number)].values, row_values(number, frames=True))
    assert len(store) == 4


@pytest.mark.parametrize("count", [1, 2, 50])
def test_the_index_equals_a_dictionary(count: int) -> None:
    """Keys of few distinct bytes, with zeros at their ends, spread over shards with repetitions."""
    rng = np.random.default_rng(count)
    columns = [
        rng.integers(0, 2, (n, 16), np.uint8) * (rng.random((n, 16)) < 0.2) for n in rng.integers(1, count + 1, 4)
    ]
    keys = [[bytes(row) for row in column.astype(np.uint8)] for column in columns]
    expected = {key: (s, r) for s in (3, 2, 1, 0) for r, key in reversed(list(enumerate(keys[s])))}
    index = Index.build([key_array(column) for column in keys])
    assert len(index) == len(expected)
    shards, rows = index.locations(index.find(key_array([*expected, b"\xff" * 16])))
    assert list(zip(shards.tolist(), rows.tolist(), strict=True)) == [*expected.values(), (-1, -1)]
    assert [index.locate(key) for key in expected] == list(expected.values())
    assert index.locate(b"\xff" * 16) is None and Index.build([]).locate(bytes(16)) is None


def test_a_million_rows_of_index_are_small() -> None:
    index = Index.build([np.frombuffer(np.random.default_rng(0).bytes(16 * 10_000), "S16")])
    assert index.keys.nbytes + index.shards.nbytes + index.rows.nbytes == 24 * len(index)


def test_a_store_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="Not a directory"):
        FeatureStore(tmp_path / "file", FINGERPRINT)
