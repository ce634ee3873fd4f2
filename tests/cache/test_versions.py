"""Whose rows a shard holds, and in which version of the format: neither is ever mistaken."""

import itertools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from store_rows import FINGERPRINT, row_key, row_values
from test_faults import largest_file

from lpgnet.cache import (
    DamagedRowError,
    FeatureStore,
    StoreError,
    compact,
    export_rows,
    gc,
    import_rows,
    info,
    repair,
    verify,
)
from lpgnet.cache.shards import ShardName

Fill = Callable[..., FeatureStore]
OTHER = "fedcba9876543210"
# Written by version 0.1.0: rows 0 to 3 and 4 to 5 in each store, pooled float32, pooled bfloat16, frames in float16.
OLD = Path(__file__).parents[1] / "data" / "store_version_1"
KINDS = {FINGERPRINT: False, "00000000bf16bf16": False, "000000000f16f16f": True}
ROWS = 6
ADVICE = "run `lpgnet cache repair"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of the stores that version 0.1.0 wrote."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def right(store: FeatureStore, *, frames: bool = False, numbers: range = range(ROWS)) -> bool:
    """Whether these rows are there, and as they were written."""
    rows = [store[row_key(number)] for number in numbers]
    values = all(np.array_equal(row.values, row_values(n, frames=frames)) for n, row in enumerate(rows, numbers.start))
    counts = [(len(row.values) if frames else 3, number) for number, row in enumerate(rows, numbers.start)]
    return values and [(row.n_frames, row.flags) for row in rows] == counts


def test_a_shard_of_another_encoder_is_refused_and_its_rows_are_computed_again(filled: Fill) -> None:
    theirs = filled(range(4))
    store = FeatureStore(theirs.root, OTHER)
    store.writer({})
    shutil.copy(theirs.shards[0].path, store.folder)
    store = FeatureStore(theirs.root, OTHER)
    keys = [row_key(number) for number in range(4)]
    assert len(store) == 0 and store.missing(keys) == keys
    assert "another encoder" in verify(store).bad[0].reason
    with store.writer({}) as writer:
        for number, key in enumerate(keys):
            writer.add(key, row_values(number + 50), n_frames=3)
    report = repair(store)
    assert (len(report.set_aside), report.lost, report.converted) == (1, 4, 0) and not verify(store).bad
    assert all(np.array_equal(store[key].values, row_values(n + 50)) for n, key in enumerate(keys))
    assert right(FeatureStore(theirs.root, FINGERPRINT), numbers=range(4))


def test_the_digest_of_every_row_covers_the_encoder(filled: Fill) -> None:
    """A shard that claims to be of this encoder, with a name that fits, still serves no row of another."""
    theirs = filled(range(4))
    with pa.ipc.open_stream(str(theirs.shards[0].path)) as reader:
        batch = reader.read_next_batch()
    form = json.loads(batch.schema.metadata[b"lpgnet.shard"]) | {"fingerprint": OTHER}
    sink = pa.BufferOutputStream()
    schema = batch.schema.with_metadata({"lpgnet.shard": json.dumps(form)})
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    content, folder = sink.getvalue().to_pybytes(), theirs.root / OTHER
    folder.mkdir()
    (folder / ShardName(1, 4, xxhash.xxh3_128_hexdigest(content)).text()).write_bytes(content)
    store = FeatureStore(theirs.root, OTHER)
    with pytest.raises(DamagedRowError):
        store[row_key(0)]
    assert verify(store).bad[0].rows == 4 and repair(store).lost == 4


@pytest.mark.parametrize("fingerprint", KINDS)
def test_an_old_store_is_refused_with_advice(old: Path, tmp_path: Path, fingerprint: str) -> None:
    store, file = FeatureStore(old, fingerprint), tmp_path / "rows.npz"
    np.savez(file, a=np.ones((1, 3)))
    attempts: list[Callable[[], object]] = [
        lambda: store[row_key(0)],
        lambda: row_key(0) in store,
        lambda: list(store.read([row_key(0)])),
        lambda: store.missing([row_key(0)]),
        lambda: gc(store, set(), dry_run=False),
        lambda: compact(store),
        lambda: export_rows(store, tmp_path / "out.npz", {"a": row_key(0)}, "npz"),
        lambda: import_rows(file, store, {"a": row_key(0)}, {}),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError, match=ADVICE):
            attempt()
    assert (info(store).outdated, info(store).damaged) == (2, 0)
    assert all("cache repair" in damage.reason for damage in verify(store).bad)
    assert sorted(path.name for path in store.folder.iterdir()) == sorted(os.listdir(OLD / fingerprint))


@pytest.mark.parametrize(("fingerprint", "frames"), KINDS.items())
def test_a_repair_converts_an_old_store(old: Path, fingerprint: str, frames: bool) -> None:
    store = FeatureStore(old, fingerprint)
    report = repair(store)
    assert (report.set_aside, report.saved, report.lost, report.converted) == ((), 0, 0, 2)
    assert right(store, frames=frames) and right(FeatureStore(old, fingerprint), frames=frames)
    assert len(store) == ROWS and store.missing([row_key(99)]) == [row_key(99)] and not verify(store).bad
    assert store.description == {"name": "made up"}
    assert len(os.listdir(store.folder)) == 3, "the old shards are gone, and nothing was set aside"
    assert repair(store).converted == 0 and compact(store).after == 1 and right(store, frames=frames)


