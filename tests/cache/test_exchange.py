"""What goes out of a store comes back as it was, and precomputed embeddings find their utterances."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from store_rows import FINGERPRINT, row_key, row_values

from lpgnet.cache import FeatureStore, StoreError, export_rows, import_rows

Fill = Callable[..., FeatureStore]
IDS = {f"dialogue/{number}": row_key(number) for number in range(6)}


@pytest.mark.parametrize("form", ["npz", "safetensors"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("frames", [False, True])
def test_out_and_in_again(filled: Fill, tmp_path: Path, form: str, dtype: str, frames: bool) -> None:
    store, file = filled(range(4), range(4, 6), frames=frames, dtype=dtype), tmp_path / f"out.{form}"
    report = export_rows(store, file, IDS | {"absent": row_key(99)}, form)
    assert (report.rows, report.missing) == (6, ("absent",))
    other = FeatureStore(tmp_path / "other", FINGERPRINT)
    imported = import_rows(file, other, {**IDS, "absent": row_key(99)}, {"name": "from a file"}, dtype=dtype)
    assert (imported.added, imported.present, imported.unknown, imported.missing) == (6, 0, (), ("absent",))
    for number, key in enumerate(IDS.values()):
        one, two = store[key], other[key]
        assert one.values.tobytes() == two.values.tobytes() and one.values.dtype == two.values.dtype
        assert (one.n_frames, one.flags) == (two.n_frames, two.flags) and two.flags == number
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_npz_is_what_numpy_reads(filled: Fill, tmp_path: Path) -> None:
    export_rows(filled(range(6)), tmp_path / "out.npz", IDS, "npz")
    with np.load(tmp_path / "out.npz") as arrays:
        for number, name in enumerate(IDS):
            assert np.array_equal(arrays[name], row_values(number))


def test_safetensors_is_what_safetensors_reads(filled: Fill, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    export_rows(filled(range(6)), tmp_path / "out.safetensors", IDS, "safetensors")
    arrays = load_file(tmp_path / "out.safetensors")
    assert sorted(arrays) == sorted(IDS)
    assert all(np.array_equal(arrays[name], row_values(number)) for number, name in enumerate(IDS))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("frames", [False, True])
def test_a_folder_that_datasets_loads(
    filled: Fill, tmp_path: Path, dtype: str, frames: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    store, target = filled(range(6), frames=frames, dtype=dtype), tmp_path / "out"
    monkeypatch.setattr("lpgnet.cache.exchange._BATCH_ROWS", 2)
    monkeypatch.setattr("lpgnet.cache.exchange._FILE_BYTES", 200)
    export_rows(store, target, IDS, "datasets")
    assert len(list((target / "data").iterdir())) > 1
    rows = datasets.load_dataset(str(target), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"][:] == list(IDS) and rows["flags"][:] == list(range(6))
    for number in range(6):
        assert np.array_equal(np.array(rows[number]["values"]), row_values(number, frames=frames))
    assert json.loads((target / "encoder.json").read_text()) == {"name": "made up"}
    assert "`flags` (1: checked, 2: silent, 4: clipped, 8: padded, 16: windowed)" in (target / "README.md").read_text()


def write(file: Path, arrays: dict[str, np.ndarray]) -> Path:
    if file.suffix == ".npz":
        np.savez_compressed(file, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file(arrays, file)
    return file


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_published_features_of_one_vector_an_utterance(tmp_path: Path, suffix: str) -> None:
    arrays = {f"u{n}": np.random.default_rng(n).standard_normal(5) for n in range(4)}
    file = write(tmp_path / f"features{suffix}", arrays)
    store = FeatureStore(tmp_path / "store", FINGERPRINT)
    keys = {f"u{n}": row_key(n) for n in (1, 2, 3, 7)}
    report = import_rows(file, store, keys, {"name": "published"})
    assert (report.added, report.unknown, report.missing) == (3, ("u0",), ("u7",))
    for number in (1, 2, 3):
        row = store[row_key(number)]
        assert np.array_equal(row.values, arrays[f"u{number}"].astype(np.float32)[np.newaxis])
        assert (row.n_frames, row.flags) == (0, 0)
    assert import_rows(file, store, keys, {}).present == 3


def test_fortran_order_is_kept(tmp_path: Path) -> None:
    values = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    np.savez(tmp_path / "a.npz", u=values)
    store = FeatureStore(tmp_path / "store", FINGERPRINT)
    import_rows(tmp_path / "a.npz", store, {"u": row_key(0)}, {})
    assert np.array_equal(store[row_key(0)].values, values)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("bad", [np.ones((1, 6)), np.ones((2, 1, 1, 5)), np.ones((1, 5), np.int64)])
def test_a_row_that_does_not_fit_names_its_utterance(tmp_path: Path, suffix: str, bad: np.ndarray) -> None:
    file = write(tmp_path / f"a{suffix}", {"a": np.ones((1, 5)), "wrong": bad})
    with pytest.raises(StoreError, match="utterance wrong"):
        import_rows(file, FeatureStore(tmp_path, FINGERPRINT), {"a": row_key(0), "wrong": row_key(1)}, {})


LISTS = {
    ".txt": "u0\nu 1\n\nu2\n",
    ".json": '["u0", "u 1", "u2"]',
    ".csv": "split,utterance_id\ntrain,u0\ntrain,u 1\ndev,u2\n",
}


@pytest.mark.parametrize("suffix", LISTS)
@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 5)])
def test_a_matrix_with_its_ids(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.save(tmp_path / "mine.npy", matrix)
    (tmp_path / f"mine{suffix}").write_text(LISTS[suffix])
    store = FeatureStore(tmp_path / "store", FINGERPRINT)
    keys = {name: row_key(n) for n, name in enumerate(("u2", "u0", "other"))}
    report = import_rows(tmp_path / "mine.npy", store, keys, {})
    assert (report.added, report.unknown, report.missing) == (2, ("u 1",), ("other",))
    for name, row in (("u0", 0), ("u2", 2)):
        assert np.array_equal(store[keys[name]].values, matrix[row].reshape(-1, 5))


@pytest.mark.parametrize(
    ("lists", "matrix", "message"),
    [
        ({}, np.ones((2, 5)), "list the utterance ids in mine.txt or mine.json or mine.csv beside it"),
        ({".txt": "a\nb", ".json": '["a", "b"]'}, np.ones((2, 5)), "mine.txt and mine.json both lie beside it"),
        ({".txt": "a\nb\nc"}, np.ones((2, 5)), "has 2 rows and mine.txt 3 ids"),
        ({".txt": "a\na"}, np.ones((2, 5)), "'a' stands there twice"),
        ({".json": '{"a": 0}'}, np.ones((1, 5)), "no list of utterance ids"),
        ({".json": "[1, 2]"}, np.ones((2, 5)), "no list of utterance ids"),
        ({".csv": "name\na\n"}, np.ones((1, 5)), "no column utterance_id or id"),
        ({".txt": "a"}, np.ones(1), r"is \(1,\), not \(utterances, width\)"),
        ({".txt": "a"}, np.ones((1, 5), np.int64), "floating point"),
        ({".txt": "a"}, np.array([[print]], object), "cannot be imported: .*objects"),
    ],
)
def test_a_matrix_that_cannot_be_taken(tmp_path: Path, lists: dict[str, str], matrix: np.ndarray, message: str) -> None:
    np.save(tmp_path / "mine.npy", matrix, allow_pickle=True)
    for suffix, text in lists.items():
        (tmp_path / f"mine{suffix}").write_text(text)
    with pytest.raises(StoreError, match=message):
        import_rows(tmp_path / "mine.npy", FeatureStore(tmp_path, FINGERPRINT), {"a": row_key(0)}, {})


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_of_which_nothing_fits_is_refused(tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"a{suffix}", {"Ses01_1": np.ones(5)})
    message = "none of its 1 rows, such as 'Ses01_1' is of the 1 utterances, such as 'dia0_utt1'"
    with pytest.raises(StoreError, match=message):
        import_rows(file, FeatureStore(tmp_path, FINGERPRINT), {"dia0_utt1": row_key(0)}, {})
    assert not (tmp_path / FINGERPRINT).exists()


@pytest.mark.parametrize("name", ["none.npz", "none.safetensors", "file.txt"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=name):
        import_rows(tmp_path / name, FeatureStore(tmp_path, FINGERPRINT), {}, {})


def test_an_export_never_overwrites_and_leaves_nothing_half_done(filled: Fill, tmp_path: Path) -> None:
    store = filled(range(6))
    (tmp_path / "there.npz").write_bytes(b"x")
    with pytest.raises(StoreError, match="exists"):
        export_rows(store, tmp_path / "there.npz", IDS, "npz")
    with pytest.raises(StoreError, match="no such format"):
        export_rows(store, tmp_path / "new", IDS, "pickle")
    with pytest.raises(StoreError, match="no row"):
        export_rows(store, tmp_path / "new", {"a": row_key(99)}, "npz")
    path = store.shards[0].path
    content = path.read_bytes().replace(row_values(3).tobytes(), row_values(50).tobytes())
    with open(path, "r+b") as file:
        file.write(content)
    before = set(tmp_path.iterdir())
    for form in ("npz", "safetensors", "datasets"):
        with pytest.raises(StoreError, match="damaged"):
            export_rows(store, tmp_path / "new", IDS, form)
    assert set(tmp_path.iterdir()) == before
