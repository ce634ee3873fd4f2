"""What all tests share: no example of a property fails because the machine is busy; a server of S3, a Ray cluster."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.s3 import S3

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = S3()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A server of the S3 protocol with an empty bucket, which s3fs finds by the environment of this process."""
    from s3fs import S3FileSystem

    for name, value in s3_server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    # Errors that a test orders are to be seen at once.
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    S3FileSystem.clear_instance_cache()
    s3_server.bucket = f"bucket{next(_numbers)}"
    s3_server.files.mkdir(s3_server.bucket)
    s3_server.requests()
    yield s3_server
    s3_server.heal()
    S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """Three Ray nodes with a processor each; the `address` is for `--ray.address`, and no test breaks the cluster."""
    from tests.ray_cluster import started

    with started() as cluster:
        yield cluster
