"""A store in object storage is as good as one in a folder: the same rows, nothing wrong, nothing lost."""

import multiprocessing
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_rows import FINGERPRINT, row_key, row_values

from lpgnet.cache import (
    AddressError,
    DamagedRowError,
    FeatureStore,
    MissingRowError,
    ShardCache,
    StoreError,
    compact,
    copy_shards,
    export_rows,
    gc,
    info,
    lacking,
    list_stores,
    repair,
    verify,
)
from lpgnet.cache.addresses import check_address, without_secrets
from lpgnet.cache.shards import head_bytes
from tests.s3 import S3, SECRETS

Fill = Callable[..., FeatureStore]
OTHER = "fedcba9876543210"


def write(store: FeatureStore, *ranges: range) -> FeatureStore:
    """Writes rows, each range as a shard of its own."""
    for numbers in ranges:
        with store.writer({"name": "made up"}) as writer:
            for number in numbers:
                writer.add(row_key(number), row_values(number), n_frames=3, flags=number)
    return store


def right(store: FeatureStore, numbers: range | list[int]) -> bool:
    rows = zip(numbers, store.read(map(row_key, numbers)), strict=True)
    return all(np.array_equal(row.values, row_values(n)) and row.flags == n and row.n_frames == 3 for n, row in rows)


@pytest.fixture
def fill(s3: S3) -> Fill:
    def filled(*ranges: range) -> FeatureStore:
        return write(FeatureStore(s3.root, FINGERPRINT), *ranges)

    return filled


@pytest.fixture
def elsewhere(s3: S3, tmp_path: Path) -> Callable[..., FeatureStore]:
    """Opens the store as another machine does, which has no copies yet."""

    def opened(gigabytes: float = 1.0) -> FeatureStore:
        shutil.rmtree(tmp_path / "other machine", ignore_errors=True)
        return FeatureStore(s3.root, FINGERPRINT, ShardCache(tmp_path / "other machine", gigabytes))

    return opened


def shard_object(s3: S3, store: FeatureStore, index: int = 0) -> str:
    return f"{s3.bucket}/stores/{FINGERPRINT}/{sorted(shard.name for shard in store.shards)[index]}"


def test_rows_and_all_that_is_known_of_them_are_those_of_a_local_store(
    fill: Fill, elsewhere: Fill, tmp_path: Path, s3: S3
) -> None:
    ranges = (range(7), range(5, 12), range(20, 21))
    local, remote = write(FeatureStore(tmp_path / "local", FINGERPRINT), *ranges), fill(*ranges)
    for store in (remote, elsewhere()):
        assert list(store.keys()) == list(local.keys()) and right(store, [*range(12), 20])
        assert store.missing(map(row_key, (1, 50))) == [row_key(50)] and row_key(3) in store
        assert store.description == local.description == {"name": "made up"}
        assert (store.frame_count(), store.flag_counts()) == (local.frame_count(), local.flag_counts())
        one, other = info(store), info(local)
        assert (one.rows, one.shards, one.duplicates, one.bytes) == (other.rows, other.shards, 0, other.bytes)
        assert not verify(store).bad
    assert list_stores(s3.root) == [FINGERPRINT] and list_stores(s3.root + "/none") == []
    ids = {f"u{number}": row_key(number) for number in range(12)}
    for store, name in ((local, "a"), (elsewhere(), "b")):
        export_rows(store, tmp_path / f"{name}.npz", ids, "npz")
    # By their arrays: the archives hold the time of writing too.
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as other:
        assert one.files == other.files and all(np.array_equal(one[name], other[name]) for name in one.files)


@pytest.mark.parametrize("frames", [False, True])
def test_every_form_of_row(s3: S3, elsewhere: Fill, frames: bool) -> None:
    for number, dtype in enumerate(("float32", "float16", "bfloat16")):
        with FeatureStore(s3.root, FINGERPRINT).writer({}, dtype=dtype) as writer:
            values = row_values(number, frames=frames)
            writer.add(row_key(number), values, n_frames=len(values))
    store = elsewhere()
    for number in range(3):
        assert np.array_equal(store[row_key(number)].values, row_values(number, frames=frames))


