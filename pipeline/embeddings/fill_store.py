"""Fill the feature store with the embeddings that a corpus needs and the store does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from lpgnet.pipeline.common.console import progress_bar, quiet_transformers, say
from lpgnet.pipeline.common.processes import Launch, balance, current_launch, make_accelerator, resolve_device
from lpgnet.pipeline.common.ray_cluster import connected, import_ray
from lpgnet.pipeline.common.threads import place
from lpgnet.pipeline.config import Config, FeaturesConfig
from lpgnet.pipeline.corpora.manifest import read_manifest
from lpgnet.pipeline.embeddings.extraction import UNITS, Extraction, cost, embed, merge, speed
from lpgnet.pipeline.embeddings.plan import Plan, Problem, Request
from lpgnet.pipeline.embeddings.prepared import (
    Prepared,
    Share,
    encoded_modalities,
    encoder_config,
    prepare_modality,
)
from lpgnet.pipeline.embeddings.speech_search import SpeechSearch
from lpgnet.pipeline.embeddings.storing import add_row, make_writer
from lpgnet.pipeline.embeddings.summaries import ModalitySummary, Served, read_summaries, write_summaries
from lpgnet.pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from lpgnet.feature_extractors import EncoderSpec

# Embeds what there is of each modality and stores its rows; an extraction for each.
Extract: TypeAlias = Callable[[list[Share]], list[Extraction]]
# How often what was computed becomes durable (seconds).
FLUSH_SECONDS = 30.0


@dataclass
class Filled:
    """What the stage did for one modality.

    Attributes:
        served: which embeddings are read from those of all layers.
        told: what else people read.
    """

    spec: EncoderSpec
    wanted: int
    cached: int
    served: Served | None
    extraction: Extraction
    told: tuple[str, ...] = ()


def fill_store(config: Config) -> list[Filled]:
    """Compute and store every embedding that the configuration needs and the store does not have.

    With several processes each computes a share; Ray shares the work out by itself.

    Returns:
        What was done for each modality, by all processes together.

    Raises:
        PipelineError: the corpus was not prepared, the processes resolved different encoders, or Ray cannot be used.
        UsageError: Ray is the engine of several processes.
    """
    launch = current_launch()
    _check_engine(config, launch)
    manifest = read_manifest(config.folder)
    search = SpeechSearch(config, launch)
    modalities = encoded_modalities(config.encoders)
    prepared = [prepare_modality(config, manifest, modality, find=search) for modality in modalities]
    missing = [_missing(one) for one in prepared]
    if launch.size > 1:
        _agree([one.spec.fingerprint for one in prepared], config.features.device)
    filled = [_look(*pair, launch) for pair in zip(prepared, missing, strict=True)]
    shares = [Share(*pair) for pair in zip(prepared, [_own(requests, launch) for requests in missing], strict=True)]
    with _engine(config, manifest.corpus.root, launch, needed=any(missing)) as extract:
        filled = [_add(*three) for three in zip(filled, prepared, extract(shares), strict=True)]
    if launch.size > 1:
        filled = [_gather(one) for one in filled]
    filled = [replace(one, told=search.told(of)) for one, of in zip(filled, prepared, strict=True)]
    if launch.is_main:
        write_summaries(config.folder, {one.spec.modality: _summary(config, one) for one in filled})
    return filled


def _check_engine(config: Config, launch: Launch) -> None:
    """Say at once what would be wrong only after every file was read."""
    if config.engine == "ray":
        if launch.size > 1:
            raise UsageError("--engine ray shares the work out by itself: start one process, without LAUNCH")
        import_ray()


@contextmanager
def _engine(config: Config, root: str, launch: Launch, *, needed: bool) -> Iterator[Extract]:
    """Yield what embeds and stores shares: this process, or the processes of a cluster that it is connected to."""
    if config.engine == "local" or not needed:
        yield partial(_extract, config.features, shown=launch.is_main)
        return
    from lpgnet.pipeline.embeddings.ray_extraction import RayExtraction

    with connected(config.ray):
        yield RayExtraction(config, root)


def _agree(fingerprints: list[str], device: str) -> None:
    """Wait until every process has read the store: their parts match only if none has written before.

    Raises:
        PipelineError: the processes resolved different encoders.
    """
    from accelerate.utils import gather_object

    make_accelerator("cpu" if device == "cpu" else "auto")
    if len(set(gather_object(fingerprints))) > len(set(fingerprints)):
        raise PipelineError(
            "the processes found different encoders: their files differ, or precision `auto` means something else on "
            "another machine; use the same files, and set encoders.audio.precision and encoders.text.precision"
        )


def _gather(filled: Filled) -> Filled:
    """Wait until every process has written its shards, and add up what they did, in the time of the slowest."""
    from accelerate.utils import gather_object

    return replace(filled, extraction=merge([one.extraction for one in gather_object([filled])]))


def _look(prepared: Prepared, missing: list[Request], launch: Launch) -> Filled:
    """Say what there is of a modality before anything is computed."""
    extraction = Extraction(problems=list(prepared.plan.problems) if launch.is_main else [])
    cached = _count_cached(prepared, missing)
    served = prepared.served() if cached else None
    return Filled(prepared.spec, len(prepared.plan.requests), cached, served, extraction)


def _own(missing: list[Request], launch: Launch) -> list[Request]:
    """Return this process's part of what is missing."""
    return balance(missing, [cost(request) for request in missing], launch.size)[launch.rank]


