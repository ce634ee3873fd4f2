"""A connection to Ray, which runs work on the processors and GPUs of one machine or of many."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lpgnet.cache.files import part_file, remove_abandoned
from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.files import is_address
from lpgnet.pipeline.common.stamps import digest_file
from lpgnet.pipeline.common.stops import WORDS
from lpgnet.pipeline.common.streams import MESSAGES
from lpgnet.pipeline.common.threads import settle_worker, usable_cores
from lpgnet.pipeline.errors import MissingExtraError, PipelineError, UsageError, counted, shorten

if TYPE_CHECKING:
    from lpgnet.pipeline.config import RayConfig

EXTRA = "ray"
# Ray sends counts of its use to its makers unless it is told not to; started by `uv run` it uploads the current
# folder; and its daemons' and its C++ parts' messages are about Ray, not about the work.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS": "0",
}
# Of a cluster that we start: what is decoded ahead, and no share of memory that the encoders need (bytes).
OBJECT_BYTES = 2**30
# How long the head of a cluster may take to answer (seconds).
REACH_SECONDS = 10.0
# How long all machines together may take to start a process and look for what the work needs (seconds).
ANSWER_SECONDS = 300.0
# The environment's name for the address of a cluster.
ADDRESS = "RAY_ADDRESS"
# What Ray says where clusters do run here. In place of them, this machine alone is not what is meant.
_UNUSABLE = re.compile("Version mismatch|multiple active Ray instances")


def import_ray() -> Any:
    """Import Ray, or say how it is installed; its data library, which takes longer, is for those who run a stream.

    Raises:
        MissingExtraError: it is not there.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise MissingExtraError(f"--engine ray needs the extra '{EXTRA}': pip install 'lpgnet[{EXTRA}]'") from None
    return ray


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
    with _signals_kept(), _standard_error_dropped():
        _connect(config.address)
    try:
        _be_quiet()
        yield
    finally:
        ray.shutdown()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back what answers Ctrl-C and SIGTERM: Ray sets an answer of its own when it connects."""
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in WORDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _standard_error_dropped() -> Iterator[None]:
    """Drop what is written to standard error by any language: Ray says there that it was told to say nothing."""
    MESSAGES.flush()
    try:
        kept = os.dup(2)
    except OSError:
        # It is closed: nothing is written there.
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _connect(address: str) -> None:
    """Connect to a cluster: to one that runs here if there is one (auto), else to one that this process starts.

    Ray takes the environment's address for auto. Whoever set it wants that cluster and no other.
    """
    import ray

    named = os.environ.get(ADDRESS) if address == "auto" else None
    address, key = (named, ADDRESS) if named else (address, "--ray.address")

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address != "local":
        try:
            _reach(address)
            ray.init(address=address, **quiet)
            return
        except (OSError, RuntimeError, ValueError) as error:
            if address != "auto" or _UNUSABLE.search(str(error)):
                raise _not_connected(address, key, error) from None
    # Where there is one processor only, encoding and decoding share it.
    cores = max(2, usable_cores())
    # Its processes are as urgent as this one, where Ray would let all others of the machine go first.
    quiet |= {"include_dashboard": False, "_system_config": {"worker_niceness": 0}}
    ray.init(address="local", num_cpus=cores, object_store_memory=OBJECT_BYTES, **quiet)


def _not_connected(address: str, key: str, error: Exception) -> PipelineError:
    found = f"no Ray cluster answers at {address}" if address != "auto" else "the Ray that runs here cannot be used"
    reason = " ".join(str(error).split())[:200]
    return PipelineError(f"{found} ({reason}); check {key}, or use --ray.address local for this machine alone")


def _be_quiet() -> None:
    """Let Ray print nothing: what goes wrong with the work is told by whoever runs it.

    Ray would print on standard output that a process was lost, which is its business to make good.
    """
    import ray._private.worker

    vars(ray._private.worker)["_worker_logs_enabled"] = False


def _reach(address: str) -> None:
    """Make sure that somebody listens at an address, where Ray would wait for minutes.

    Raises:
        OSError: nobody does.
        ValueError: it has no port.
    """
    if address == "auto":
        return
    place = urlsplit(address if is_address(address) else f"//{address}")
    if place.port is None:
        raise ValueError("it has no port")
    socket.create_connection((place.hostname or "", place.port), timeout=REACH_SECONDS).close()


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, and what it offers.

    Attributes:
        host: its name, for people.
        head: whether the cluster lives and dies with it.
    """

    id: str
    host: str
    cpus: int
    gpus: float
    head: bool = False


def find_nodes() -> list[Node]:
    """Return the machines of the cluster that are there and compute.

    Raises:
        PipelineError: there are none.
    """
    import ray

    alive = [one for one in ray.nodes() if one["Alive"]]  # type: ignore[no-untyped-call]
    nodes = [_node(one) for one in alive]
    computing = [node for node in nodes if node.cpus or node.gpus]
    if not computing:
        raise PipelineError("the Ray cluster has no machine that computes; start some, or use --ray.address local")
    return computing