def test_a_store_that_is_not_there_is_empty(s3: S3) -> None:
    for root in (s3.root, "s3://nobucket/stores"):
        store = FeatureStore(root, FINGERPRINT)
        assert len(store) == 0 and store.description == {} and store.missing([row_key(1)]) == [row_key(1)]
    with pytest.raises(StoreError, match="no such bucket"):
        store.writer({})


def test_opening_reads_the_heads_alone_and_a_row_its_shard_once(s3: S3, elsewhere: Fill) -> None:
    store = FeatureStore(s3.root, FINGERPRINT)
    for first in (0, 50, 100):
        with store.writer({}) as writer:
            for number in range(first, first + 50):
                writer.add(row_key(number), np.full((13, 768), number, np.float32), n_frames=1)
    s3.requests()
    reader = elsewhere()
    asked = s3.requests()
    heads = [one for one in asked if ".arrow" in one[1]]
    assert len(heads) == 3 and all(
        int(size) <= head_bytes(path.split("/")[-1].rstrip("?")) for _, path, _, size in heads
    )
    assert len(asked) == 6 and sum(int(one[3]) for one in heads) < reader.shards[0].nbytes / 50
    reader.missing(map(row_key, range(200)))
    assert not s3.requests()
    for number in (3, 4, 3, 40):
        assert (reader[row_key(number)].values == number).all()
    assert [one[0] for one in s3.requests()] == ["HEAD", "GET"]
    again = FeatureStore(s3.root, FINGERPRINT, reader.cache)
    s3.requests()
    assert (again[row_key(3)].values == 3).all() and not s3.requests(), "the copy serves other processes"


def test_who_only_writes_reads_nothing_of_what_others_write(s3: S3, fill: Fill) -> None:
    store = fill(range(3), range(3, 6))
    blind = pickle.loads(pickle.dumps(FeatureStore(s3.root, FINGERPRINT, read=False)))
    with blind.writer({}) as writer:
        s3.requests()
        for number in range(9, 12):
            writer.add(row_key(number), row_values(number), n_frames=3, flags=number)
            writer.flush()
        asked = s3.requests()
    assert [method for method, *_ in asked] == ["PUT", "HEAD"] * 3
    assert not blind.shards
    store.refresh()
    assert right(store, [*range(6), 9, 10, 11])


