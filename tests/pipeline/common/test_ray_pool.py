"""How many encoders a Ray cluster gets: they fit, they use what there is, and one processor is left for decoding."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.cache.files import machine_name
from lpgnet.cache.places import as_root
from lpgnet.pipeline.common.ray_cluster import Node, Pool, _standard_error_dropped, marked, plan_pool
from lpgnet.pipeline.config import RayConfig
from lpgnet.pipeline.errors import UsageError

COUNTS = st.none() | st.integers(1, 40)


def nodes_of(*offers: tuple[int, float]) -> list[Node]:
    return [Node(str(index), "host", *offer) for index, offer in enumerate(offers)]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), COUNTS)
def test_encoders_on_processors_fit_and_leave_one(cpus: list[int], wanted: int | None) -> None:
    pool = plan_pool(
        RayConfig(encoders=wanted), nodes_of(*((count, 0.0) for count in cpus)), device="auto", decodes=True
    )
    total = sum(cpus)
    assert pool.gpus == 0 and pool.cpus >= 1
    assert sum(count // pool.cpus for count in cpus) >= pool.count
    assert pool.count * pool.cpus < total or total == 1
    assert pool.count == min(wanted or total, max(1, total - 1))
    assert pool.spare == max(1, total - pool.count * pool.cpus)
    # No more processors for each would fit.
    more = pool.cpus + 1
    assert sum(count // more for count in cpus) < pool.count or pool.count * more >= total
    assert all(1 <= pool.nodes[str(index)] <= pool.count for index, count in enumerate(cpus) if count >= pool.cpus)


@pytest.mark.parametrize(
    ("offers", "config", "count", "cpus", "gpus"),
    [
        # One machine of two processors: an encoder, and one processor that decodes.
        ([(2, 0)], RayConfig(), 1, 1, 0.0),
        ([(1, 0)], RayConfig(), 1, 1, 0.0),
        ([(16, 0)], RayConfig(), 15, 1, 0.0),
        ([(16, 0)], RayConfig(encoders=3), 3, 5, 0.0),
        ([(16, 0), (16, 0), (16, 0)], RayConfig(encoders=3), 3, 15, 0.0),
        ([(8, 2)], RayConfig(), 2, 0, 1.0),
        ([(8, 2), (8, 0)], RayConfig(gpus=0.5), 4, 0, 0.5),
        ([(8, 2)], RayConfig(encoders=1), 1, 0, 1.0),
        ([(8, 2)], RayConfig(gpus=0), 7, 1, 0.0),
        ([(0, 0.3)], RayConfig(gpus=0.1), 3, 0, 0.1),
        # No process has a part of one GPU and a part of another.
        ([(8, 2)], RayConfig(gpus=0.4), 4, 0, 0.4),
        ([(8, 3)], RayConfig(gpus=2), 1, 0, 2.0),
    ],
)
def test_pools(offers: list[tuple[int, float]], config: RayConfig, count: int, cpus: int, gpus: float) -> None:
    pool = plan_pool(config, nodes_of(*offers), device="auto", decodes=True)
    assert (pool.count, pool.cpus, pool.gpus) == (count, cpus, gpus)


def test_more_than_there_is_room_for_is_reduced_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_pool(RayConfig(encoders=9), nodes_of((4, 0)), device="cpu", decodes=True).count == 3
    assert plan_pool(RayConfig(encoders=9), nodes_of((4, 2)), device="auto", decodes=True).count == 2
    assert plan_pool(RayConfig(), nodes_of((2, 0)), device="cpu", decodes=False).count == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "ray.encoders 9: there is room for 3, as one processor is left for decoding",
        "ray.encoders 9: there is room for 2 on the GPUs",
    ]


def test_without_the_gpus_that_are_asked_for() -> None:
    with pytest.raises(UsageError, match="no machine of the Ray cluster offers a GPU"):
        plan_pool(RayConfig(), nodes_of((4, 0)), device="cuda", decodes=True)
    with pytest.raises(UsageError, match="offers a processor, and no GPU is asked for"):
        plan_pool(RayConfig(), nodes_of((0, 1)), device="cpu", decodes=True)
    with pytest.raises(UsageError, match=r"ray.gpus 4: no machine of the Ray cluster has so many"):
        plan_pool(RayConfig(gpus=4), nodes_of((8, 2)), device="auto", decodes=True)


def test_standard_error_may_be_closed() -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        with _standard_error_dropped():
            pass
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def test_where_encoders_compute() -> None:
    devices = {
        ("auto", 0.0): "cpu",
        ("auto", 2.0): "cuda",
        ("cuda:1", 2.0): "cuda",
        ("cpu", 2.0): "cpu",
        ("mps", 0.0): "mps",
    }
    for (device, gpus), expected in devices.items():
        assert plan_pool(RayConfig(), nodes_of((4, gpus)), device=device, decodes=True).device == expected


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_is_marked_by_whichever_name(tmp_path: Path, scheme: str) -> None:
    with marked(as_root(f"{scheme}{tmp_path}/store")) as (mark,):
        assert mark.parent == tmp_path / "store" and mark.exists()
    assert not mark.exists()
    left, download = tmp_path / "store" / f".{machine_name()}-0123.part", tmp_path / "store" / "video.mp4.part"
    left.touch()
    download.touch()
    os.utime(download, (0, 0))
    with marked(as_root(f"{scheme}{tmp_path}/store")):
        assert not left.exists(), "what a driver left that was killed"
        assert download.exists(), "what another program has not downloaded yet"
    with marked(as_root("memory://store")) as marks:
        assert not marks


def test_decoding_asks_for_other_than_encoding() -> None:
    """Ray Data would otherwise decode in the processes that encode, one after the other."""
    pytest.importorskip("ray")
    for pool in (Pool(1, 1, 0.0, {}, 1), Pool(1, 0, 0.5, {}, 1)):
        names = ("num_cpus", "num_gpus")
        assert [pool.options.get(name, 0) for name in names] != [pool.decoding_options.get(name, 0) for name in names]