def _node(found: Mapping[str, Any]) -> Node:
    resources = found["Resources"]
    return Node(
        id=found["NodeID"],
        host=found["NodeManagerHostname"],
        cpus=int(resources.get("CPU", 0)),
        gpus=float(resources.get("GPU", 0)),
        head="node:__internal_head__" in resources,
    )


@dataclass(frozen=True)
class Pool:
    """Processes that hold encoders on a cluster.

    Attributes:
        count: how many there are.
        cpus: processors that Ray reserves for each.
        gpus: GPUs that Ray reserves for each.
        nodes: how many of them fit on each machine, by the machine's id.
        spare: processors that are left for decoding.
        otherwise: where they compute that have no GPU of Ray's: cpu or mps.
    """

    count: int
    cpus: int
    gpus: float
    nodes: Mapping[str, int]
    spare: int
    otherwise: str = "cpu"

    @property
    def device(self) -> str:
        """Where an encoder computes: Ray shows a process the GPUs that it reserved for it, and no others."""
        return "cuda" if self.gpus else self.otherwise

    @property
    def options(self) -> dict[str, Any]:
        """What `map_batches` is told of them; Ray Data starts them again, without bound, when they are lost."""
        import ray.data

        # Of two batches that a process has, one waits: more of them would wait while another process is idle.
        strategy = ray.data.ActorPoolStrategy(size=self.count, max_tasks_in_flight_per_actor=2)
        return {"compute": strategy, "num_cpus": self.cpus, "num_gpus": self.gpus}

    @property
    def decoding_options(self) -> dict[str, Any]:
        """What `map` is told of decoding.

        It reserves no processor: when a machine is lost, encoders that move to the others may take all that are left
        there, and would wait for what is decoded. As it asks for other than they do, Ray Data keeps it out of them.
        """
        return {"num_cpus": 0, "concurrency": self.spare}

    def __str__(self) -> str:
        each = f"{self.gpus:g} of a GPU each" if self.gpus else f"{counted(self.cpus, 'processor')} each"
        return f"{counted(self.count, 'process', 'processes')} on {counted(len(self.nodes), 'machine')} of Ray, {each}"


def plan_pool(config: RayConfig, nodes: Sequence[Node], *, device: str, decodes: bool) -> Pool:
    """Decide how many processes hold encoders, and what each reserves.

    Args:
        config: how many there should be.
        nodes: the machines of the cluster.
        device: auto, cpu, cuda or mps.
        decodes: whether others decode for them, for whom a processor is left.

    Raises:
        UsageError: there is no GPU, or no room for any encoder.
    """
    kind = device.partition(":")[0]
    with_gpus = kind in ("auto", "cuda") and any(node.gpus for node in nodes) and config.gpus != 0
    if kind == "cuda" and not with_gpus:
        raise UsageError(f"device {device}: no machine of the Ray cluster offers a GPU")
    pool = _gpu_pool(config, nodes) if with_gpus else _cpu_pool(config, nodes, spare=int(decodes))
    if config.encoders and config.encoders > pool.count:
        reason = " on the GPUs" if with_gpus else ", as one processor is left for decoding" if decodes else ""
        say(f"ray.encoders {config.encoders}: there is room for {pool.count}{reason}")
    return replace(pool, otherwise="mps") if kind == "mps" else pool


def _gpu_pool(config: RayConfig, nodes: Sequence[Node]) -> Pool:
    # No processor is reserved: they all decode, and what feeds a GPU takes little of one.
    gpus = config.gpus or 1.0
    room = {node.id: _places(node.gpus, gpus) for node in nodes}
    if not sum(room.values()):
        raise UsageError(f"ray.gpus {gpus:g}: no machine of the Ray cluster has so many GPUs")
    count = min(config.encoders or sum(room.values()), sum(room.values()))
    return Pool(count, 0, gpus, _taken(room, count), max(1, sum(node.cpus for node in nodes) - count))


def _places(offered: float, gpus: float) -> int:
    """How many processes a machine has GPUs for; Ray gives none a part of one GPU and a part of another."""
    if gpus >= 1:
        return int(offered / gpus + 1e-6)
    whole, rest = divmod(offered, 1)
    return int(whole) * int(1 / gpus + 1e-6) + int(rest / gpus + 1e-6)


