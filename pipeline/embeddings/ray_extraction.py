"""Extraction on Ray: a chunk of requests is decoded by a task, and embedded and stored by a process with an encoder.

A chunk's rows are a durable shard before Ray hears that the chunk is done. So what Ray believes to be done is done,
a chunk that is begun again gives the same keys again, and no embedding travels.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
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
    Extraction,
    cost,
    decode,
    encode_chunk,
    merge,
    speed,
)
from lpgnet.pipeline.embeddings.plan import Problem, Request
from lpgnet.pipeline.embeddings.prepared import Prepared
from lpgnet.pipeline.embeddings.stores import open_store
from lpgnet.pipeline.embeddings.storing import add_row, make_writer
from lpgnet.pipeline.errors import PipelineError, counted, for_people, shorten

if TYPE_CHECKING:
    import numpy as np

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
    """Requests on their way through the cluster, and what the encoder takes for each once it is decoded."""

    number: int
    requests: tuple[Request, ...]
    items: tuple[Decoded, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of a chunk.

    Attributes:
        cost: of its requests, as far as they are done.
        extraction: what was computed; `seconds_waited` is of all the chunks of this process so far.
        failure: why the work cannot go on; empty where it can.
    """

    cost: float = 0.0
    extraction: Extraction = field(default_factory=Extraction)
    failure: str = ""


@dataclass(frozen=True)
class Work:
    """What a process needs in order to embed: it is sent to every machine."""

    spec: EncoderSpec
    features: FeaturesConfig
    pool: Pool
    place: Place


def decode_chunk(row: dict[str, Chunk], *, rate: int | None, place: Place) -> dict[str, Chunk]:
    """Decode a chunk's requests: a task of Ray."""
    place.enter()
    chunk = row["chunk"]
    return {"chunk": replace(chunk, items=tuple(decode(request, rate) for request in chunk.requests))}


class Embedder:
    """A process of Ray that holds an encoder, embeds chunks and writes each as a shard of its own."""

    def __init__(self, work: Work, tries: Any) -> None:
        self._work, self._tries, self._failure = work, tries, ""
        self._waited, self._since = 0.0, perf_counter()
        try:
            self._load()
        except Exception as error:
            # Ray would try again what fails again; it is told with the first chunk.
            self._failure = str(for_people(error))
        self._since = perf_counter()

    def _load(self) -> None:
        self._work.place.enter(self._work.pool)
        from lpgnet.feature_extractors import load_encoder

        quiet_transformers()
        self._encoder: Encoder = load_encoder(self._work.spec, device=self._work.pool.device)
        store = open_store(self._work.features, self._work.spec.fingerprint, read=False)
        self._writer = make_writer(store, self._encoder, self._work.features.dtype)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[object]]:
        """Embed a batch of one chunk, and say what became of it."""
        (chunk,) = batch["chunk"]
        self._waited += perf_counter() - self._since
        try:
            done = self._try(chunk)
        except Exception as error:
            done = Done(failure=str(for_people(error)))
        self._since = perf_counter()
        return {"done": [json.dumps(to_json(done))]}

    def _try(self, chunk: Chunk) -> Done:
        """Embed and store a chunk, unless that cannot be done or has ended too many processes."""
        if self._failure or not may_begin(self._tries, chunk.number):
            return Done(failure=self._failure)
        done = Done(sum(map(cost, chunk.requests)))
        self._embed(chunk, done.extraction)
        return done

    def _embed(self, chunk: Chunk, extraction: Extraction) -> None:
        extraction.seconds_waited = self._waited
        budget = self._work.features.batch_budget
        for request, embedding in encode_chunk(self._encoder, chunk.requests, chunk.items, extraction, budget):
            add_row(self._writer, request, embedding)
        self._writer.flush()


