"""A stream of work on Ray, and what becomes of it when processes and machines are lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.ray_cluster import Node, find_nodes, on_node
from lpgnet.pipeline.errors import PipelineError, kind_and_words

# How often what does not come back, though Ray has ended, is begun again.
ROUNDS = 3
# How many processes may take a piece of work up, in one round, and be lost with it: what ends every process that takes
# it up, such as one with too little memory, must not be begun for ever.
TRIES = 5
# How long nothing may come, after a machine was lost, until the work is shared out among the others (seconds).
PATIENCE = 30.0
# How long the first piece of work may take until it is said what may be waited for (seconds).
QUIET = 60.0
# The thread, in the process that runs a stream, that counts how often work is taken up.
_COUNTING = "counting"


def may_begin(tries: Any, piece: int) -> bool:
    """Tell, in a process that takes a piece of work up, whether it has not ended too many of them."""
    import ray

    return bool(ray.get(tries.begin.options(concurrency_group=_COUNTING).remote(piece)) <= TRIES)


def stream(dataset: Callable[[Any], Any], nodes: Sequence[Node]) -> Generator[dict[str, Any], None, None]:
    """Run a stream of Ray Data on the cluster's head, and yield its rows as soon as they are done.

    Ends early where a machine is lost and with it what a process needs, which would wait for it for ever.

    Args:
        dataset: makes the stream, there; it is given what `may_begin` asks.
        nodes: the machines of the cluster.

    Raises:
        PipelineError: the work cannot go on.
    """
    import ray

    head = next((node.id for node in nodes if node.head), nodes[0].id)
    # Who asks for a count is answered while the next row is waited for.
    options: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": {_COUNTING: 1}}
    process: Any = ray.remote(**options)(_Stream).options(scheduling_strategy=on_node(head)).remote(dataset)
    try:
        waiting = process.next.remote()
        if not ray.wait([waiting], timeout=QUIET)[0]:
            say(f"lpgnet: nothing is done after {QUIET:g} s: processes load what they need, or wait for {_free()}")
        while row := _next(waiting, nodes):
            yield row
            waiting = process.next.remote()
    finally:
        ray.kill(process)


def _free() -> str:
    """Say what of the cluster is reserved by nobody."""
    import ray

    there, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    names = {"CPU": "processors", "GPU": "GPUs"}
    counts = [f"{free.get(kind, 0):g} of {there[kind]:g} {name}" for kind, name in names.items() if kind in there]
    return f"others to leave the cluster ({' and '.join(counts)} are free)"


def is_round(before: Iterable[Node], now: Iterable[Node], *, any_done: bool) -> bool:
    """Tell whether a run of a stream is one of `ROUNDS`.

    With a machine the work of many may be lost, through no fault of theirs; where nothing was done besides, whatever
    was begun may be what ended the machine, and others that come for it would be ended for ever.
    """
    return not (any_done and is_smaller(before, now))


def is_smaller(before: Iterable[Node], now: Iterable[Node]) -> bool:
    """Tell whether a machine was lost."""
    return not {node.id for node in before} <= {node.id for node in now}


def _next(waiting: Any, nodes: Sequence[Node]) -> dict[str, Any] | None:
    """Wait for a row; None where there are no more, or Ray cannot go on with them."""
    import ray

    while not ray.wait([waiting], timeout=PATIENCE)[0]:
        if is_smaller(nodes, find_nodes()):
            return None
    try:
        row: dict[str, Any] | None = ray.get(waiting)
    except ray.exceptions.RayTaskError as error:
        raise PipelineError(f"Ray cannot go on ({kind_and_words(error.cause or error)})") from None
    except ray.exceptions.RayError:
        return None
    return row


class _Stream:
    """A process of Ray, on its head, that runs a stream, and counts how often each piece of its work was taken up.

    It works alike for whoever is in the cluster and whoever is connected from outside (ray://), and can be ended when
    the stream waits for what will not come.
    """

    def __init__(self, dataset: Callable[[Any], Any]) -> None:
        import ray.data

        # What is lost for good with one piece of work is no reason to give up the others.
        ray.data.DataContext.get_current().max_errored_blocks = -1
        self._counts: Counter[int] = Counter()
        rows = dataset(ray.get_runtime_context().current_actor)
        # Its `iter_rows` keeps a row back until there is another.
        tables = rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        self._rows = (row for table in tables for row in table.to_pylist())

    def next(self) -> dict[str, Any] | None:
        """Return the next row; None at the end."""
        return next(self._rows, None)

    def begin(self, piece: int) -> int:
        """Count one more process that takes a piece of work up, and return how many they are."""
        self._counts[piece] += 1
        return self._counts[piece]
