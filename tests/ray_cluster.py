"""A Ray cluster of three nodes, which are processes of this machine: for all tests that need one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

# The least that Ray takes, and a little more (bytes).
OBJECT_BYTES = 100 * 2**20
NODES = 3
# A node that is killed is missed after a second or two. Work is as urgent as other tests, which Ray would let go first.
_SETTINGS = {
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
    "worker_niceness": 0,
}


@contextmanager
def started(*, nodes: int = NODES, cpus: int = 1) -> Iterator[Any]:
    """Start a `ray.cluster_utils.Cluster`, whose `address` is for `--ray.address`, and stop it at the end.

    Args:
        nodes: how many there are, the head among them.
        cpus: processors that each node says it has.
    """
    from lpgnet.pipeline.common.ray_cluster import import_ray

    import_ray()
    from ray.cluster_utils import Cluster

    # As the processes of a cluster get their environment from whoever starts them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    head = {"include_dashboard": False, "_system_config": _SETTINGS} | _options(cpus)
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            add_node(cluster, cpus=cpus)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any, *, cpus: int = 1) -> None:
    """Add a node, such as one for another that was killed."""
    cluster.add_node(**_options(cpus))


def _options(cpus: int) -> dict[str, Any]:
    return {"num_cpus": cpus, "object_store_memory": OBJECT_BYTES}


def raylet(node: Any) -> psutil.Process:
    """The process that starts those of a node; they end with it."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def workers(node: Any, name: str) -> list[psutil.Process]:
    """The processes of a node that do the work with this name."""
    found = []
    with suppress(psutil.Error):
        for process in raylet(node).children():
            with suppress(psutil.Error):
                if name in " ".join(process.cmdline()):
                    found.append(process)
    return found
