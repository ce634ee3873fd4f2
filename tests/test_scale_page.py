"""The model of cost in docs/scale.md: its simulation keeps to what can be proven, and its figures follow from it."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.common.processes import balance

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
scheduling: Any = import_module("scheduling")
scale: Any = import_module("scale")
Cluster, Loss, run_chunks, run_parts = scheduling.Cluster, scheduling.Loss, scheduling.run_chunks, scheduling.run_parts

CHUNKS = st.lists(st.floats(0.1, 500), min_size=1, max_size=60)
CLUSTERS = st.builds(
    Cluster,
    speeds=st.lists(st.floats(0.5, 20), min_size=1, max_size=8),
    overhead=st.floats(0, 3),
    ahead=st.integers(1, 3),
)


def slack(least: float) -> float:
    """The rounding of a sum."""
    return least * (1 - 1e-9)


@given(chunks=CHUNKS, cluster=CLUSTERS)
def test_no_schedule_is_faster_than_the_work_allows(chunks: list[float], cluster: Any) -> None:
    outcome = run_chunks(chunks, cluster)
    assert outcome.seconds >= slack(sum(chunks) / sum(cluster.speeds))
    assert outcome.seconds >= slack(max(chunks) / max(cluster.speeds))
    assert 0 < outcome.efficiency(cluster) <= 1
    assert (outcome.lost, outcome.losses) == (0, 0)


@given(chunks=CHUNKS, cluster=CLUSTERS)
def test_no_encoder_is_idle_before_the_last_chunks_are_handed_out(chunks: list[float], cluster: Any) -> None:
    """Graham's bound for encoders of any speed: until the last chunk is handed out, all of them work."""
    handed_out = (sum(chunks) + cluster.overhead * max(cluster.speeds) * len(chunks)) / sum(cluster.speeds)
    longest = max(chunks) / min(cluster.speeds) + cluster.overhead
    assert run_chunks(chunks, cluster).seconds <= handed_out + cluster.ahead * longest + 1e-6


@given(requests=st.lists(st.floats(0.1, 200), min_size=1, max_size=80), cluster=CLUSTERS, most=st.floats(5, 100))
def test_chunks_are_never_worse_than_parts_by_more_than_the_last_chunks(
    requests: list[float], cluster: Any, most: float
) -> None:
    """Parts take as long as the work divided by all speeds at least; chunks as long as that, and the last chunks."""
    encoders = len(cluster.speeds)
    parts = run_parts(balance(requests, requests, encoders), cluster)
    chunks = scale.chunk(requests, encoders=encoders, least=most / 10, most=most)
    assert sum(chunks) == pytest.approx(sum(requests))
    longest = max(chunks) / min(cluster.speeds) + cluster.overhead
    handed_out = cluster.overhead * max(cluster.speeds) * len(chunks) / sum(cluster.speeds)
    assert run_chunks(chunks, cluster).seconds <= parts.seconds + handed_out + cluster.ahead * longest + 1e-6


@given(data=st.data(), chunks=CHUNKS, cluster=CLUSTERS)
def test_what_is_lost_is_bounded_by_the_chunks_in_work(data: st.DataObject, chunks: list[float], cluster: Any) -> None:
    encoders = st.lists(st.integers(0, len(cluster.speeds) - 1), min_size=1, unique=True)
    losses = data.draw(
        st.lists(st.builds(Loss, at=st.floats(0, 100), encoders=encoders, away=st.floats(0, 50)), max_size=5)
    )
    outcome = run_chunks(chunks, cluster, losses)
    longest = max(chunks) / min(cluster.speeds) + cluster.overhead
    assert outcome.losses <= sum(len(loss.encoders) for loss in losses)
    assert outcome.lost <= outcome.losses * longest + 1e-6
    assert outcome.work == run_chunks(chunks, cluster).work == sum(chunks)
    assert 0 < outcome.efficiency(cluster) <= 1


def test_a_schedule_by_hand() -> None:
    """Of two encoders the fast one has 8 s of audio until 4 and 2 until 5; the slow one 3 until 3 and 4 until 7."""
    cluster = Cluster([2, 1], ahead=1)
    outcome = run_chunks([8, 3, 4, 2], cluster)
    assert (outcome.seconds, outcome.work) == (7, 17)
    assert outcome.efficiency(cluster) == 17 / 21
    # With one ahead the slow one has 3 until 3 and 2 until 5, the fast one 8 until 4 and 4 until 6.
    assert run_chunks([8, 3, 4, 2], Cluster([2, 1], ahead=2)).seconds == 6


