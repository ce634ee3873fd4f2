"""A connection to Ray, which runs work on the processors and GPUs of one machine or of many."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lpgnet.pipeline.errors import MissingExtraError, PipelineError

if TYPE_CHECKING:
    from lpgnet.pipeline.config import RayConfig

EXTRA = "ray"
# Ray sends counts of its use to its makers unless it is told not to.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}


@contextmanager
def connected(config: RayConfig) -> Iterator[None]:
    """Connect to the cluster that the configuration names, and leave it at the end of the block.

    One that was started for this block, on this machine alone, ends with it; one that the program is connected to
    already stays so.

    Raises:
        MissingExtraError: Ray is not installed.
        PipelineError: there is no cluster at the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    _connect(config.address)
    try:
        yield
    finally:
        ray.shutdown()


def import_ray():  # type: ignore[no-untyped-def]
    """Import Ray, or say how it is installed.

    Raises:
        MissingExtraError: it is not there.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError(f"--engine ray needs the extra '{EXTRA}': pip install 'lpgnet[{EXTRA}]'") from None
    return ray


def _connect(address: str) -> None:
    """Connect to a cluster: to one that runs here if there is one (auto), else to one that this process starts."""
    import ray

    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address != "local":
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            return
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address != "auto":
                raise PipelineError(
                    f"no Ray cluster answers at {address} ({' '.join(str(error).split())[:200]}); "
                    "check --ray.address, or use --ray.address local for this machine alone"
                ) from None
    ray.init(address="local", **options)
