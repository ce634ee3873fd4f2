"""A store gives back what was written, bit for bit, and knows what it has."""

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from store_rows import FINGERPRINT, row_key, row_values

from lpgnet.cache import FeatureStore, MissingRowError, StoreError, text_key
from lpgnet.cache.layout import Layout

Fill = Callable[..., FeatureStore]
DTYPES = ("float32", "float16", "bfloat16")


@st.composite
def batches(draw: st.DrawFn) -> tuple[str, bool, list[np.ndarray]]:
    """A number format, whether frames are kept, and rows of one odd shape with any bits at all."""
    dtype, frames = draw(st.sampled_from(DTYPES)), draw(st.booleans())
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 33)))
    counts = draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
    stored = Layout(dtype, *shape, frames).stored
    shapes = [(count, *shape) if frames else shape for count in counts]
    bits = [draw(hnp.arrays(f"u{stored.itemsize}", one)) for one in shapes]
    return dtype, frames, [Layout(dtype, *shape, frames).decode(one.view(stored)) for one in bits]


@settings(deadline=None, max_examples=60)
@given(batches(), st.integers(1, 2000))
def test_reads_equal_writes_bit_for_bit(batch: tuple[str, bool, list[np.ndarray]], shard_bytes: int) -> None:
    dtype, frames, rows = batch
    if dtype == "bfloat16":
        rows = [np.where(np.isnan(row), np.float32(np.nan), row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder, FINGERPRINT)
        with store.writer({}, dtype=dtype, shard_bytes=shard_bytes) as writer:
            for number, row in enumerate(rows):
                writer.add(row_key(number), row, n_frames=len(row) if frames else 2**40, flags=2**32 - 1 - number)
        reader = FeatureStore(folder, FINGERPRINT)
        for number, row in enumerate(rows):
            read = reader[row_key(number)]
            assert read.values.dtype == (np.float16 if dtype == "float16" else np.float32)
            assert read.values.shape == row.shape and read.values.tobytes() == row.tobytes()
            assert read.n_frames == (len(row) if frames else 2**40) and read.flags == 2**32 - 1 - number
            assert not read.values.flags.writeable


@settings(deadline=None, max_examples=60)
@given(st.sets(st.binary(min_size=16, max_size=16), min_size=1, max_size=20))
def test_any_sixteen_bytes_are_a_key(keys: set[bytes]) -> None:
    keys = keys | {bytes(16), b"\0" * 15 + b"a", b"a" + b"\0" * 15, b"\xff" * 16}
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder, FINGERPRINT)
        with store.writer({}) as writer:
            for number, key in enumerate(keys):
                writer.add(key, np.full((1, 1), number, np.float32), n_frames=1)
        assert [row.values.item() for row in store.read(keys)] == list(range(len(keys)))
        assert [store[key].values.item() for key in keys] == list(range(len(keys)))
        assert sorted(keys) == list(store.keys())
        assert store.missing(keys) == [] and all(key in store for key in keys)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", [False, True])
def test_arrow_sees_the_same_rows(filled: Fill, frames: bool, dtype: str) -> None:
    store = filled(range(9), frames=frames, dtype=dtype)
    table = pa.ipc.open_stream(str(store.shards[0].path)).read_all()
    table.validate(full=True)
    for row in table.to_pylist():
        values = np.array(row["values"])
        if dtype == "bfloat16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        assert np.array_equal(values.astype(np.float32), store[row["key"]].values)
        assert row["n_frames"] == store[row["key"]].n_frames and row["flags"] == store[row["key"]].flags


