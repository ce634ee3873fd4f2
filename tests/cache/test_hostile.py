"""Contents made to do harm: nothing is unpickled, no path leaves the store, no claim costs memory."""

import io
import json
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from store_rows import FINGERPRINT, row_key, row_values

from lpgnet.cache import FeatureStore, StoreError, export_rows, import_rows, repair, verify
from lpgnet.cache.shards import ShardName

Fill = Callable[..., FeatureStore]
HUGE = 10**12


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails when more than a few megabytes were asked for, of Python, numpy or Arrow."""
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() - arrow < 2**20


def forge(store: FeatureStore, content: bytes, rows: int = 4) -> None:
    """Puts content under a name that fits it."""
    store.folder.mkdir(parents=True, exist_ok=True)
    (store.folder / ShardName(1, rows, xxhash.xxh3_128_hexdigest(content)).text()).write_bytes(content)


def stream(schema: pa.Schema, batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def refused(store: FeatureStore, sound: int = 4) -> None:
    """The forged shard is refused, and the sound rows are served."""
    opened = FeatureStore(store.root, FINGERPRINT)
    assert len(opened.damaged) == 1 and len(verify(opened).bad) == 1
    assert all(np.array_equal(opened[row_key(n)].values, row_values(n)) for n in range(sound))


def of(store: FeatureStore) -> tuple[pa.Schema, pa.RecordBatch, dict[str, object]]:
    with pa.ipc.open_stream(str(store.shards[0].path)) as reader:
        return reader.schema, reader.read_next_batch(), json.loads(reader.schema.metadata[b"lpgnet.shard"])


@pytest.mark.parametrize(
    "claim",
    [
        {"rows": HUGE},
        {"rows": -1},
        {"rows": True},
        {"rows": 1e12},
        {"rows": "4"},
        {"rows": 2**63},
        {"stored_frames": HUGE},
        {"layers": HUGE},
        {"layers": 2**31 - 1, "width": 2**31 - 1},
        {"width": 0},
        {"dtype": "object"},
        {"frames": 1},
        {"version": 3},
        {"fingerprint": "fedcba9876543210"},
        {"fingerprint": None},
        {"more": 1},
    ],
)
def test_a_shard_that_lies_about_its_form(filled: Fill, claim: dict[str, object]) -> None:
    store = filled(range(4))
    schema, batch, form = of(store)
    lying = schema.with_metadata({"lpgnet.shard": json.dumps(form | claim)})
    with little_memory():
        forge(store, stream(lying, batch.replace_schema_metadata(lying.metadata)))
        refused(store)


@pytest.mark.parametrize("metadata", [b"", b"[]", b"null", b"[" * 10_000, b"\xff\xfe", b"{}"])
def test_a_shard_with_broken_metadata(filled: Fill, metadata: bytes) -> None:
    store = filled(range(4))
    schema, batch, _ = of(store)
    lying = schema.with_metadata({"lpgnet.shard": metadata})
    forge(store, stream(lying, batch.replace_schema_metadata(lying.metadata)))
    refused(store)


def test_a_shard_with_a_pickle_inside(filled: Fill, tmp_path: Path) -> None:
    store, trap = filled(range(4)), tmp_path / "sprung"
    schema, batch, _ = of(store)
    payload = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Trap(trap))}
    fields = [schema.field(0).with_metadata(payload), *list(schema)[1:]]
    hostile = pa.schema(fields, metadata=schema.metadata)
    forge(store, stream(hostile, pa.RecordBatch.from_arrays(batch.columns, schema=hostile)))
    opened = FeatureStore(store.root, FINGERPRINT)
    verify(opened)
    repair(opened)
    assert len(list(opened.read(opened.keys()))) == 4 and not trap.exists()


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_compressed_shard_is_never_unpacked(filled: Fill, codec: str) -> None:
    store = filled(range(4))
    schema, batch, _ = of(store)
    forge(store, stream(schema, batch, pa.ipc.IpcWriteOptions(compression=codec)))
    refused(store)


def test_other_columns_are_refused(filled: Fill) -> None:
    store = filled(range(4))
    schema, _, _ = of(store)
    other = pa.schema([("key", pa.string()), ("values", pa.list_(pa.float32()))], metadata=schema.metadata)
    forge(store, stream(other, pa.RecordBatch.from_pylist([{"key": "a", "values": [1.0]}] * 4, schema=other)))
    refused(store)


def test_a_batch_whose_own_header_lies_moves_no_number(filled: Fill) -> None:
    """The rows lie where their number and form say; what the record batch says of itself is not asked."""
    store = filled(range(4))
    path = store.shards[0].path
    content = path.read_bytes()
    message = content.index((4).to_bytes(8, "little"), content.index(b"\xff\xff\xff\xff", 8))
    forged = content[:message] + HUGE.to_bytes(8, "little") + content[message + 8 :]
    path.unlink()
    forge(store, forged)
    with little_memory():
        opened = FeatureStore(store.root, FINGERPRINT)
        assert all(np.array_equal(opened[row_key(n)].values, row_values(n)) for n in range(4))


@pytest.mark.parametrize(
    "fingerprint",
    ["", "..", "../0123456789abcdef", "/etc", "0123456789ABCDEF", "0123456", "0123456789abcdef\n", "a" * 129],
)
def test_a_fingerprint_that_climbs_out(tmp_path: Path, fingerprint: str) -> None:
    with pytest.raises(StoreError, match="fingerprint"):
        FeatureStore(tmp_path, fingerprint)


def test_links_are_not_followed(filled: Fill, tmp_path: Path) -> None:
    store = filled(range(4))
    outside = tmp_path / store.shards[0].name
    store.shards[0].path.rename(outside)
    store.shards[0].path.symlink_to(outside)
    opened = FeatureStore(store.root, FINGERPRINT)
    assert len(opened) == 0 and len(verify(opened).bad) == 1
    repair(opened)
    assert outside.exists() and not store.shards[0].path.is_symlink() and len(opened) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FINGERPRINT).symlink_to(store.folder)
    with pytest.raises(StoreError, match="link"):
        FeatureStore(tmp_path / "other", FINGERPRINT)


def import_file(file: Path, tmp_path: Path, *names: str) -> None:
    store = FeatureStore(tmp_path / "imported", FINGERPRINT)
    import_rows(file, store, {name: row_key(n) for n, name in enumerate(names or ("a",))}, {})


def npz(file: Path, member: bytes, name: str = "a.npy") -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member)
    return file


def npy_header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"shape": shape, "fortran_order": False, "descr": dtype})
    return content.getvalue()


def test_an_import_with_a_pickle_inside(tmp_path: Path) -> None:
    trap, content = tmp_path / "sprung", io.BytesIO()
    np.save(content, np.array([Trap(trap)], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="pickled"):
        import_file(npz(tmp_path / "a.npz", content.getvalue()), tmp_path)
    with pytest.raises(StoreError):
        import_file(npz(tmp_path / "b.npz", pickle.dumps(Trap(trap))), tmp_path)
    (tmp_path / "c.npz").write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(StoreError):
        import_file(tmp_path / "c.npz", tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize("shape", [(HUGE,), (2**40, 2**40), (2**62, 4), (3,)])
def test_an_array_that_claims_more_than_it_has(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with little_memory(), pytest.raises(StoreError, match="claims"):
        import_file(npz(tmp_path / "a.npz", npy_header(shape) + bytes(8)), tmp_path)


def test_an_array_that_unpacks_to_more_than_any_utterance_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpgnet.cache.exchange.ROW_BYTES", 2**24)
    file = npz(tmp_path / "a.npz", npy_header((2**22,)) + bytes(2**24))
    assert file.stat().st_size < 2**17
    with little_memory(), pytest.raises(StoreError, match="more than any utterance"):
        import_file(file, tmp_path)


@pytest.mark.parametrize(
    "header", [b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}', b"{", b"[]"]
)
def test_a_safetensors_file_that_lies(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "a.safetensors"
    for length in (len(header), HUGE):
        file.write_bytes(length.to_bytes(8, "little") + header + bytes(16))
        with little_memory(), pytest.raises(StoreError):
            import_file(file, tmp_path)


def test_names_in_an_import_are_never_paths(tmp_path: Path) -> None:
    file = npz(tmp_path / "a.npz", npy_header((4,)) + bytes(16), "../../climbed.npy")
    import_file(file, tmp_path / "deep" / "er", "../../climbed")
    assert not list(tmp_path.rglob("climbed*"))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "", "a\0b", "..\\x", "__metadata__", "lpgnet.rows"])
def test_an_id_that_would_climb_out_when_unpacked_is_not_exported(filled: Fill, tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="utterance id"):
        export_rows(filled(range(2)), tmp_path / "out.npz", {"fine": row_key(0), name: row_key(1)}, "npz")
    assert not (tmp_path / "out.npz").exists()
