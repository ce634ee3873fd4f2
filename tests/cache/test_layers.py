"""Rows that one encoder's store lacks are read as layers of the same encoder's store of all layers."""

from pathlib import Path

import numpy as np
import pytest

from lpgnet.cache import DamagedRowError, FeatureStore, MissingRowError, StoredRows, text_key

KEYS = [text_key(name) for name in "abcd"]


def fill(
    root: Path, fingerprint: str, keys: list[bytes], shape: tuple[int, ...], dtype: str = "float32"
) -> FeatureStore:
    store = FeatureStore(root, fingerprint)
    random = np.random.default_rng(len(fingerprint))
    with store.writer({"name": "hf:a", "layers": "all", "fingerprint": fingerprint}, dtype=dtype) as writer:
        for index, key in enumerate(keys):
            values = random.standard_normal(shape).astype(np.float32)
            writer.add(key, values, n_frames=shape[0] if len(shape) == 3 else 7, flags=index)
    return store


@pytest.mark.parametrize("shape", [(4, 3), (5, 4, 3)])
@pytest.mark.parametrize("layers", [[2], [3, 0], [-1]])
def test_layers_of_every_row_with_its_counts(tmp_path: Path, shape: tuple[int, ...], layers: list[int]) -> None:
    whole = fill(tmp_path, "a" * 8, KEYS, shape)
    stored = StoredRows(FeatureStore(tmp_path, "b" * 8), whole, layers)
    wanted = [KEYS[2], KEYS[0], KEYS[2]]
    for key, row in zip(wanted, stored.read(wanted), strict=True):
        expected = whole[key]
        np.testing.assert_array_equal(row.values, expected.values[..., layers, :])
        assert (row.n_frames, row.flags) == (expected.n_frames, expected.flags)
    assert not stored.folder.exists()


def test_own_rows_come_first_and_the_rest_from_all_layers(tmp_path: Path) -> None:
    whole = fill(tmp_path, "a" * 8, KEYS[:3], (4, 3))
    own = fill(tmp_path, "b" * 8, KEYS[1:2], (1, 3))
    stored = StoredRows(own, whole, [2])
    assert stored.missing([*KEYS, KEYS[3]]) == [KEYS[3]]
    assert stored.served(KEYS) == {KEYS[0], KEYS[2]}
    found = [row.values for row in stored.read(KEYS[:3])]
    np.testing.assert_array_equal(found[1], own[KEYS[1]].values)
    np.testing.assert_array_equal(found[0], whole[KEYS[0]].values[[2]])
    with pytest.raises(MissingRowError, match="b" * 8):
        list(stored.read(KEYS))


def test_without_a_store_of_all_layers_it_is_the_store(tmp_path: Path) -> None:
    own = fill(tmp_path, "b" * 8, KEYS, (1, 3))
    for stored in (StoredRows(own), StoredRows(own, FeatureStore(tmp_path, "a" * 8), [0])):
        assert stored.missing(KEYS) == [] and stored.served(KEYS) == set()
        assert [row.flags for row in stored.read(KEYS)] == [0, 1, 2, 3]


def test_a_layer_that_the_rows_do_not_have_is_not_served(tmp_path: Path) -> None:
    whole = fill(tmp_path, "a" * 8, KEYS, (4, 3))
    assert StoredRows(FeatureStore(tmp_path, "b" * 8), whole, [4]).missing(KEYS) == KEYS


def test_a_damaged_row_is_not_served(tmp_path: Path) -> None:
    fill(tmp_path, "a" * 8, KEYS, (4, 3))
    (shard,) = (tmp_path / ("a" * 8)).glob("*.arrow")
    content = bytearray(shard.read_bytes())
    values = FeatureStore(tmp_path, "a" * 8)[KEYS[1]].values.tobytes()
    content[content.index(values)] ^= 1
    shard.write_bytes(content)
    stored = StoredRows(FeatureStore(tmp_path, "b" * 8), FeatureStore(tmp_path, "a" * 8), [1])
    with pytest.raises(DamagedRowError):
        list(stored.read([KEYS[1]]))


def test_half_precision_is_read_as_it_is_stored(tmp_path: Path) -> None:
    whole = fill(tmp_path, "a" * 8, KEYS, (4, 3), "float16")
    stored = StoredRows(FeatureStore(tmp_path, "b" * 8), whole, [1])
    assert {row.values.dtype for row in stored.read(KEYS)} == {np.dtype(np.float16)}
    assert stored.description == {"name": "hf:a", "layers": [1], "fingerprint": "b" * 8}