def test_two_threads_refresh_one_reader(fill: Fill, elsewhere: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """One lists while the other is about to open what it listed before a merge."""
    store, place = fill(range(3), range(3, 6)), elsewhere().place
    names = place.names()
    compact(store)
    merged = place.names()
    assert not names & merged
    assert {type(opened).__name__ for _, opened in place.open(names)} == {"ShardGoneError"}
    assert {type(opened).__name__ for _, opened in place.open(merged)} == {"RemoteShard"}


def test_what_was_flushed_is_seen_by_readers_that_refresh(fill: Fill, elsewhere: Fill) -> None:
    store = fill(range(3))
    old = elsewhere()
    with store.writer({}) as writer:
        writer.add(row_key(9), row_values(9), n_frames=3, flags=9)
        writer.flush()
        assert row_key(9) not in old
        old.refresh()
        assert right(old, [0, 1, 2, 9])


def test_any_flipped_byte_is_found(s3: S3, fill: Fill, elsewhere: Fill) -> None:
    store = fill(range(4), range(10, 12))
    path = shard_object(s3, store)
    content = s3.files.cat_file(path)
    for position in range(0, len(content), 53):
        changed = bytearray(content)
        changed[position] ^= 0xFF
        s3.files.pipe_file(path, bytes(changed))
        reader = elsewhere()
        for number in range(4):
            with pytest.raises((MissingRowError, DamagedRowError)):
                reader[row_key(number)]
        assert right(reader, [10, 11])
    assert [damage.shard for damage in verify(reader).bad] == [path.rpartition("/")[2]]


def test_repair_of_an_object_keeps_its_sound_rows(s3: S3, fill: Fill, elsewhere: Fill) -> None:
    store = fill(range(4), range(10, 12))
    path = shard_object(s3, store)
    content = s3.files.cat_file(path)
    s3.files.pipe_file(path, content.replace(row_values(1).tobytes(), row_values(7).tobytes()))
    reader = elsewhere()
    with pytest.raises(DamagedRowError, match=r"s3://.*does not hold what its name promises.*cache repair"):
        reader[row_key(0)]
    report = repair(reader)
    assert (report.saved, report.lost, len(report.set_aside)) == (3, 1, 1)
    assert reader.missing(map(row_key, range(4))) == [row_key(1)] and right(reader, [0, 2, 3, 10, 11])
    assert s3.files.exists(path.replace(FINGERPRINT, f"{FINGERPRINT}/damaged")) and not verify(reader).bad


def test_an_object_that_is_cut_off_another_encoders_or_misnamed(s3: S3, fill: Fill, elsewhere: Fill) -> None:
    store = fill(range(4), range(10, 12))
    path = shard_object(s3, store)
    content = s3.files.cat_file(path)
    for length in (0, 10, 400, len(content) - 1):
        s3.files.pipe_file(path, content[:length])
        reader = elsewhere()
        assert reader.missing(map(row_key, range(4))) == [row_key(n) for n in range(4)] and right(reader, [10, 11])
        assert reader.damaged[0].rows == 4
    other = write(FeatureStore(s3.root, OTHER), range(4))
    foreign = f"{s3.bucket}/stores/{OTHER}/{other.shards[0].name}"
    s3.files.cp_file(foreign, path.replace(store.shards[0].name, other.shards[0].name))
    s3.files.pipe_file(path.replace(store.shards[0].name, "what is this.arrow"), content)
    reader = elsewhere()
    assert any("another encoder" in damage.reason for damage in reader.damaged) and right(reader, [10, 11])
    assert len(verify(reader).bad) == 3
    assert repair(reader).saved == 4 and right(reader, [*range(4), 10, 11]) and not verify(reader).bad


def test_a_deleted_object_is_a_missing_row(s3: S3, fill: Fill, elsewhere: Fill) -> None:
    store, reader = fill(range(4), range(10, 12)), elsewhere()
    s3.files.rm_file(shard_object(s3, store))
    with pytest.raises(MissingRowError):
        reader[row_key(1)]
    assert right(reader, [10, 11]) and len(elsewhere()) == 2


@pytest.mark.parametrize("cut", [True, False])
def test_a_copy_that_is_damaged_on_this_machine_is_fetched_again(fill: Fill, elsewhere: Fill, cut: bool) -> None:
    fill(range(4))
    reader = elsewhere()
    assert right(reader, range(4))
    (copy,) = reader.folder.glob("*.arrow")
    content = copy.read_bytes()
    copy.unlink()
    copy.write_bytes(content[:-30] if cut else content.replace(row_values(1).tobytes(), row_values(7).tobytes()))
    assert right(FeatureStore(reader.root, FINGERPRINT, reader.cache), range(4)) and copy.read_bytes() == content


def test_a_half_finished_upload_is_not_seen_and_ends_when_it_is_old(
    s3: S3, fill: Fill, elsewhere: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, files = fill(range(4)), s3.files
    key = f"stores/{FINGERPRINT}/{store.shards[0].name.replace('-4-', '-5-')}"
    upload = files.call_s3("create_multipart_upload", Bucket=s3.bucket, Key=key)["UploadId"]
    files.call_s3("upload_part", Bucket=s3.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"half")
    reader = elsewhere()
    assert right(reader, range(4)) and len(reader.shards) == 1 and not verify(reader).bad

    def uploads() -> int:
        return len(files.call_s3("list_multipart_uploads", Bucket=s3.bucket).get("Uploads", []))

    monkeypatch.setattr("lpgnet.cache.remote.ABANDONED_SECONDS", 10**12)
    store.writer({})
    assert uploads() == 1
    monkeypatch.undo()
    # The server says of every upload that it began in 2010.
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment(Path(os.environ.get("TMPDIR", "/tmp"))).items():
            patch.setenv(name, value)
        FeatureStore(s3.root, FINGERPRINT, reader.cache).writer({})
        assert uploads() == 0


class TestSmallCache:
    """A reader whose copies may take less than the store."""

    ROWS = range(60)

    @pytest.fixture
    def reader(self, fill: Fill, elsewhere: Fill) -> FeatureStore:
        store = fill(*(range(first, first + 10) for first in range(0, 60, 10)))
        return elsewhere(2.5 * store.shards[0].nbytes / 1e9)

    def taken(self, reader: FeatureStore) -> int:
        return sum(file.stat().st_size for file in reader.folder.iterdir())

    def test_every_row_is_right_and_the_bound_holds(
        self, reader: FeatureStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert reader.cache
        for _ in range(2):
            for number in random.Random(0).sample(self.ROWS, 60):
                assert right(reader, [number]) and 0 < self.taken(reader) <= reader.cache.bytes
        (told,) = [record.getMessage() for record in caplog.records]
        assert "raise features.cache_gigabytes" in told

    def test_a_copy_out_of_use_goes_first(self, reader: FeatureStore, s3: S3) -> None:
        for number, age in ((0, 100), (10, 300)):
            assert right(reader, [number])
            newest = max(reader.folder.glob("*.arrow"), key=lambda path: path.stat().st_mtime_ns)
            os.utime(newest, (time.time() - age, time.time() - age))
        assert right(reader, [20])
        s3.requests()
        assert right(FeatureStore(reader.root, FINGERPRINT, reader.cache), [0])
        assert sum("HEAD" in one for one in s3.requests()) == 0, "row 0 was read later than row 10"

    def test_room_is_made_among_copies_alone(self, reader: FeatureStore) -> None:
        assert reader.cache and reader.cache.folder
        beside = write(FeatureStore(reader.cache.folder, FINGERPRINT), self.ROWS)
        others = [reader.cache.folder / "data" / "train-0.arrow", reader.folder / "mine.arrow"]
        for file in others:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes(10))
        assert right(reader, self.ROWS) and right(FeatureStore(beside.root, FINGERPRINT), self.ROWS)
        assert all(file.exists() for file in others)

    def test_a_cache_of_less_than_a_shard_keeps_one(self, reader: FeatureStore, elsewhere: Fill) -> None:
        tiny = elsewhere(1e-9)
        assert right(tiny, self.ROWS) and len(list(tiny.folder.glob("*.arrow"))) == 1


class Forked:
    """Functions of store_processes.py in processes that know the server."""

    def __init__(self) -> None:
        from conftest import Processes

        self.processes: Any = Processes()

    def __enter__(self) -> Any:
        return self.processes

    def __exit__(self, *_: object) -> None:
        self.processes.close()


def test_two_writers_of_the_same_rows_and_a_reader(s3: S3, elsewhere: Fill) -> None:
    rows = 24
    with Forked() as processes:
        started = [processes.start("read_until_complete", s3.root, rows)]
        started += [processes.start("write_overlapping", s3.root, rows, seed) for seed in range(2)]
        assert [processes.wait(process) for process in started] == [0] * 3
    store = elsewhere()
    assert len(store) == rows == len(set(store.keys())) and not verify(store).bad
    assert all(np.array_equal(store[row_key(n)].values, row_values(n)) for n in range(rows))


def test_readers_are_undisturbed_by_merging(s3: S3, fill: Fill, tmp_path: Path) -> None:
    store, stop = fill(*(range(first, first + 4) for first in range(0, 40, 4))), tmp_path / "stop"
    with Forked() as processes:
        reader = processes.start("read_until_stopped", s3.root, 40, stop)
        for extra in range(40, 44):
            write(store, range(extra, extra + 1))
            compact(store)
        stop.touch()
        assert processes.wait(reader) == 0
    assert right(store, range(44))


def test_a_merge_between_opening_and_reading(fill: Fill, elsewhere: Fill) -> None:
    """The objects that a reader has listed are gone, and their rows are in another."""
    store = fill(range(4), range(4, 8))
    for read in (lambda reader: right(reader, range(8)), lambda reader: reader[row_key(5)].flags == 5):
        reader = elsewhere()
        write(store, range(20, 22))
        assert compact(store).after == 1
        assert read(reader)
    gone = elsewhere()
    gc(store, {row_key(1)}, dry_run=False)
    with pytest.raises(MissingRowError):
        gone[row_key(2)]
    assert right(gone, [1])


def test_a_killed_writer_loses_no_confirmed_row(s3: S3, tmp_path: Path) -> None:
    with Forked() as processes:
        for trial in range(3):
            root, note = f"{s3.root}/{trial}", tmp_path / f"{trial}.confirmed"
            process = processes.start("write_until_killed", root, note, trial)
            while not note.exists() or not note.stat().st_size:
                time.sleep(0.005)
            time.sleep(random.Random(trial).uniform(0, 0.3))
            os.kill(process, signal.SIGKILL)
            assert processes.wait(process) == -signal.SIGKILL
            (confirmed,) = struct.unpack("<q", note.read_bytes())
            store = FeatureStore(root, FINGERPRINT, ShardCache(tmp_path / "copies"))
            assert right(store, range(confirmed)) and confirmed and not verify(store).bad
            write(store, range(10**6, 10**6 + 2))
            assert right(store, [*range(confirmed), 10**6])


def test_a_process_that_is_forked_reads_on(fill: Fill, elsewhere: Fill) -> None:
    fill(range(4), range(4, 8))
    reader = elsewhere()
    assert right(reader, range(4))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(right, (reader, range(8)))


def test_a_store_goes_to_another_machine_with_its_own_cache(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = pickle.dumps(fill(range(3)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    store = pickle.loads(content)
    assert right(store, range(3)) and store.folder == tmp_path / "there" / "lpgnet" / "store" / "copies" / FINGERPRINT
    named = pickle.loads(pickle.dumps(FeatureStore(store.root, FINGERPRINT, ShardCache(tmp_path / "x", 3.0))))
    assert named.cache == ShardCache(tmp_path / "x", 3.0)


@pytest.mark.parametrize("how", ["500", "503", "403", "hang up"])
def test_an_address_that_does_not_answer_is_not_a_store_without_rows(s3: S3, fill: Fill, how: str) -> None:
    store = fill(range(4), range(4, 8))
    for request in ("list-type", ".arrow"):
        s3.spoil("GET", request, how)
        with pytest.raises(StoreError, match=r"cannot (list|read) s3://.*run again") as caught:
            FeatureStore(s3.root, FINGERPRINT)
        assert "\n" not in str(caught.value)
        s3.heal()
    assert right(store, range(8))


def test_errors_while_checking_are_no_damage(s3: S3, fill: Fill, elsewhere: Fill) -> None:
    fill(range(4), range(4, 8))
    reader = elsewhere()
    for check in (verify, repair):
        s3.spoil("GET", ".arrow", "500", after=2 if check is verify else 3)
        with pytest.raises(StoreError, match="cannot read"):
            check(reader)
        s3.heal()
    assert len(elsewhere()) == 8 and not s3.files.exists(f"{s3.bucket}/stores/{FINGERPRINT}/damaged")


@pytest.mark.parametrize("how", ["500", "hang up"])
def test_rows_wait_while_the_address_does_not_answer(s3: S3, elsewhere: Fill, how: str) -> None:
    store = FeatureStore(s3.root, FINGERPRINT)
    with store.writer({}, shard_bytes=4 * row_values(0).nbytes) as writer:
        for number in range(3):
            writer.add(row_key(number), row_values(number), n_frames=3, flags=number)
        writer.flush()
        s3.spoil("PUT", ".arrow", how)
        with pytest.raises(StoreError, match=r"cannot write to s3://.*rows confirmed before are safe"):
            for number in range(3, 30):
                writer.add(row_key(number), row_values(number), n_frames=3, flags=number)
        added = number
        assert right(elsewhere(), range(3))
        s3.heal()
        writer.flush()
    assert added > 3 and right(elsewhere(), range(added))


def test_who_may_not_write_learns_it_before_the_work(s3: S3, fill: Fill) -> None:
    store = fill(range(2))
    s3.spoil("PUT", "", "403")
    with pytest.raises(StoreError, match="cannot write to s3://"):
        store.writer({})


def test_what_is_spoiled_while_a_shard_is_fetched_is_fetched_again(s3: S3, fill: Fill, elsewhere: Fill) -> None:
    fill(range(4))
    reader = elsewhere()
    s3.spoil("GET", ".arrow", "500", times=1)
    with pytest.raises(StoreError, match="cannot read"):
        reader[row_key(1)]
    assert right(reader, range(4)) and not [one for one in reader.folder.iterdir() if one.suffix != ".arrow"]


def test_push_and_pull_copy_what_is_missing(s3: S3, tmp_path: Path) -> None:
    here = write(FeatureStore(tmp_path / "here", FINGERPRINT), *(range(n, n + 5) for n in range(0, 20, 5)))
    there = FeatureStore(s3.root, FINGERPRINT)
    s3.spoil("PUT", ".arrow", "500", after=2)
    with pytest.raises(StoreError, match="cannot write to s3://"):
        list(copy_shards(here, there, lacking(here, there)))
    s3.heal()
    assert len(lacking(here, there)) == 2 and right(there, range(10))
    copied = list(copy_shards(here, there, lacking(here, there)))
    assert [damage for _, damage in copied] == [None, None] and right(there, range(20)) and not verify(there).bad
    assert {shard.name for shard in there.shards} == {shard.name for shard in here.shards}
    assert there.description == here.description and not lacking(here, there)

    back = FeatureStore(tmp_path / "back", FINGERPRINT)
    s3.spoil("GET", ".arrow", "hang up", after=1)
    with pytest.raises(StoreError, match="cannot read s3://"):
        list(copy_shards(there, back, lacking(there, back)))
    s3.heal()
    back.refresh()
    assert right(back, range(5)) and not [one for one in back.folder.iterdir() if one.suffix == ".part"]
    list(copy_shards(there, back, lacking(there, back)))
    assert right(back, range(20)) and not verify(back).bad
    write(back, range(30, 31))
    assert len(lacking(back, there)) == 1 and not lacking(there, back)


def test_a_damaged_shard_is_not_copied(s3: S3, tmp_path: Path, fill: Fill) -> None:
    store = fill(range(4), range(4, 8))
    path = shard_object(s3, store)
    s3.files.pipe_file(path, s3.files.cat_file(path).replace(row_values(1).tobytes(), row_values(7).tobytes()))
    here = FeatureStore(tmp_path / "here", FINGERPRINT)
    damages = [damage for _, damage in copy_shards(store, here, lacking(store, here))]
    assert damages[0] and "repair" in damages[0].reason and damages[1] is None
    assert right(here, range(4, 8)) and not verify(here).bad and len(here) == 4


@pytest.mark.parametrize(
    "address",
    [f"s3://{SECRETS['AWS_ACCESS_KEY_ID']}:{SECRETS['AWS_SECRET_ACCESS_KEY']}@bucket/x", "s3://name@bucket",
     "s3://bucket/x?X-Amz-Signature=secret", "sftp://user:secret@host/x"],
)  # fmt: skip
def test_an_address_with_a_login_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(AddressError, match="environment") as caught:
        FeatureStore(address, FINGERPRINT)
    assert not any(part in str(caught.value) for part in ("secret", "name", *SECRETS.values()))


@pytest.mark.parametrize("address", ["s3://bucket/me@home/x", "hf://datasets/a/b@main", "s3://bucket"])
def test_an_address_without_a_login_is_taken(address: str) -> None:
    assert check_address(address) == address


def test_no_error_repeats_what_logs_in(s3: S3, fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(SECRETS.values())
    assert without_secrets(text) == "*** *** ***"
    fill(range(2))

    class Talkative:
        def ls(self, *_: object, **__: object) -> None:
            raise RuntimeError(f"could not log in with {text}")

    monkeypatch.setattr("lpgnet.cache.remote.filesystem", lambda _: Talkative())
    with pytest.raises(StoreError) as caught:
        FeatureStore(s3.root, FINGERPRINT)
    error: BaseException | None = caught.value
    assert "could not log in" in str(error) and not any(value in str(error) for value in SECRETS.values())
    assert error is not None and error.__suppress_context__ and error.__cause__ is None


def test_a_driver_that_is_not_installed_is_named() -> None:
    code = """
import sys
sys.modules["s3fs"] = sys.modules["gcsfs"] = None
from lpgnet.cache import FeatureStore, MissingDriverError
for address in ("s3://bucket/x", "gs://bucket/x", "unheardof://x"):
    try:
        FeatureStore(address, "0" * 16)
    except MissingDriverError as error:
        print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "pip install 'lpgnet[s3]'" in out[0] and "gcsfs" in out[1] and "no such protocol" in out[2]


def test_a_local_address_is_a_folder(tmp_path: Path) -> None:
    store = write(FeatureStore(f"file://{tmp_path}/store", FINGERPRINT), range(3))
    assert store.folder == tmp_path / "store" / FINGERPRINT and right(store, range(3))