def test_what_is_served_already_is_served_beside_old_shards(old: Path) -> None:
    store = FeatureStore(old, FINGERPRINT)
    with store.writer({}) as writer:
        writer.add(row_key(0), row_values(0), n_frames=3)
    assert store.missing([row_key(0)]) == [] and np.array_equal(store[row_key(0)].values, row_values(0))
    repair(store)
    assert right(store) and info(store).duplicates == 1


def test_the_sound_rows_of_a_damaged_old_shard_are_kept(old: Path) -> None:
    path = sorted((old / FINGERPRINT).glob("*.arrow"))[0]
    path.write_bytes(path.read_bytes().replace(row_values(1).tobytes(), row_values(50).tobytes()))
    store = FeatureStore(old, FINGERPRINT)
    assert "1 of 4 rows" in verify(store).bad[0].reason
    report = repair(store)
    assert (report.saved, report.lost, report.converted) == (3, 1, 1)
    assert (store.folder / "damaged" / path.name).exists()
    assert store.missing(map(row_key, range(ROWS))) == [row_key(1)] and right(store, numbers=range(2, ROWS))


@pytest.mark.parametrize("kept", [0, 50, 700, -1])
def test_an_old_shard_that_was_cut_off_is_set_aside(old: Path, kept: int) -> None:
    path = sorted((old / FINGERPRINT).glob("*.arrow"))[0]
    path.write_bytes(path.read_bytes()[:kept])
    store = FeatureStore(old, FINGERPRINT)
    report = repair(store)
    assert report.saved + report.lost == 4 and report.converted == 1
    assert [damage.shard for damage in report.set_aside] == [path.name]
    assert right(store, numbers=range(4, ROWS)) and not verify(store).bad


def test_a_renamed_old_shard_is_saved(old: Path) -> None:
    path = sorted((old / FINGERPRINT).glob("*.arrow"))[0]
    path.rename(path.with_name("copy of a shard.arrow"))
    store = FeatureStore(old, FINGERPRINT)
    assert repair(store).saved == 4 and right(store)


@pytest.mark.parametrize(("fingerprint", "frames"), KINDS.items())
def test_a_conversion_killed_before_any_change_to_the_disk(
    processes: Any, tmp_path: Path, fingerprint: str, frames: bool
) -> None:
    killed = 0
    for step in itertools.count(1):
        root = Path(shutil.copytree(OLD, tmp_path / str(step)))
        process = processes.start("repair_until_step", root, fingerprint, step)
        code = processes.wait(process)
        check_after_kill(FeatureStore(root, fingerprint), frames=frames)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
    assert killed > 8


def check_after_kill(store: FeatureStore, *, frames: bool) -> None:
    """Every row that is served is right, and the next repair brings all of them."""
    for number in range(ROWS):
        if store.index.locate(row_key(number)) is not None:
            assert right(store, frames=frames, numbers=range(number, number + 1))
    assert repair(store).lost == 0
    assert right(store, frames=frames) and len(store) == ROWS and not verify(store).bad
    assert sorted(path.suffix for path in store.folder.iterdir() if path.suffix != ".arrow") == [".json"]


def test_conversions_beside_each_other_and_killed_at_random_moments(processes: Any, old: Path) -> None:
    rng = random.Random()
    for _ in range(4):
        started = [processes.start("repair_until_step", old, FINGERPRINT, 0) for _ in range(3)]
        time.sleep(rng.uniform(0, 0.02))
        os.kill(started[0], signal.SIGKILL)
        assert {processes.wait(process) for process in started[1:]} == {0}
        processes.wait(started[0])
        store = FeatureStore(old, FINGERPRINT)
        assert repair(store).lost == 0 and right(store) and len(store) == ROWS and not verify(store).bad
        assert not (store.folder / "damaged").exists()
        shutil.rmtree(old)
        shutil.copytree(OLD, old)


def test_a_conversion_without_room_loses_nothing(old: Path) -> None:
    store = FeatureStore(old, FINGERPRINT)
    with largest_file(100), pytest.raises(StoreError, match="File too large"):
        repair(store)
    assert sorted(os.listdir(store.folder)) == sorted(os.listdir(OLD / FINGERPRINT))
    assert repair(store).converted == 2 and right(store)


def test_a_later_version_is_not_read_and_not_deleted(filled: Fill) -> None:
    store = filled(range(4))
    path = store.shards[0].path
    content = path.read_bytes().replace(b'"version": 2', b'"version": 3')
    path.unlink()
    path.write_bytes(content)
    store = FeatureStore(store.root, FINGERPRINT)
    assert len(store) == 0 and "another version" in store.damaged[0].reason
    repair(store)
    assert (store.folder / "damaged" / path.name).read_bytes() == content
