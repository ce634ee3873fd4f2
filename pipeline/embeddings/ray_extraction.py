"""Extraction on Ray: a chunk of requests is decoded by a task, and embedded and stored by a process with an encoder.

A chunk's rows are a durable shard before Ray hears that the chunk is done. So what Ray believes to be done is done,
a chunk that is begun again gives the same keys again, and no embedding travels.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lpgnet.cache.addresses import without_local_scheme
from lpgnet.cache.places import as_root
from lpgnet.pipeline.common.console import progress_bar, quiet_transformers, say
from lpgnet.pipeline.common.files import from_json, to_json
from lpgnet.pipeline.common.ray_cluster import Node, Place, Pool, check_nodes, find_nodes, marked, plan_pool
from lpgnet.pipeline.common.ray_stream import ROUNDS, is_round, may_begin, stream
from lpgnet.pipeline.config import Config, FeaturesConfig
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.embeddings.extraction import (
    CHUNK_COST,
    GPU_FACTOR,
    UNITS,
    Extraction,
    cost,
    decode,
    encode_chunk,
    merge,
    speed,
)
from lpgnet.pipeline.embeddings.plan import Request
from lpgnet.pipeline.embeddings.prepared import Share
from lpgnet.pipeline.embeddings.stores import open_store
from lpgnet.pipeline.embeddings.storing import add_row, make_writer
from lpgnet.pipeline.errors import PipelineError, counted, for_people, shorten

if TYPE_CHECKING:
    import numpy as np
    from rich.progress import Progress, TaskID

    from lpgnet.feature_extractors import Encoder, EncoderSpec
    from lpgnet.pipeline.embeddings.extraction import Decoded

# A chunk takes at most so many times what the local engine hands on together: a shard of a good size, and on a
# processor half a minute of work that a lost process loses.
CPU_FACTOR = 5
# A chunk takes at most one in so many parts of what is left for its encoder (Polychronopoulos and Kuck, Guided
# self-scheduling, IEEE Transactions on Computers 36, 1987): no encoder works alone for long at the end.
PARTS_LEFT = 4


def cut(requests: Sequence[Request], *, encoders: int, least: float, most: float) -> list[list[Request]]:
    """Cut requests into chunks, longest requests and largest chunks first.

    Args:
        requests: what to embed.
        encoders: how many work at once.
        least: cost of the smallest chunk, but for the last.
        most: cost of the largest chunk, but for a request that costs more.
    """
    ordered = sorted(requests, key=cost, reverse=True)
    left = sum(map(cost, ordered))
    chunks: list[list[Request]] = []
    filled = goal = 0.0
    for request in ordered:
        if filled >= goal:
            goal, filled = min(most, max(least, left / (PARTS_LEFT * encoders))), 0.0
            chunks.append([])
        chunks[-1].append(request)
        filled += cost(request)
        left -= cost(request)
    return chunks


@dataclass(frozen=True)
class Chunk:
    """Requests on their way through the cluster, and what the encoder takes for each once it is decoded.

    Attributes:
        part: which of the work's encoders embeds them.
    """

    number: int
    part: int
    requests: tuple[Request, ...]
    items: tuple[Decoded, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of a chunk.

    Attributes:
        part: which of the work's encoders it was for.
        cost: of its requests, as far as they are done.
        extraction: what was computed; `seconds_waited` is of all the chunks that this process had for the encoder.
        failure: why the work cannot go on; empty where it can.
    """

    part: int = 0
    cost: float = 0.0
    extraction: Extraction = field(default_factory=Extraction)
    failure: str = ""


@dataclass(frozen=True)
class Work:
    """What a process needs in order to embed: it is sent to every machine.

    Attributes:
        specs: the encoders; a process holds one at a time.
    """

    specs: tuple[EncoderSpec, ...]
    features: FeaturesConfig
    pool: Pool
    place: Place


def decode_chunk(row: dict[str, Chunk], *, work: Work) -> dict[str, Chunk]:
    """Decode a chunk's requests: a task of Ray."""
    work.place.enter()
    chunk = row["chunk"]
    rate = work.specs[chunk.part].sampling_rate
    return {"chunk": replace(chunk, items=tuple(decode(request, rate) for request in chunk.requests))}