def _add(filled: Filled, prepared: Prepared, done: Extraction) -> Filled:
    """Add what was computed."""
    extraction = merge([filled.extraction, done])
    if done.problems:
        extraction.problems = _share_problems(prepared.plan, extraction.problems)
    return replace(filled, extraction=extraction)


def _count_cached(prepared: Prepared, missing: list[Request]) -> int:
    missing_keys = {request.key for request in missing}
    return sum(request.key not in missing_keys for request in prepared.plan.requests)


def _share_problems(plan: Plan, problems: list[Problem]) -> list[Problem]:
    """Repeat a problem for every utterance of equal content: they share a key and one request."""
    keys = {request.utterance_id: request.key for request in plan.requests}
    messages = {keys[problem.utterance_id]: problem.message for problem in problems if problem.utterance_id in keys}
    shared = [Problem(name, messages[key]) for name, key in keys.items() if key in messages]
    return [problem for problem in problems if problem.utterance_id not in keys] + shared


def _missing(prepared: Prepared) -> list[Request]:
    """Return one request for each key that the store does not have."""
    by_key = {request.key: request for request in prepared.plan.requests}
    return [by_key[key] for key in prepared.stored.missing(by_key)]


def _extract(config: FeaturesConfig, shares: list[Share], *, shown: bool) -> list[Extraction]:
    """Embed shares and write them to the store, one after another."""
    return [_extract_share(config, share, shown=shown) if share.requests else Extraction() for share in shares]


def _extract_share(config: FeaturesConfig, share: Share, *, shown: bool) -> Extraction:
    """Embed requests and write them to the store, a shard at a time, with a progress bar where it is `shown`."""
    from lpgnet.feature_extractors import load_encoder

    quiet_transformers()
    began, extraction = perf_counter(), Extraction()
    spec, device = share.prepared.spec, resolve_device(config.device)
    encoder = load_encoder(spec, device=device)
    if shown:
        say(f"features: {spec.modality} by {spec.name} in {spec.precision} {place(device, encoder)}")
    pairs = embed(
        encoder, share.requests, extraction, device=device, workers=config.workers, batch_budget=config.batch_budget
    )
    bar = progress_bar("speed", unit=UNITS[spec.modality], shown=shown)
    # Closed where writing fails, so that no process goes on decoding.
    with closing(pairs), make_writer(share.prepared.stored.own, encoder, config.dtype) as writer, bar:
        task = bar.add_task(spec.modality, total=sum(map(cost, share.requests)), speed="")
        started = flushed = perf_counter()
        for request, embedding in pairs:
            add_row(writer, request, embedding)
            bar.update(task, advance=cost(request), speed=speed(extraction, perf_counter() - started))
            if perf_counter() - flushed > FLUSH_SECONDS:
                writer.flush()
                flushed = perf_counter()
    extraction.seconds = perf_counter() - began
    return extraction


def _summary(config: Config, filled: Filled) -> ModalitySummary:
    """Summarize how the embeddings were made: `auto` precision is read back from here."""
    spec, modality = filled.spec, filled.spec.modality
    chosen = encoder_config(config.encoders, modality)
    before = read_summaries(config.folder).get(modality)
    resolved = {str(chosen.name): spec.precision} if chosen.precision == "auto" else {}
    skipped = [problem.utterance_id for problem in filled.extraction.problems]
    return ModalitySummary(
        spec=spec.to_dict(),
        auto_precision=(before.auto_precision if before else {}) | resolved,
        context_turns=config.encoders.text.context_turns if modality == "text" else 0,
        utterances=filled.wanted,
        skipped=skipped if config.features.on_error == "skip" else [],
        served=filled.served,
        trim=config.encoders.audio.trim if modality == "audio" else "none",
    )
