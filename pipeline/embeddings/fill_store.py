"""Fill the feature store with the embeddings that a corpus needs and the store does not have."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from lpgnet.cache import flag_bits
from lpgnet.pipeline.common.console import progress_bar, quiet_transformers, say
from lpgnet.pipeline.common.processes import Launch, balance, current_launch, make_accelerator, resolve_device
from lpgnet.pipeline.common.threads import place
from lpgnet.pipeline.config import Config, FeaturesConfig
from lpgnet.pipeline.corpora.manifest import read_manifest
from lpgnet.pipeline.embeddings.extraction import Extraction, cost, embed, merge
from lpgnet.pipeline.embeddings.plan import Plan, Problem, Request
from lpgnet.pipeline.embeddings.prepared import Prepared, encoded_modalities, encoder_config, prepare_modality
from lpgnet.pipeline.embeddings.speech_search import SpeechSearch
from lpgnet.pipeline.embeddings.summaries import ModalitySummary, Served, read_summaries, write_summaries
from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from lpgnet.feature_extractors import Encoder, EncoderSpec

# Long enough for a frame's length to within half a percent (seconds).
FRAME_PROBE_SECONDS = 5
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

    With several processes each computes a share.

    Returns:
        What was done for each modality, by all processes together.

    Raises:
        PipelineError: the corpus was not prepared, or the processes resolved different encoders.
    """
    launch = current_launch()
    manifest = read_manifest(config.folder)
    search = SpeechSearch(config, launch)
    modalities = encoded_modalities(config.encoders)
    prepared = [prepare_modality(config, manifest, modality, find=search) for modality in modalities]
    missing = [_missing(one) for one in prepared]
    if launch.size > 1:
        _agree([one.spec.fingerprint for one in prepared], config.features.device)
    filled = [_fill_modality(config.features, *pair, launch) for pair in zip(prepared, missing, strict=True)]
    if launch.size > 1:
        filled = [_gather(one) for one in filled]
    filled = [replace(one, told=search.told(of)) for one, of in zip(filled, prepared, strict=True)]
    if launch.is_main:
        write_summaries(config.folder, {one.spec.modality: _summary(config, one) for one in filled})
    return filled


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


def _fill_modality(config: FeaturesConfig, prepared: Prepared, missing: list[Request], launch: Launch) -> Filled:
    """Compute this process's part of one modality's missing embeddings."""
    started = perf_counter()
    wanted = len(prepared.plan.requests)
    extraction = Extraction(problems=list(prepared.plan.problems) if launch.is_main else [])
    cached = _count_cached(prepared, missing)
    filled = Filled(prepared.spec, wanted, cached, prepared.served() if cached else None, extraction)
    share = balance(missing, [cost(request) for request in missing], launch.size)[launch.rank]
    if share:
        _extract(config, prepared, share, extraction, shown=launch.is_main)
        extraction.problems = _share_problems(prepared.plan, extraction.problems)
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


def _extract(
    config: FeaturesConfig, prepared: Prepared, requests: list[Request], extraction: Extraction, *, shown: bool
) -> None:
    """Embed requests and write them to the store, a shard at a time, with a progress bar where it is `shown`."""
    from lpgnet.feature_extractors import load_encoder

    quiet_transformers()
    spec, device = prepared.spec, resolve_device(config.device)
    encoder = load_encoder(spec, device=device)
    if shown:
        say(f"features: {spec.modality} by {spec.name} in {spec.precision} {place(device, encoder)}")
    pairs = embed(
        encoder, requests, extraction, device=device, workers=config.workers, batch_budget=config.batch_budget
    )
    bar = progress_bar("speed", unit="s of audio" if spec.modality == "audio" else "characters", shown=shown)
    store = prepared.stored.own
    description = store.description or spec.to_dict() | _frame_length(encoder)
    # Closed where writing fails, so that no process goes on decoding.
    with closing(pairs), store.writer(description, dtype=config.dtype) as writer, bar:
        task = bar.add_task(spec.modality, total=sum(map(cost, requests)), speed="")
        started = flushed = perf_counter()
        for request, embedding in pairs:
            flags = flag_bits({"checked", *embedding.flags})
            writer.add(request.key, embedding.values, n_frames=embedding.n_frames, flags=flags)
            bar.update(task, advance=cost(request), speed=speed(extraction, perf_counter() - started))
            if perf_counter() - flushed > FLUSH_SECONDS:
                writer.flush()
                flushed = perf_counter()


def _frame_length(encoder: Encoder) -> dict[str, float]:
    """Measure how long one frame is, on synthetic sound: what a store's hours of audio are counted by."""
    if encoder.sampling_rate is None:
        return {}
    sound = np.random.default_rng(0).normal(0, 0.1, FRAME_PROBE_SECONDS * encoder.sampling_rate).astype(np.float32)
    return {"seconds_per_frame": FRAME_PROBE_SECONDS / encoder.encode([sound])[0].n_frames}


def speed(extraction: Extraction, seconds: float) -> str:
    """Format how fast an extraction was: `12.3 x real time` of audio, or `45 utterances/s` of text."""
    if extraction.audio_seconds:
        return f"{extraction.audio_seconds / seconds:.1f} x real time"
    return f"{extraction.computed / seconds:.0f} utterances/s"


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
