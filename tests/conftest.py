"""What all tests share: no example of a property fails because the machine is busy."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray cluster of three nodes with a processor each; its `address` is for `--ray.address`, and no test breaks it."""
    from tests.ray_cluster import started

    with started() as cluster:
        yield cluster
