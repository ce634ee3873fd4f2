"""Extraction: requests -> embeddings, decoding ahead of the encoder and setting bad utterances aside."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from lpgnet.pipeline.common.threads import threads_for
from lpgnet.pipeline.common.workers import Workers
from lpgnet.pipeline.corpora.audio import Segment, read_segment
from lpgnet.pipeline.embeddings.plan import Problem, Request, Words, why
from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from lpgnet.feature_extractors import Embedding, Encoder, Item

    # What the encoder takes for a request, or why there is none.
    Decoded: TypeAlias = Item | Problem

# What is decoded, embedded and handed on together: enough to fill batches, little enough to keep in memory.
CHUNK_COST = {"audio": 60.0, "text": 50_000.0}
# What cost is measured in, for people.
UNITS = {"audio": "s of audio", "text": "characters"}
# A GPU takes batches of minutes, so it gets chunks of half an hour to sort.
GPU_FACTOR = 30
# Chunks that are decoded while the encoder works on another.
CHUNKS_AHEAD = 2


@dataclass
class Extraction:
    """What an extraction did; `embed` fills it while it runs.

    Attributes:
        problems: utterances that could not be embedded.
        flags: how many embeddings carry each flag of the encoder (padded, silent, ...).
        size: samples or tokens of the utterances that went through the encoder.
        padding: samples or tokens that were added to fill the batches.
        seconds_waited: how long the encoder waited for decoding.
        seconds: how long all took by the clock, loading the encoder included; 0 as long as it goes on.
    """

    computed: int = 0
    audio_seconds: float = 0.0
    size: int = 0
    padding: int = 0
    seconds_waited: float = 0.0
    flags: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    seconds: float = 0.0


def merge(extractions: Sequence[Extraction]) -> Extraction:
    """Add up what several processes did; seconds are those of the one that took, or waited, longest."""
    flags: Counter[str] = Counter()
    for extraction in extractions:
        flags.update(extraction.flags)
    return Extraction(
        computed=sum(one.computed for one in extractions),
        audio_seconds=sum(one.audio_seconds for one in extractions),
        size=sum(one.size for one in extractions),
        padding=sum(one.padding for one in extractions),
        seconds_waited=max(one.seconds_waited for one in extractions),
        flags=dict(flags),
        problems=[problem for one in extractions for problem in one.problems],
        seconds=max(one.seconds for one in extractions),
    )


def speed(extraction: Extraction, seconds: float) -> str:
    """Format how fast an extraction was: `12.3 x real time` of audio, or `45 utterances/s` of text."""
    if extraction.audio_seconds:
        return f"{extraction.audio_seconds / seconds:.1f} x real time"
    return f"{extraction.computed / seconds:.0f} utterances/s"


def cost(request: Request) -> float:
    """Return seconds of audio, or characters of text with its context: what chunks and parts are measured in."""
    source = request.source
    if isinstance(source, Segment):
        return source.seconds
    return float(len(source.text) + sum(map(len, source.context)))


def embed(
    encoder: Encoder,
    requests: Sequence[Request],
    extraction: Extraction,
    *,
    device: str,
    workers: int,
    batch_budget: int | None,
) -> Generator[tuple[Request, Embedding], None, None]:
    """Embed requests chunk by chunk, in memory bounded by the chunk and not by the corpus.

    Args:
        encoder: computes the embeddings.
        requests: what to embed, in this order.
        extraction: is filled with counts and problems as the work goes on.
        device: where the encoder computes.
        workers: processes that decode and resample ahead; 0 decodes here.
        batch_budget: padded samples or tokens in a batch; None leaves it to the encoder.

    Yields:
        Each request that could be embedded, and its embedding.

    Raises:
        PipelineError: a decoding process ended.
    """
    factor = 1 if device == "cpu" else GPU_FACTOR
    chunks = _chunks(requests, factor * CHUNK_COST[encoder.spec.modality])
    for chunk, items in _decode_chunks(chunks, encoder, workers, extraction):
        yield from encode_chunk(encoder, chunk, items, extraction, batch_budget)


def encode_chunk(
    encoder: Encoder,
    chunk: Sequence[Request],
    items: Sequence[Decoded],
    extraction: Extraction,
    batch_budget: int | None,
) -> Iterator[tuple[Request, Embedding]]:
    """Embed what was decoded of a chunk; arguments and what is yielded are those of `embed`."""
    extraction.problems += [item for item in items if isinstance(item, Problem)]
    pairs = [(request, item) for request, item in zip(chunk, items, strict=True) if not isinstance(item, Problem)]
    for request, embedding in _encode(encoder, pairs, extraction, batch_budget):
        _count(request, embedding, extraction)
        yield request, embedding


def _count(request: Request, embedding: Embedding, extraction: Extraction) -> None:
    extraction.computed += 1
    extraction.size += embedding.size
    extraction.padding += embedding.padding
    for flag in embedding.flags:
        extraction.flags[flag] = extraction.flags.get(flag, 0) + 1
    if isinstance(request.source, Segment):
        extraction.audio_seconds += request.source.seconds


def _encode(
    encoder: Encoder, pairs: list[tuple[Request, Item]], extraction: Extraction, batch_budget: int | None
) -> list[tuple[Request, Embedding]]:
    """Encode a chunk; items that the encoder refuses, or fails on also where they are alone, become problems."""
    from lpgnet.feature_extractors import ItemError

    try:
        with threads_for(encoder):
            embeddings = encoder.encode([item for _, item in pairs], batch_budget=batch_budget) if pairs else []
        return [(request, embedding) for (request, _), embedding in zip(pairs, embeddings, strict=True)]
    except ItemError as error:
        bad = error.problems
    except Exception as error:
        if len(pairs) > 1:
            return [one for pair in pairs for one in _encode(encoder, [pair], extraction, batch_budget)]
        bad = {0: why(error)}
    extraction.problems += [Problem(pairs[index][0].utterance_id, why) for index, why in bad.items()]
    good = [pair for index, pair in enumerate(pairs) if index not in bad]
    return _encode(encoder, good, extraction, batch_budget)


def _chunks(requests: Sequence[Request], most: float) -> Iterator[list[Request]]:
    """Cut requests, in order, where their cost reaches `most`."""
    chunk: list[Request] = []
    total = 0.0
    for request in requests:
        chunk.append(request)
        total += cost(request)
        if total >= most:
            yield chunk
            chunk, total = [], 0.0
    if chunk:
        yield chunk


def _decode_chunks(
    chunks: Iterable[list[Request]], encoder: Encoder, workers: int, extraction: Extraction
) -> Iterator[tuple[list[Request], list[Decoded]]]:
    """Yield each chunk with its decoded items; a file that cannot be decoded gives a Problem instead."""
    rate = encoder.sampling_rate
    with Workers(workers) if rate is not None and workers > 0 else nullcontext() as pool:
        ahead: deque[tuple[list[Request], list[Future[Decoded]] | None]] = deque()
        for chunk in chunks:
            ahead.append((chunk, _submit(pool, chunk, rate)))
            if len(ahead) > (CHUNKS_AHEAD if pool else 0):
                yield _collect(*ahead.popleft(), rate, extraction)
        while ahead:
            yield _collect(*ahead.popleft(), rate, extraction)


def _submit(pool: Workers | None, chunk: list[Request], rate: int | None) -> list[Future[Decoded]] | None:
    return [pool.submit(decode, request, rate) for request in chunk] if pool else None


def _collect(
    chunk: list[Request], futures: list[Future[Decoded]] | None, rate: int | None, extraction: Extraction
) -> tuple[list[Request], list[Decoded]]:
    started = perf_counter()
    try:
        items = [future.result() for future in futures] if futures else [decode(request, rate) for request in chunk]
    except BrokenProcessPool:
        raise PipelineError(
            "a decoding process ended, most likely because memory ran out; finished work is kept: run again with fewer "
            "--features.workers, or with 0 to decode in the main process"
        ) from None
    extraction.seconds_waited += perf_counter() - started
    return chunk, items


def decode(request: Request, sampling_rate: int | None) -> Decoded:
    """Return the encoder's item for a request: a waveform `(samples,)` or a TextItem; a Problem if it is unreadable."""
    source = request.source
    if isinstance(source, Words):
        from lpgnet.feature_extractors import TextItem

        return TextItem(source.text, context=source.context)
    try:
        return read_segment(source, sampling_rate or source.sampling_rate)
    except Exception as error:
        return Problem(request.utterance_id, why(error))
