"""A recording at an address is read again exactly when it may be another; files are asked for by the folder."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from upath import UPath

from lpgnet.cache import StatCache
from lpgnet.pipeline.common.stamps import digests_of
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.embeddings import plan as module
from lpgnet.pipeline.embeddings.plan import Plan, plan_audio
from tests.s3 import S3

RATE = 16_000
NAMES = [f"{folder}/{number}.wav" for folder in ("x", "y") for number in range(4)]
TURNS = [Utterance("d", name, name) for name in NAMES]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in NAMES:
        (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "corpus" / name, random.uniform(-0.5, 0.5, RATE // 4), RATE)
    return tmp_path / "corpus"


@pytest.fixture
def root(corpus: Path, s3: S3) -> str:
    for name in NAMES:
        s3.files.pipe_file(f"{s3.bucket}/corpus/{name}", (corpus / name).read_bytes())
    s3.requests()
    return f"s3://{s3.bucket}/corpus"


def planned(root: str, tmp_path: Path) -> Plan:
    return plan_audio(TURNS, root, StatCache(tmp_path / "stat.sqlite"))


def asked(s3: S3) -> tuple[list[str], int]:
    """Of which recordings any bytes were read since this was asked last, and how many other requests there were."""
    requests = [(method, path.partition("?")[0].partition("/corpus/")[2]) for method, path, *_ in s3.requests()]
    read = Counter(name for method, name in requests if method == "GET" and name)
    return sorted(read), len(requests) - read.total()


def test_what_is_known_costs_a_listing_a_folder(corpus: Path, root: str, s3: S3, tmp_path: Path) -> None:
    first = planned(root, tmp_path)
    assert [one.key for one in first.requests] == [one.key for one in plan_audio(TURNS, str(corpus), None).requests]
    assert asked(s3)[0] == NAMES
    assert planned(root, tmp_path) == first
    assert asked(s3) == ([], 2)


def test_another_of_the_same_size_is_read_again(root: str, s3: S3, tmp_path: Path) -> None:
    first = planned(root, tmp_path)
    content = s3.files.cat_file(f"{root}/x/1.wav")
    s3.files.pipe_file(f"{root}/x/1.wav", content[:-4] + b"abcd")
    asked(s3)
    second = planned(root, tmp_path)
    assert asked(s3)[0] == ["x/1.wav"]
    differ = [a.utterance_id for a, b in zip(first.requests, second.requests, strict=True) if a.key != b.key]
    assert differ == ["x/1.wav"]


def test_what_cannot_be_used_is_read_once_a_run(root: str, s3: S3, tmp_path: Path) -> None:
    s3.files.pipe_file(f"{root}/x/1.wav", b"no audio")
    s3.files.rm(f"{root}/y/2.wav")
    for known in ([], NAMES):
        asked(s3)
        plan = planned(root, tmp_path)
        assert [problem.utterance_id for problem in plan.problems] == ["x/1.wav", "y/2.wav"]
        assert "is not audio" in plan.problems[0].message and "no such audio file" in plan.problems[1].message
        assert set(asked(s3)[0]) == {*NAMES} - {*known} - {"y/2.wav"} | {"x/1.wav"}
    s3.files.pipe_file(f"{root}/x/1.wav", s3.files.cat_file(f"{root}/x/0.wav"))
    assert len(planned(root, tmp_path).problems) == 1


def test_what_changes_while_it_is_read_is_not_believed(
    root: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old content comes back under its tag, and what was found of the other must not be taken for it."""
    address, describe = f"{root}/x/1.wav", module.describe
    old = s3.files.cat_file(address)

    def replaced_before(file: str) -> object:
        if file == address:
            s3.files.pipe_file(address, old[:-4] + b"abcd")
        return describe(file)

    with monkeypatch.context() as patch:
        patch.setattr(module, "describe", replaced_before)
        changed = planned(root, tmp_path)
    s3.files.pipe_file(address, old)
    assert changed.requests[1].key != planned(root, tmp_path).requests[1].key


def test_a_damaged_stat_cache_costs_time_only(root: str, s3: S3, tmp_path: Path) -> None:
    first = planned(root, tmp_path)
    (tmp_path / "stat.sqlite").write_bytes(b"no database" * 1000)
    asked(s3)
    assert planned(root, tmp_path) == first
    assert asked(s3)[0] == NAMES
    assert planned(root, tmp_path) == first
    assert asked(s3)[0] == []


def test_stamps_read_nothing_that_they_know(corpus: Path, root: str, s3: S3, tmp_path: Path) -> None:
    def digests() -> dict[str, str | None]:
        files = [*(UPath(root) / name for name in NAMES), UPath(root) / "x", UPath(root) / "gone.csv"]
        return digests_of(files, stat_cache=tmp_path / "stat.sqlite")

    first = digests()
    local = digests_of([corpus / name for name in [*NAMES, "x", "gone.csv"]], stat_cache=tmp_path / "local.sqlite")
    assert list(first.values()) == list(local.values())
    assert asked(s3)[0] == NAMES
    assert digests() == first and asked(s3)[0] == []
    s3.files.pipe_file(f"{root}/x/1.wav", b"other")
    assert {name for name, digest in digests().items() if digest != first[name]} == {f"{root}/x/1.wav"}
    # What a stamp knows of a file is no recording.
    assert len(planned(root, tmp_path).problems) == 1
