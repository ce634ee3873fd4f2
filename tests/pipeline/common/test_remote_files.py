"""A version is sure only where another content has another one."""

import time
from datetime import UTC, datetime
from typing import Any

import fsspec
import pytest

from lpgnet.pipeline.common.remote_files import RemoteFiles, _known_by, has_version

NOW = float(int(time.time()))
SURE: list[dict[str, Any]] = [
    {"ETag": '"a"'},
    {"etag": "a", "mtime": NOW},
    {"mtime": NOW - 3600},
    {"mtime": datetime.fromtimestamp(NOW - 3600, UTC)},
    {"updated": datetime.fromtimestamp(NOW - 3600, UTC)},
]
DOUBTFUL: list[dict[str, Any]] = [
    {},
    {"ETag": 'W/"a"'},
    {"mtime": NOW + 10**6},
    {"mtime": datetime.fromtimestamp(NOW - 3600)},
    {"mtime": "20200101"},
    {"created": NOW - 3600},
    {"ETag": '"a"', "type": "directory"},
]


@pytest.mark.parametrize("told", SURE)
def test_by_a_tag_or_by_a_time_that_is_past(told: dict[str, Any]) -> None:
    known = _known_by({"name": "a", "size": 3, "type": "file", **told})
    assert known.is_sure and known.version.endswith(" 3")


@pytest.mark.parametrize("told", DOUBTFUL)
def test_any_other_is_doubted(told: dict[str, Any]) -> None:
    assert not _known_by({"name": "a", "size": 3, "type": "file", **told}).is_sure


def test_a_file_that_was_written_just_before_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"name": "a", "size": 3, "type": "file", "mtime": NOW - 3600}
    assert _known_by(told).is_sure
    monkeypatch.setattr("lpgnet.pipeline.common.remote_files._SETTLED_SECONDS", 10.0**6)
    assert not _known_by(told).is_sure


def test_a_time_is_the_same_however_it_is_told() -> None:
    """Listing a folder and asking for a file tell some things in different forms."""
    size_and_type = {"size": 3, "type": "file"}
    in_seconds = _known_by({"name": "a", "mtime": NOW, **size_and_type})
    in_words = _known_by({"name": "/a", "mtime": datetime.fromtimestamp(NOW, UTC), "time": 5, **size_and_type})
    assert in_seconds.version == in_words.version


def test_memory_tells_nothing_to_go_by() -> None:
    fsspec.filesystem("memory").pipe("/told/a.wav", b"abc")
    assert RemoteFiles().sure_versions(["memory://told/a.wav", "memory://told/gone", "nosuch://x/y"]) == {}
    assert not has_version("nosuch://x/y", "1")
