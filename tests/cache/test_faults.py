"""Killed writers, many processes, full and read-only disks: what was confirmed stays, and nothing is wrong."""

import os
import random
import resource
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_rows import FINGERPRINT, row_key, row_values

from lpgnet.cache import FeatureStore, StoreError, compact, gc, repair, verify
from lpgnet.cache.files import ABANDONED_SECONDS, PART_SUFFIX, machine_name, remove_abandoned

KILLS = int(os.environ.get("LPGNET_KILLS", "24"))
Fill = Callable[..., FeatureStore]


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.endswith(PART_SUFFIX)]


def wait_for(path: Path) -> None:
    while not path.exists() or not path.stat().st_size:
        time.sleep(0.005)


def check_after_kill(root: Path, confirmed: int) -> None:
    """Every confirmed row is there and right, no row is wrong, and the next writer cleans up and goes on."""
    store = FeatureStore(root, FINGERPRINT)
    assert store.missing(map(row_key, range(confirmed))) == []
    for key, row in zip(store.keys(), store.read(store.keys()), strict=True):
        assert key == row_key(row.flags) and row.n_frames == 3
        assert np.array_equal(row.values, row_values(row.flags))
    written = len(store)
    with store.writer({"name": "made up"}) as writer:
        assert not parts(store.folder)
        writer.add(row_key(-1), row_values(1), n_frames=3)
    assert not verify(store).bad and len(store) == written + 1


def test_writers_killed_at_random_moments(processes: Any, tmp_path: Path) -> None:
    rng = random.Random()
    reached = 0
    for trial in range(KILLS):
        root, note = tmp_path / str(trial), tmp_path / f"{trial}.confirmed"
        process = processes.start("write_until_killed", root, note, trial)
        if trial % 4:
            wait_for(note)
        time.sleep(rng.uniform(0, 0.15))
        os.kill(process, signal.SIGKILL)
        assert processes.wait(process) == -signal.SIGKILL
        content = note.read_bytes() if note.exists() else b""
        confirmed = struct.unpack("<q", content)[0] if content else 0
        check_after_kill(root, confirmed)
        reached += confirmed > 0
    assert reached > 0


def test_the_part_of_a_killed_writer_goes_and_that_of_a_living_one_stays(processes: Any, tmp_path: Path) -> None:
    store, ready = FeatureStore(tmp_path / "store", FINGERPRINT), tmp_path / "ready"
    store.writer({})
    process = processes.start("hold_a_part", store.folder, ready)
    wait_for(ready)
    store.writer({})
    assert len(parts(store.folder)) == 1
    os.kill(process, signal.SIGKILL)
    processes.wait(process)
    store.writer({})
    assert not parts(store.folder)


def test_the_part_of_another_machine_goes_only_when_it_is_old(tmp_path: Path) -> None:
    theirs = tmp_path / f".{'0' * len(machine_name())}-abc{PART_SUFFIX}"
    theirs.write_bytes(b"x")
    assert remove_abandoned(tmp_path) == 0
    old = time.time() - ABANDONED_SECONDS - 60
    os.utime(theirs, (old, old))
    assert remove_abandoned(tmp_path) == 1 and not parts(tmp_path)


def test_four_writers_and_two_readers(processes: Any, tmp_path: Path) -> None:
    rows = 120
    readers = [processes.start("read_until_complete", tmp_path, rows) for _ in range(2)]
    writers = [processes.start("write_overlapping", tmp_path, rows, seed) for seed in range(4)]
    assert [processes.wait(process) for process in (*writers, *readers)] == [0] * 6
    store = FeatureStore(tmp_path, FINGERPRINT)
    assert len(store) == rows == len(set(store.keys())) and not verify(store).bad
    assert store.missing(map(row_key, range(rows))) == [] and not parts(store.folder)


def test_readers_are_undisturbed_by_merging_and_dropping(processes: Any, tmp_path: Path) -> None:
    store, stop = FeatureStore(tmp_path / "store", FINGERPRINT), tmp_path / "stop"
    for first in range(0, 60, 4):
        with store.writer({}) as writer:
            for number in range(first, first + 4):
                writer.add(row_key(number), row_values(number), n_frames=3)
    readers = [processes.start("read_until_stopped", store.root, 60, stop) for _ in range(2)]
    for extra in range(60, 90):
        with store.writer({}) as writer:
            writer.add(row_key(extra), row_values(extra), n_frames=3)
        compact(store)
        gc(store, {row_key(number) for number in range(60)}, dry_run=False)
    stop.touch()
    assert [processes.wait(process) for process in readers] == [0, 0]
    assert len(store) == 60