class Embedder:
    """A process of Ray that holds an encoder, embeds chunks and writes each as a shard of its own.

    Chunks come encoder by encoder: the next one is loaded when its first chunk comes.
    """

    def __init__(self, work: Work, tries: Any) -> None:
        self._work, self._tries = work, tries
        self._waited = [0.0] * len(work.specs)
        self._part: int | None = None
        # What fails here fails again with the first chunk, and is told then; Ray would try again and again.
        with suppress(Exception):
            self._load(0)
        self._since = perf_counter()

    def _load(self, part: int) -> None:
        """Have an encoder, and no other: a GPU may have no room for two."""
        if part == self._part:
            return
        self._work.place.enter(self._work.pool)
        from lpgnet.feature_extractors import load_encoder

        quiet_transformers()
        spec, self._part = self._work.specs[part], None
        self._encoder: Encoder | None = None
        self._encoder = load_encoder(spec, device=self._work.pool.device)
        store = open_store(self._work.features, spec.fingerprint, read=False)
        self._writer = make_writer(store, self._encoder, self._work.features.dtype)
        self._part = part

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[object]]:
        """Embed a batch of one chunk, and say what became of it."""
        (chunk,) = batch["chunk"]
        self._waited[chunk.part] += perf_counter() - self._since
        try:
            done = self._try(chunk)
        except Exception as error:
            done = Done(chunk.part, failure=str(for_people(error)))
        self._since = perf_counter()
        return {"done": [json.dumps(to_json(done))]}

    def _try(self, chunk: Chunk) -> Done:
        """Embed and store a chunk, unless it has ended too many processes."""
        if not may_begin(self._tries, chunk.number):
            return Done(chunk.part)
        self._load(chunk.part)
        return Done(chunk.part, sum(map(cost, chunk.requests)), self._embed(chunk))

    def _embed(self, chunk: Chunk) -> Extraction:
        extraction = Extraction(seconds_waited=self._waited[chunk.part])
        encoder, budget = self._encoder, self._work.features.batch_budget
        assert encoder is not None
        for request, embedding in encode_chunk(encoder, chunk.requests, chunk.items, extraction, budget):
            add_row(self._writer, request, embedding)
        self._writer.flush()
        return extraction


@dataclass
class _Part:
    """A share, what is left of it, and what was done."""

    share: Share
    left: list[Request]
    task: TaskID
    extraction: Extraction = field(default_factory=Extraction)

    @property
    def spec(self) -> EncoderSpec:
        return self.share.prepared.spec

    def add(self, done: Extraction, seconds: float) -> None:
        """Add what was done in so many more seconds."""
        before = self.extraction.seconds
        self.extraction = merge([self.extraction, done])
        self.extraction.seconds = before + seconds

    def look(self) -> None:
        """Find what has neither a row in the store nor a problem."""
        store, bad = self.share.prepared.stored.own, {problem.utterance_id for problem in self.extraction.problems}
        store.refresh()
        missing = set(store.missing(request.key for request in self.left))
        self.left = [one for one in self.left if one.key in missing and one.utterance_id not in bad]


