"""A Ray cluster of three nodes, which are processes of this machine: for all tests that need one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The least that Ray takes, and a little more (bytes).
OBJECT_BYTES = 100 * 2**20
NODES = 3
# A node that is killed is missed after a second or two.
_SETTINGS = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}


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
    options = {"num_cpus": cpus, "object_store_memory": OBJECT_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options | {"_system_config": _SETTINGS})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=cpus, object_store_memory=OBJECT_BYTES)
        yield cluster
    finally:
        cluster.shutdown()