def test_a_full_disk(small_disk: Path) -> None:
    store = FeatureStore(small_disk, FINGERPRINT)
    confirmed = 0
    with pytest.raises(StoreError, match=r"No space left.*free some space"), store.writer({}) as writer:
        for number in range(10_000):
            writer.add(row_key(number), np.full((4, 512), number, np.float32), n_frames=1)
            if number % 16 == 15:
                writer.flush()
                confirmed = number + 1
    assert confirmed > 50 and not parts(store.folder)
    check_full(FeatureStore(small_disk, FINGERPRINT), confirmed)


def check_full(store: FeatureStore, confirmed: int) -> None:
    assert not verify(store).bad and len(store) >= confirmed
    assert all((store[row_key(number)].values == number).all() for number in range(confirmed))


def test_writing_goes_on_when_a_full_disk_has_room_again(small_disk: Path) -> None:
    store, ballast = FeatureStore(small_disk / "store", FINGERPRINT), small_disk / "ballast"
    ballast.write_bytes(bytes(900 * 2**10))
    with store.writer({}) as writer:
        for number in range(30):
            writer.add(row_key(number), np.full((4, 512), number, np.float32), n_frames=1)
        with pytest.raises(StoreError, match="No space left"):
            writer.flush()
        ballast.unlink()
    check_full(FeatureStore(store.root, FINGERPRINT), 30)


def test_a_disk_that_fills_up_in_the_background(small_disk: Path) -> None:
    store, ballast, added = FeatureStore(small_disk / "store", FINGERPRINT), small_disk / "ballast", 0
    with store.writer({}, shard_bytes=8 * 2**13) as writer:
        ballast.write_bytes(bytes(700 * 2**10))
        with pytest.raises(StoreError, match="No space left"):
            for number in range(100):
                writer.add(row_key(number), np.full((4, 512), number, np.float32), n_frames=1)
                added = number + 1
        ballast.unlink()
        assert added > 8
    check_full(FeatureStore(store.root, FINGERPRINT), added)


def test_merging_on_a_full_disk_loses_nothing(small_disk: Path) -> None:
    store = FeatureStore(small_disk / "store", FINGERPRINT)
    for start in (0, 30):
        with store.writer({}) as writer:
            for number in range(start, start + 30):
                writer.add(row_key(number), np.full((4, 512), number, np.float32), n_frames=1)
    (small_disk / "ballast").write_bytes(bytes(400 * 2**10))
    with pytest.raises(StoreError, match="No space left"):
        compact(store)
    check_full(FeatureStore(store.root, FINGERPRINT), 60)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100, 1000, 30_000, 196_000])
def test_a_quota(tmp_path: Path, size: int) -> None:
    store = FeatureStore(tmp_path, FINGERPRINT)
    with store.writer({}) as writer:
        writer.add(row_key(0), np.zeros((4, 512), np.float32), n_frames=1)
        writer.flush()
        for number in range(1, 25):
            writer.add(row_key(number), np.full((4, 512), number, np.float32), n_frames=1)
        with largest_file(size), pytest.raises(StoreError, match="File too large"):
            writer.flush()
        assert not parts(store.folder) and len(FeatureStore(tmp_path, FINGERPRINT)) == 1
    check_full(store, 25)


def test_a_read_only_folder_can_be_read_and_says_why_it_cannot_be_written(small_disk: Path) -> None:
    store = FeatureStore(small_disk, FINGERPRINT)
    with store.writer({}) as writer:
        writer.add(row_key(1), row_values(1), n_frames=1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    reader = FeatureStore(small_disk, FINGERPRINT)
    assert np.array_equal(reader[row_key(1)].values, row_values(1)) and not verify(reader).bad
    for action in (lambda: reader.writer({}), lambda: compact(reader), lambda: repair(reader)):
        with pytest.raises(StoreError, match="read-only"):
            action()
    with pytest.raises(StoreError, match=r"[Rr]ead-only"):
        FeatureStore(small_disk, FINGERPRINT + "00").writer({})
    with pytest.raises(StoreError, match=r"[Rr]ead-only"):
        gc(reader, set(), dry_run=False)
    assert gc(reader, set()).dropped == 1 and row_key(1) in FeatureStore(small_disk, FINGERPRINT)


def test_a_disk_that_turns_read_only_while_writing(small_disk: Path) -> None:
    store = FeatureStore(small_disk, FINGERPRINT)
    with pytest.raises(StoreError, match="Read-only"), store.writer({}) as writer:
        writer.add(row_key(1), row_values(1), n_frames=1)
        writer.flush()
        writer.add(row_key(2), row_values(2), n_frames=1)
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert list(FeatureStore(small_disk, FINGERPRINT).keys()) == [row_key(1)]
