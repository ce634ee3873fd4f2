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
from lpgnet.pipeline.embeddings.extraction import Extraction, cost, embed, merge, speed
from lpgnet.pipeline.embeddings.plan import Plan, Problem, Request
from lpgnet.pipeline.embeddings.prepared import Prepared, encoded_modalities, encoder_config, prepare_modality
from lpgnet.pipeline.embeddings.speech_search import SpeechSearch
from lpgnet.pipeline.embeddings.storing import add_row, make_writer
from lpgnet.pipeline.embeddings.summaries import ModalitySummary, Served, read_summaries, write_summaries
from lpgnet.pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from lpgnet.feature_extractors import EncoderSpec

# Embeds requests of one modality and stores their rows.
Extract: TypeAlias = Callable[[Prepared, list[Request]], Extraction]
# How often what was computed becomes durable (seconds).
FLUSH_SECONDS = 30.0


@dataclass
class Filled:
    """What the stage did for one modality.

    Attributes:
        served: which embeddings are read from those of all layers.
        seconds: include loading the encoder.
        told: what else people read.
    """

    spec: EncoderSpec
    wanted: int
    cached: int
    served: Served | None
    extraction: Extraction
    seconds: float = 0.0
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
    with _engine(config, manifest.corpus.root, launch, needed=any(missing)) as extract:
        filled = [_fill_modality(*pair, launch, extract) for pair in zip(prepared, missing, strict=True)]
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
    """Yield what embeds and stores requests: this process, or the processes of a cluster that it is connected to."""
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

    everyone = gather_object([filled])
    extraction = merge([one.extraction for one in everyone])
    return replace(filled, extraction=extraction, seconds=max(one.seconds for one in everyone))


def _fill_modality(prepared: Prepared, missing: list[Request], launch: Launch, extract: Extract) -> Filled:
    """Compute this process's part of one modality's missing embeddings."""
    started = perf_counter()
    wanted = len(prepared.plan.requests)
    extraction = Extraction(problems=list(prepared.plan.problems) if launch.is_main else [])
    cached = _count_cached(prepared, missing)
    filled = Filled(prepared.spec, wanted, cached, prepared.served() if cached else None, extraction)
    share = balance(missing, [cost(request) for request in missing], launch.size)[launch.rank]
    if share:
        filled.extraction = merge([extraction, extract(prepared, share)])
        filled.extraction.problems = _share_problems(prepared.plan, filled.extraction.problems)
    filled.seconds = perf_counter() - started
    return filled


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


def _extract(config: FeaturesConfig, prepared: Prepared, requests: list[Request], *, shown: bool) -> Extraction:
    """Embed requests and write them to the store, a shard at a time, with a progress bar where it is `shown`."""
    from lpgnet.feature_extractors import load_encoder

    quiet_transformers()
    extraction = Extraction()
    spec, device = prepared.spec, resolve_device(config.device)
    encoder = load_encoder(spec, device=device)
    if shown:
        say(f"features: {spec.modality} by {spec.name} in {spec.precision} {place(device, encoder)}")
    pairs = embed(
        encoder, requests, extraction, device=device, workers=config.workers, batch_budget=config.batch_budget
    )
    bar = progress_bar("speed", unit="s of audio" if spec.modality == "audio" else "characters", shown=shown)
    # Closed where writing fails, so that no process goes on decoding.
    with closing(pairs), make_writer(prepared.stored.own, encoder, config.dtype) as writer, bar:
        task = bar.add_task(spec.modality, total=sum(map(cost, requests)), speed="")
        started = flushed = perf_counter()
        for request, embedding in pairs:
            add_row(writer, request, embedding)
            bar.update(task, advance=cost(request), speed=speed(extraction, perf_counter() - started))
            if perf_counter() - flushed > FLUSH_SECONDS:
                writer.flush()
                flushed = perf_counter()
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