class RayExtraction:
    """Computes what the store lacks, on the cluster that this process is connected to."""

    def __init__(self, config: Config, corpus_root: str) -> None:
        self._config, self._corpus_root = config, corpus_root
        self._place = Place.here()

    def __call__(self, shares: Sequence[Share]) -> list[Extraction]:
        """Embed shares and write them to the store: what Ray lost on its way is begun again.

        All modalities are one stream, and the same processes embed them one after another: what Ray needs until it
        begins is needed once, and no process waits for the last of one modality.

        Raises:
            PipelineError: the work cannot be done, or a machine lacks what it needs.
            UsageError: the cluster has no room for an encoder.
        """
        with marked(as_root(self._config.features.store)) as mark, progress_bar("speed", unit=None) as bar:
            parts = [_Part(share, share.requests, _add_task(bar, share)) for share in shares]
            rounds = 0
            while (rest := [part for part in parts if part.left]) and rounds < ROUNDS:
                nodes = self._find_nodes(rest, mark)
                before = sum(len(part.left) for part in rest)
                self._run(rest, nodes, bar)
                for part in rest:
                    part.look()
                any_done = sum(len(part.left) for part in rest) < before
                rounds += is_round(nodes, find_nodes(), any_done=any_done)
        if left := [request for part in parts for request in part.left]:
            raise PipelineError(_unfinished_message(left))
        return [part.extraction for part in parts]

    def _run(self, parts: Sequence[_Part], nodes: Sequence[Node], bar: Progress) -> None:
        """Run a stream of what is left, and show how far it is; time is the part's whose chunk is done."""
        since = perf_counter()
        # Closed before the cluster is left, whatever happens here.
        with closing(run(self._make_work(parts, nodes), [part.left for part in parts], nodes)) as chunks:
            for done in chunks:
                part, now = parts[done.part], perf_counter()
                part.add(done.extraction, now - since)
                since = now
                bar.update(part.task, advance=done.cost, speed=speed(part.extraction, part.extraction.seconds))

    def _make_work(self, parts: Sequence[_Part], nodes: Sequence[Node]) -> Work:
        pool = plan_pool(self._config.ray, nodes, device=self._config.features.device, decodes=True)
        for part in parts:
            say(f"features: {part.spec.modality} by {part.spec.name} in {part.spec.precision} by {pool}")
        return Work(tuple(part.spec for part in parts), self._config.features, pool, self._place)

    def _find_nodes(self, parts: Sequence[_Part], mark: list[Path]) -> list[Node]:
        """Return the machines of the cluster, which all have what the work needs."""
        paths = [Path(part.spec.name.partition(":")[2]) for part in parts]
        if any(isinstance(request.source, Segment) for part in parts for request in part.left):
            paths.append(Path(without_local_scheme(self._corpus_root)))
        return check_nodes(find_nodes(), [path for path in paths if path.exists()] + mark, self._place)


def _add_task(bar: Progress, share: Share) -> TaskID:
    modality, total = share.prepared.spec.modality, sum(map(cost, share.requests))
    return bar.add_task(modality, total=total, visible=total > 0, speed="", unit=UNITS[modality])


def _unfinished_message(left: Sequence[Request]) -> str:
    names = shorten(request.utterance_id for request in left)
    return (
        f"{counted(len(left), 'embedding')} could not be computed: {names}; every process of Ray that took them up was "
        "lost, most likely because memory ran out; the others are kept: use fewer --ray.encoders"
    )


def run(work: Work, parts: Sequence[Sequence[Request]], nodes: Sequence[Node]) -> Generator[Done, None, None]:
    """Embed and store requests on the cluster, and yield what became of each chunk as soon as it is done.

    Args:
        work: what every process needs.
        parts: the requests for each of its encoders.
        nodes: the machines of the cluster.

    Raises:
        PipelineError: the work cannot go on.
    """
    with closing(stream(partial(_dataset, work, parts), nodes)) as rows:
        for row in rows:
            done = from_json(json.loads(row["done"]), Done, where="a process of Ray")
            if done.failure:
                raise PipelineError(done.failure)
            yield done


def _dataset(work: Work, parts: Sequence[Sequence[Request]], tries: Any) -> Any:
    import ray.data

    rows = [{"chunk": chunk} for chunk in _chunks(work, parts)]
    decoding = partial(decode_chunk, work=work)
    decoded = ray.data.from_items(rows, override_num_blocks=len(rows)).map(decoding, **work.pool.decoding_options)
    return decoded.map_batches(
        Embedder, fn_constructor_args=(work, tries), batch_size=1, batch_format="numpy", **work.pool.options
    )


def _chunks(work: Work, parts: Sequence[Sequence[Request]]) -> list[Chunk]:
    """Cut requests into chunks, encoder by encoder."""
    cuts = []
    for part, (spec, requests) in enumerate(zip(work.specs, parts, strict=True)):
        unit = CHUNK_COST[spec.modality]
        most = unit * (CPU_FACTOR if work.pool.device == "cpu" else GPU_FACTOR)
        cuts += [(part, chunk) for chunk in cut(requests, encoders=work.pool.count, least=unit / 2, most=most)]
    return [Chunk(number, part, tuple(chunk)) for number, (part, chunk) in enumerate(cuts)]