def _cpu_pool(config: RayConfig, nodes: Sequence[Node], *, spare: int) -> Pool:
    """Give each encoder as many processors as there are for all of them, less those that decode."""
    total = sum(node.cpus for node in nodes)
    if not total:
        raise UsageError("no machine of the Ray cluster offers a processor, and no GPU is asked for")
    count = min(config.encoders or total, max(1, total - spare))
    cpus = max(cpus for cpus in range(1, max(node.cpus for node in nodes) + 1) if _fit(nodes, count, cpus, spare))
    taken = _taken({node.id: node.cpus // cpus for node in nodes}, count)
    return Pool(count, cpus, 0.0, taken, max(1, total - count * cpus))


def _fit(nodes: Sequence[Node], count: int, cpus: int, spare: int) -> bool:
    """Whether so many encoders of so many processors fit on these machines, and leave so many where they can."""
    total = sum(node.cpus for node in nodes)
    return sum(node.cpus // cpus for node in nodes) >= count and (count * cpus <= total - spare or total == 1)


def _taken(room: Mapping[str, int], count: int) -> dict[str, int]:
    return {node: min(places, count) for node, places in room.items() if places}


@dataclass(frozen=True)
class Place:
    """Where the work was started from, for the processes that do it.

    Attributes:
        folder: that relative paths begin in.
        threads: that the user has said, by OMP_NUM_THREADS; None where nothing was said.
    """

    folder: str
    threads: int | None

    @classmethod
    def here(cls) -> Place:
        """Return this process's own."""
        from lpgnet.pipeline.common.threads import COUNT, COUNT_IS_SET

        said = os.environ[COUNT] if COUNT_IS_SET else ""
        return cls(os.getcwd(), int(said) if said.isdigit() else None)

    def enter(self, pool: Pool | None = None) -> None:
        """Let relative paths mean here what they mean where the work was started, and settle this process's threads.

        Args:
            pool: the processes that share this machine with this one, where it is one of them.
        """
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        if pool is not None:
            others = pool.nodes.get(here(), 1)
            settle_worker(self.threads or max(1, usable_cores() // others), said=self.threads is not None)


@contextmanager
def marked(root: Path | str) -> Iterator[list[Path]]:
    """Put a file into a folder while the block lasts: a machine that does not see it has another folder of this name.

    Args:
        root: the folder, which is made; or an address, which is the same everywhere and gets none.

    Yields:
        The file, where there is one, for `check_nodes`.
    """
    if not isinstance(root, Path):
        yield []
        return
    root.mkdir(parents=True, exist_ok=True)
    # What was left by a process that was killed.
    remove_abandoned(root)
    with part_file(root) as (path, _):
        yield [path]


@dataclass(frozen=True)
class _Found:
    """What a machine has of what the work needs."""

    version: str
    absent: tuple[str, ...]


def check_nodes(nodes: Sequence[Node], paths: Sequence[Path], place: Place) -> list[Node]:
    """Make sure that every machine has this version of the package, and the files that the work needs.

    Args:
        nodes: the machines.
        paths: local files and folders, as this process names them; files must hold the same, folders be there.
        place: where the work was started from.

    Returns:
        The machines without those that were lost meanwhile.

    Raises:
        PipelineError: one lacks something; names the machine, and what it lacks.
    """
    contents = {str(path): _content(path) for path in paths}
    answers = dict(zip(nodes, _ask(nodes, contents, place), strict=True))
    there = set(find_nodes()) if any(isinstance(one, str) for one in answers.values()) else set(nodes)
    for node in there & answers.keys():
        _check(node, answers[node])
    return [node for node in nodes if node in there]


def _check(node: Node, found: _Found | str) -> None:
    from lpgnet import __version__

    if isinstance(found, str):
        raise PipelineError(f"{node.host}: cannot run lpgnet ({found}); install lpgnet {__version__} there")
    if found.version != __version__:
        raise PipelineError(
            f"{node.host}: has lpgnet {found.version}, and this machine {__version__}; "
            "install the same on every machine of the Ray cluster"
        )
    if found.absent:
        raise PipelineError(
            f"{node.host}: has no {shorten(found.absent, most=2)}, or not the one that this machine has; every "
            "machine of the Ray cluster needs it under this name: use a shared file system, or addresses"
        )


def _ask(nodes: Sequence[Node], contents: Mapping[str, str | None], place: Place) -> list[_Found | str]:
    """Return what each machine has, or why it cannot say."""
    import ray

    ask = ray.remote(_find)
    asked = [ask.options(num_cpus=0, scheduling_strategy=on_node(node.id)).remote(contents, place) for node in nodes]
    answered = set(ray.wait(asked, num_returns=len(asked), timeout=ANSWER_SECONDS)[0])
    return [_answer(one) if one in answered else f"no answer in {ANSWER_SECONDS:g} s" for one in asked]


def on_node(node: str) -> Any:
    """Return what has Ray start a process on one machine, and no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def here() -> str:
    """Return the id of the machine that this process of Ray is on."""
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    return node


def _answer(asked: Any) -> _Found | str:
    import ray

    try:
        found: _Found = ray.get(asked)
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines()
        return lines[-1].strip()[:300] if lines else type(error).__name__
    return found


def _content(path: Path) -> str | None:
    """Digest a file; None of what is none."""
    return digest_file(path) if path.is_file() else None


def _find(contents: Mapping[str, str | None], place: Place) -> _Found:
    from lpgnet import __version__

    place.enter()
    found = {path for path, content in contents.items() if content in (None, _content(Path(path)))}
    return _Found(__version__, tuple(path for path in contents if path not in found or not Path(path).exists()))