def test_a_loss_by_hand() -> None:
    """One of two is lost in the middle of its first chunk, and away for 10 s: the other does all the rest."""
    outcome = run_chunks([4, 4, 4], Cluster([1, 1], ahead=1), [Loss(2, [0], 10)])
    assert (outcome.seconds, outcome.lost, outcome.losses) == (12, 2, 1)


def test_parts_by_hand() -> None:
    outcome = run_parts([[6, 4], [5, 5], []], Cluster([1, 2, 1], overhead=1))
    assert (outcome.seconds, outcome.work) == (11, 20)


def test_the_model_is_given_what_the_page_of_benchmarks_says() -> None:
    page = """
| (c) this project, fp32 | 6.1 | 0.78 (0.88) |
| (c) this project, bf16 | no bf16 instructions here |
| (c) this project, fp32 | 46.2 | 3.59 |
| (c) this project, fp32 | 1321.8 | 2.13 |
| (c) this project, bf16 | 2755.2 | 4.44 |
| (c) this project, fp32 | 4183.0 | 19.09 |
| (c) this project, bf16 | 14779.5 | 68.74 |
**features, nothing to do**
| 10,000 | 0.123 | 102 |
| 100,000 | 0.0565 | 262 |
| 1,000,000 | 0.0584 | 1,864 |
"""
    cpu, fp32, bf16 = scale.machines(page)
    assert (cpu.audio, cpu.text, cpu.is_gpu) == (6.1, 46.2, False)
    assert (fp32.audio, fp32.text, bf16.audio, bf16.text) == (1321.8, 4183, 2755.2, 14779.5)
    assert bf16.is_gpu and fp32.is_gpu
    planned = scale.planning(page)
    assert (planned.bytes, planned.seconds) == (1602e6 / 900_000, 0.0584e-3)
    for read in (scale.machines, scale.planning):
        assert read((ROOT / "docs" / "benchmarks.md").read_text("utf-8"))


def test_turns_are_as_long_as_they_are_said_to_be() -> None:
    lengths = scale.turns(200)
    assert sum(lengths) / len(lengths) == pytest.approx(scale.MEAN_SECONDS, rel=0.02)
    assert sum(lengths) == pytest.approx(200 * 3600, rel=0.02)
    assert sorted(lengths)[len(lengths) // 2] == pytest.approx(scale.MEDIAN_SECONDS, rel=0.02)


@pytest.mark.parametrize("is_gpu", [False, True])
def test_chunks_are_those_of_extraction_on_ray(is_gpu: bool) -> None:
    lengths, (least, most) = scale.turns(20), scale.bounds(is_gpu=is_gpu)
    chunks = scale.chunk(lengths, encoders=4, least=least, most=most)
    assert sum(chunks) == pytest.approx(sum(lengths))
    assert max(chunks) <= most + max(lengths)
    assert all(chunk >= least for chunk in chunks[:-1])


def test_a_machine_goes_every_hour_and_takes_its_encoders_with_it() -> None:
    losses = scale.lose_one_an_hour(2, 3, 2.5, 60)
    assert [(loss.at, loss.encoders) for loss in losses] == [
        (3600, [0, 1, 2]),
        (7200, [3, 4, 5]),
        (10800, [0, 1, 2]),
    ]


def test_a_million_hours_by_hand() -> None:
    """At a hundred times real time 10,000 hours; of 1,800 s a chunk 2 million chunks, which wait half a second each."""
    machine = scale.Machine("made up", 100.0, 1e6, is_gpu=True)
    measured = scale.Measured(400, 0.045, 0.01, shard_seconds=0.3)
    _, _, _, _, row, _ = scale.million_table([machine], measured, scale.Assumed(0.2, 300, price=3.0))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["made up", "10,000", "0", "278"]
    assert cells[5] == f"{3 * (10_000 + 8e8 / 1e6 / 3600 + 277.8):,.0f}"
    assert cells[-1] == "2,000,000"


def test_a_request_is_measured() -> None:
    assert 100 < scale.request_bytes(1000) < 2000


def test_equal_figures_draw_equal_pictures(tmp_path: Path) -> None:
    case = scale.Case("ten minutes", scale.Machine("made up", 10.0, 100.0, is_gpu=False), 1 / 6, 5)
    found = {case.title: scale.efficiencies(case, 0.1)}
    assert [point.encoders for point in found[case.title]] == [1, 2, 5]
    for name in ("first.svg", "second.svg"):
        scale.draw(found, tmp_path / name)
    picture = (tmp_path / "first.svg").read_text("utf-8")
    assert picture == (tmp_path / "second.svg").read_text("utf-8")
    for words in ("ten minutes", "encoders", "efficiency", "chunks, some slow"):
        assert f">{words}</text>" in picture
