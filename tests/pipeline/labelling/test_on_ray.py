"""Labelling on Ray: what is given out, what comes back, and what never does. No cluster is needed for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.common.ray_cluster import Node
from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.labelling import on_ray
from lpgnet.pipeline.labelling.groups import GROUP_BYTES, GROUP_SOURCES, Outcome, cut
from lpgnet.pipeline.labelling.made_from import Origins
from lpgnet.pipeline.recordings.sources import RemoteSource

NODES = [Node("one", "one", 2, 0.0, head=True), Node("two", "two", 2, 0.0)]


def source(number: int, size: int = 10) -> RemoteSource:
    return RemoteSource(f"{number}", f"memory://{number}.wav", None, {}, size)


@given(st.lists(st.integers(0, 2 * GROUP_BYTES), max_size=400), st.none() | st.integers(1, 9))
def test_groups_have_all_sources_in_their_order_and_are_bounded(sizes: list[int], processes: int | None) -> None:
    sources = [source(*pair) for pair in enumerate(sizes)]
    groups = list(cut(sources, processes=processes))
    assert [one for group in groups for one in group] == sources
    for group in groups:
        assert 1 <= len(group) <= GROUP_SOURCES
        assert len(group) == 1 or sum(one.size for one in group) <= GROUP_BYTES


def test_the_last_groups_are_small() -> None:
    counts = [len(group) for group in cut([source(number) for number in range(10_000)], processes=4)]
    assert counts[0] == GROUP_SOURCES and counts == sorted(counts, reverse=True) and counts[-8:] == [1] * 8
    assert [len(group) for group in cut([source(number) for number in range(300)])] == [256, 44]


@pytest.mark.parametrize("error", [None, PipelineError("a.wav: is empty"), UsageError("key 'language': no")])
def test_outcomes_travel_as_rows(error: PipelineError | None) -> None:
    outcome = Outcome("a.wav", "a", 3, error)
    back = on_ray._outcome(on_ray._row(outcome))
    assert (back.about, back.name, back.turns) == ("a.wav", "a", 3)
    assert (type(back.error), str(back.error)) == (type(error), str(error))


def test_what_is_about_no_recording_ends_the_work() -> None:
    with pytest.raises(UsageError, match="no such device"):
        on_ray._outcome(on_ray._row(Outcome("", "", error=UsageError("no such device"))))


class Cluster:
    """Instead of Ray: some sources end every process that takes up their group, and machines may be lost meanwhile."""

    def __init__(self, ends: set[str], nodes: list[list[Node]]) -> None:
        self.given: list[list[list[str]]] = []
        self._ends, self._nodes = ends, iter(nodes)

    def nodes(self) -> list[Node]:
        return next(self._nodes)

    def stream(self, dataset: "partial[Any]", nodes: list[Node]) -> Iterator[dict[str, Any]]:
        _, groups = dataset.args
        self.given.append([[one.name for one in group] for group in groups])
        for group in groups:
            if not self._ends & {one.name for one in group}:
                yield from (on_ray._row(Outcome(str(one), one.name, 1)) for one in group)


@pytest.fixture
def origins(tmp_path: Path) -> Origins:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "out").mkdir()
    return Origins(PredictionConfig(model=str(tmp_path), out=str(tmp_path / "out"), engine="ray"))


def label(cluster: Cluster, origins: Origins, count: int, monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    @contextmanager
    def connected(_: object) -> Iterator[None]:
        yield

    for name, value in {
        "connected": connected,
        "find_nodes": cluster.nodes,
        "stream": cluster.stream,
        "check_nodes": lambda nodes, *_: nodes,
        "about_folder": lambda _: (),
        "local_parts": lambda _: [],
    }.items():
        monkeypatch.setattr(on_ray, name, value)
    return list(on_ray.label_on_ray([source(number) for number in range(count)], origins))


def test_a_recording_that_ends_every_process_fails_alone(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({"7"}, [NODES] * 6)
    outcomes = label(cluster, origins, 40, monkeypatch)
    assert sorted(outcome.name for outcome in outcomes) == sorted(map(str, range(40)))
    (failed,) = [outcome for outcome in outcomes if outcome.error]
    assert failed.name == "7" and "memory://7.wav: every process of Ray that took it up was lost" in str(failed.error)
    assert len(cluster.given) == 3 and cluster.given[2] == [["7"]]
    assert all(len(group) == 1 for group in cluster.given[1]), "one by one, to find out which it is"


def test_with_a_machine_no_round_is_lost(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({"7"}, [NODES, NODES[:1], NODES[:1], NODES[:1], *[NODES[:1]] * 4])
    outcomes = label(cluster, origins, 80, monkeypatch)
    assert len(outcomes) == 80 and len(cluster.given) == 4
    assert any(len(group) > 1 for group in cluster.given[1]), "the groups of a lost machine are given out again"


def test_what_only_ends_machines_is_given_up(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round a machine is lost, and another comes for it."""
    machines = [[NODES[0], Node(f"{number}", "host", 2, 0.0)] for number in range(20)]
    cluster = Cluster({"7"}, machines)
    outcomes = label(cluster, origins, 40, monkeypatch)
    assert [outcome.name for outcome in outcomes if outcome.error] == ["7"] and len(cluster.given) <= 5


def test_the_stream_is_closed_where_the_work_cannot_go_on(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not when the error with its traceback is dropped: until then its processes would go on."""
    ended = []

    def stream(*_: object) -> Iterator[dict[str, Any]]:
        try:
            yield on_ray._row(Outcome("", "", error=PipelineError("the model is damaged")))
        finally:
            ended.append(True)

    cluster = Cluster(set(), [NODES] * 2)
    monkeypatch.setattr(cluster, "stream", stream)
    with pytest.raises(PipelineError, match="damaged") as caught:
        label(cluster, origins, 5, monkeypatch)
    assert ended and caught.tb


def test_a_group_that_is_done_twice_is_told_of_once(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(set(), [NODES] * 2)
    once = cluster.stream
    monkeypatch.setattr(cluster, "stream", lambda *given: (row for row in list(once(*given)) for _ in range(2)))
    assert len(label(cluster, origins, 5, monkeypatch)) == 5