@pytest.mark.parametrize("frames", [False, True])
def test_datasets_opens_a_shard(filled: Fill, frames: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    datasets = pytest.importorskip("datasets")
    store = filled(range(5), frames=frames)
    rows = datasets.Dataset.from_file(str(store.shards[0].path)).with_format("numpy")
    assert len(rows) == 5
    for number in range(5):
        assert np.array_equal(np.stack(list(rows[number]["values"])), row_values(number, frames=frames))


@pytest.mark.parametrize("frames", [False, True])
def test_polars_opens_a_shard(filled: Fill, frames: bool) -> None:
    polars = pytest.importorskip("polars")
    table = polars.read_ipc_stream(filled(range(5), frames=frames).shards[0].path)
    for number, values in enumerate(table["values"].to_list()):
        assert np.array_equal(np.array(values), row_values(number, frames=frames))


def test_missing_is_unique_and_in_order(filled: Fill) -> None:
    store = filled(range(4))
    wanted = [row_key(number) for number in (9, 2, 7, 9, 0, 7, 8)]
    assert store.missing(wanted) == [row_key(9), row_key(7), row_key(8)]
    assert store.missing([]) == []


def test_a_row_that_is_not_there_is_a_missing_row(filled: Fill, tmp_path: Path) -> None:
    for store in (filled(range(4)), FeatureStore(tmp_path / "none", FINGERPRINT)):
        for read in (lambda store=store: store[row_key(9)], lambda store=store: list(store.read([row_key(9)]))):
            with pytest.raises(MissingRowError, match=row_key(9).hex()) as caught:
                read()
            assert isinstance(caught.value, KeyError) and '"' not in str(caught.value)


def test_a_store_that_is_not_there_is_empty_and_is_not_made(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "none", FINGERPRINT)
    assert len(store) == 0 and store.description == {} and row_key(1) not in store
    assert not (tmp_path / "none").exists()


def test_flush_is_seen_by_new_readers_and_by_old_ones_after_refresh(filled: Fill) -> None:
    store = filled(range(2))
    old = FeatureStore(store.root, FINGERPRINT)
    writer = store.writer({})
    writer.add(row_key(5), row_values(5), n_frames=1)
    assert row_key(5) not in FeatureStore(store.root, FINGERPRINT)
    writer.flush()
    assert row_key(5) in store and row_key(5) in FeatureStore(store.root, FINGERPRINT) and row_key(5) not in old
    old.refresh()
    assert np.array_equal(old[row_key(5)].values, row_values(5))


def test_rows_are_kept_when_the_block_ends_by_an_exception(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, FINGERPRINT)
    with pytest.raises(KeyboardInterrupt), store.writer({}) as writer:
        writer.add(row_key(1), row_values(1), n_frames=1)
        raise KeyboardInterrupt
    assert row_key(1) in FeatureStore(tmp_path, FINGERPRINT)


def test_the_first_of_equal_keys_stays(filled: Fill) -> None:
    store = filled(range(2))
    with store.writer({}) as writer:
        writer.add(row_key(1), row_values(7), n_frames=1)
        writer.add(row_key(8), row_values(8), n_frames=1)
        writer.add(row_key(8), row_values(9), n_frames=1)
    assert np.array_equal(store[row_key(1)].values, row_values(1))
    assert np.array_equal(store[row_key(8)].values, row_values(8))
    assert len(store) == 3


def test_of_two_shards_with_a_key_the_first_by_name_wins(tmp_path: Path) -> None:
    writers = [FeatureStore(tmp_path, FINGERPRINT).writer({}) for _ in range(2)]
    for number, writer in enumerate(writers):
        writer.add(row_key(1), row_values(number), n_frames=1)
        writer.add(row_key(10 + number), row_values(10 + number), n_frames=1)
    for writer in reversed(writers):
        writer.flush()
    store = FeatureStore(tmp_path, FINGERPRINT)
    assert len(store) == 3
    assert np.array_equal(store[row_key(1)].values, row_values(1))


def test_the_caller_may_reuse_its_array(tmp_path: Path) -> None:
    store, values = FeatureStore(tmp_path, FINGERPRINT), row_values(1)
    with store.writer({}) as writer:
        writer.add(row_key(1), values, n_frames=1)
        values[:] = 0
    assert np.array_equal(store[row_key(1)].values, row_values(1))


def test_strided_and_foreign_byte_order_values_are_stored_right(tmp_path: Path) -> None:
    store, values = FeatureStore(tmp_path, FINGERPRINT), np.arange(24, dtype=">f8").reshape(4, 6)
    with store.writer({}) as writer:
        writer.add(row_key(1), values.T[::2], n_frames=1)
    assert np.array_equal(store[row_key(1)].values, values.T[::2])


def test_a_row_larger_than_a_shard_has_one_of_its_own(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, FINGERPRINT)
    with store.writer({}, shard_bytes=100) as writer:
        for number in range(3):
            writer.add(row_key(number), np.full((2, 50), number, np.float32), n_frames=1)
    assert len(store.shards) == 3 and len(store) == 3


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        (np.ones((3, 9), np.float32), {"n_frames": 1}),
        (np.ones((2, 3, 8), np.float32), {"n_frames": 2}),
        (np.ones(8, np.float32), {"n_frames": 1}),
        (row_values(1), {"n_frames": -1}),
        (row_values(1), {"n_frames": 1, "flags": 2**32}),
        (row_values(1), {"n_frames": 1, "flags": -1}),
    ],
)
def test_a_row_that_does_not_fit_is_refused(filled: Fill, values: np.ndarray, counts: dict[str, int]) -> None:
    store = filled(range(2))
    with store.writer({}) as writer, pytest.raises(StoreError):
        writer.add(row_key(9), values, **counts)
    assert len(store) == 2


def test_frames_must_be_counted_right(filled: Fill) -> None:
    with filled(range(2), frames=True).writer({}) as writer, pytest.raises(StoreError, match="n_frames"):
        writer.add(row_key(9), np.ones((4, 3, 8), np.float32), n_frames=5)


@pytest.mark.parametrize("key", [b"", b"a" * 15, b"a" * 17, "a" * 16, None])
def test_a_key_is_sixteen_bytes(filled: Fill, key: bytes) -> None:
    store = filled(range(2))
    with pytest.raises(StoreError):
        store[key]
    with pytest.raises(StoreError), store.writer({}) as writer:
        writer.add(key, row_values(1), n_frames=1)


def test_missing_refuses_what_is_not_a_key(filled: Fill) -> None:
    with pytest.raises(StoreError):
        filled(range(2)).missing([b"a" * 15, b"a" * 17])


def test_the_first_description_stays_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, FINGERPRINT)
    store.writer({"name": "één"})
    store.writer({"name": "two"})
    assert store.description == {"name": "één"}
    (store.folder / "encoder.json").write_bytes(b"{broken")
    assert store.description == {}
    with pytest.raises(StoreError, match="plain JSON"):
        FeatureStore(tmp_path, FINGERPRINT + "00").writer({"a": {1, 2}})


def test_a_store_goes_to_another_process(filled: Fill) -> None:
    store = pickle.loads(pickle.dumps(filled(range(3))))
    assert np.array_equal(store[row_key(2)].values, row_values(2))


def test_frames_are_counted_once_for_every_key(filled: Fill) -> None:
    assert filled(range(4), range(2, 6)).frame_count() == 18
    assert text_key("x") not in filled(range(1))


def test_importing_the_package_loads_nothing_slow() -> None:
    code = "import cache, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "datasets", "pandas", "safetensors", "transformers", "pyarrow.parquet"} & set(loaded)