class RayExtraction:
    """Computes what the store lacks, on the cluster that this process is connected to."""

    def __init__(self, config: Config, corpus_root: str) -> None:
        self._config, self._corpus_root = config, corpus_root
        self._place = Place.here()

    def __call__(self, prepared: Prepared, requests: list[Request]) -> Extraction:
        """Embed requests and write them to the store: what Ray lost on its way is begun again.

        Raises:
            PipelineError: the work cannot be done, or a machine lacks what it needs.
            UsageError: the cluster has no room for an encoder.
        """
        spec, extraction, left, rounds = prepared.spec, Extraction(), requests, 0
        bar = progress_bar("speed", unit="s of audio" if spec.modality == "audio" else "characters")
        with marked(as_root(self._config.features.store)) as mark, bar:
            task = bar.add_task(spec.modality, total=sum(map(cost, requests)), speed="")
            started = perf_counter()
            while left and rounds < ROUNDS:
                nodes = self._find_nodes(spec, left, mark)
                # Closed before the cluster is left, whatever happens here.
                with closing(run(self._make_work(spec, nodes), left, nodes)) as chunks:
                    for done in chunks:
                        extraction = merge([extraction, done.extraction])
                        bar.update(task, advance=done.cost, speed=speed(extraction, perf_counter() - started))
                before, left = left, _unfinished(prepared, left, extraction.problems)
                rounds += is_round(nodes, find_nodes(), any_done=len(left) < len(before))
        if left:
            raise PipelineError(_unfinished_message(left))
        return extraction

    def _make_work(self, spec: EncoderSpec, nodes: Sequence[Node]) -> Work:
        pool = plan_pool(self._config.ray, nodes, device=self._config.features.device, decodes=True)
        say(f"features: {spec.modality} by {spec.name} in {spec.precision} by {pool}")
        return Work(spec, self._config.features, pool, self._place)

    def _find_nodes(self, spec: EncoderSpec, requests: Sequence[Request], mark: list[Path]) -> list[Node]:
        """Return the machines of the cluster, which all have what the work needs."""
        paths = [Path(spec.name.partition(":")[2])]
        if any(isinstance(request.source, Segment) for request in requests):
            paths.append(Path(without_local_scheme(self._corpus_root)))
        return check_nodes(find_nodes(), [path for path in paths if path.exists()] + mark, self._place)


def _unfinished_message(left: Sequence[Request]) -> str:
    names = shorten(request.utterance_id for request in left)
    return (
        f"{counted(len(left), 'embedding')} could not be computed: {names}; every process of Ray that took them up was "
        "lost, most likely because memory ran out; the others are kept: use fewer --ray.encoders"
    )


def _unfinished(prepared: Prepared, requests: Sequence[Request], problems: Sequence[Problem]) -> list[Request]:
    """Return the requests that have neither a row in the store nor a problem."""
    store, bad = prepared.stored.own, {problem.utterance_id for problem in problems}
    store.refresh()
    missing = set(store.missing(request.key for request in requests))
    return [request for request in requests if request.key in missing and request.utterance_id not in bad]


def run(work: Work, requests: Sequence[Request], nodes: Sequence[Node]) -> Generator[Done, None, None]:
    """Embed and store requests on the cluster, and yield what became of each chunk as soon as it is done.

    Raises:
        PipelineError: the work cannot go on.
    """
    with closing(stream(partial(_dataset, work, requests), nodes)) as rows:
        for row in rows:
            done = from_json(json.loads(row["done"]), Done, where="a process of Ray")
            if done.failure:
                raise PipelineError(done.failure)
            yield done


def _dataset(work: Work, requests: Sequence[Request], tries: Any) -> Any:
    import ray.data

    unit = CHUNK_COST[work.spec.modality]
    most = unit * (CPU_FACTOR if work.pool.device == "cpu" else GPU_FACTOR)
    chunks = cut(requests, encoders=work.pool.count, least=unit / 2, most=most)
    rows = [{"chunk": Chunk(number, tuple(chunk))} for number, chunk in enumerate(chunks)]
    decoding = partial(decode_chunk, rate=work.spec.sampling_rate, place=work.place)
    decoded = ray.data.from_items(rows, override_num_blocks=len(rows)).map(decoding, **work.pool.decoding_options)
    return decoded.map_batches(
        Embedder, fn_constructor_args=(work, tries), batch_size=1, batch_format="numpy", **work.pool.options
    )
