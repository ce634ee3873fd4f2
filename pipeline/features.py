"""Stage 2, features: manifest -> cached embeddings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from lpgnet.cache import FeatureStore, StatCache
from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import progress_bar, quiet_transformers, say, show
from lpgnet.pipeline.common.files import parse_object, read_text, write_atomically
from lpgnet.pipeline.common.processes import (
    Launch,
    balance,
    current_launch,
    end_cleanly_when_terminated,
    make_accelerator,
    resolve_device,
)
from lpgnet.pipeline.config import AudioEncoderConfig, Config, TextEncoderConfig, parse_config
from lpgnet.pipeline.corpora.manifest import Manifest, read_manifest
from lpgnet.pipeline.embeddings.extraction import Extraction, cost, embed, merge
from lpgnet.pipeline.embeddings.plan import MODALITIES, Plan, Problem, Request, make_plan, plan_imported
from lpgnet.pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from lpgnet.feature_extractors import Encoder, EncoderSpec

FEATURES_FILE = "features.json"
# Names embeddings that `lpgnet cache import` brought into the store.
IMPORTED = "imported:"

# Long enough for a frame's length to within half a percent (seconds).
FRAME_PROBE_SECONDS = 5
# How often what was computed becomes durable (seconds).
FLUSH_SECONDS = 30.0


@dataclass
class Summary:
    """What the stage did for one modality; `seconds` count loading the encoder."""

    spec: EncoderSpec
    wanted: int
    cached: int
    extraction: Extraction
    seconds: float = 0.0


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line; returns the exit code."""
    config = parse_config("features", arguments, Config)
    end_cleanly_when_terminated()
    extract_features(config)
    return 0


def extract_features(config: Config) -> None:
    """Compute and cache every embedding that the configuration needs and the store does not have.

    Raises:
        PipelineError: utterances could not be embedded and `features.on_error` is stop; the good ones are cached.
    """
    launch = current_launch()
    manifest = read_manifest(config.folder)
    prepared = [prepare_modality(config, manifest, modality) for modality in encoded_modalities(config)]
    todo = [_missing(one) for one in prepared]
    if launch.size > 1:
        _agree([one.spec.fingerprint for one in prepared], config)
    summaries = [_extract_modality(config, *pair, launch) for pair in zip(prepared, todo, strict=True)]
    if launch.size > 1:
        summaries = [_gathered(summary) for summary in summaries]
    if launch.is_main:
        _write_summaries(config, summaries)
        _print_summaries(summaries)
        _report_problems(summaries, on_error=config.features.on_error)


def _agree(fingerprints: list[str], config: Config) -> None:
    """Wait until every process has looked into the store: parts are cut alike only if none has written before.

    Raises:
        PipelineError: the processes resolved different encoders.
    """
    from accelerate.utils import gather_object

    make_accelerator("cpu" if config.features.device == "cpu" else "auto")
    if len(set(gather_object(fingerprints))) > len(set(fingerprints)):
        raise PipelineError(
            "the processes see different encoders: their files differ, or `auto` precision means another on each "
            "machine; give all the same files, and set encoders.audio.precision and encoders.text.precision"
        )


def _gathered(summary: Summary) -> Summary:
    """What all processes did together, in the time of the slowest; waits until every one has written its shards."""
    from accelerate.utils import gather_object

    everyone = gather_object([summary])
    extraction = merge([one.extraction for one in everyone])
    return replace(summary, extraction=extraction, seconds=max(one.seconds for one in everyone))


def encoded_modalities(config: Config) -> list[str]:
    """The modalities that have an encoder.

    Raises:
        UsageError: there is none.
    """
    named = [modality for modality in MODALITIES if encoder_config(config, modality).name]
    if not named:
        raise UsageError("no encoder is named: set encoders.text.name, encoders.audio.name or both")
    return named


def encoder_config(config: Config, modality: str) -> AudioEncoderConfig | TextEncoderConfig:
    """The section of the configuration for a modality's encoder."""
    return config.encoders.audio if modality == "audio" else config.encoders.text


@dataclass(frozen=True)
class Prepared:
    """One modality of a manifest, ready to be extracted or read: the encoder's spec, its store and the plan."""

    spec: EncoderSpec
    store: FeatureStore
    plan: Plan


def prepare_modality(config: Config, manifest: Manifest, modality: str) -> Prepared:
    """Resolve the encoder without loading it, open its store and find every utterance's key.

    Raises:
        PipelineError: imported embeddings are not in the store.
    """
    root = Path(config.features.store)
    stat_cache = StatCache(root / "stat.sqlite")
    name = str(encoder_config(config, modality).name)
    if name.startswith(IMPORTED):
        return _prepare_imported(name, manifest, modality, root)
    spec = _resolve(config, modality, stat_cache)
    plan = make_plan(
        modality,
        manifest.utterances,
        root=manifest.corpus.root,
        stat_cache=stat_cache,
        context_turns=config.encoders.text.context_turns,
    )
    return Prepared(spec, FeatureStore(root, spec.fingerprint), plan)


def _prepare_imported(name: str, manifest: Manifest, modality: str, root: Path) -> Prepared:
    spec = imported_spec(name, modality)
    store = FeatureStore(root, spec.fingerprint)
    plan = plan_imported(manifest.utterances, store)
    if not plan.requests:
        command = f"lpgnet cache import {name.removeprefix(IMPORTED)} --manifest ... --modality {modality}"
        raise PipelineError(f"{name}: has no embedding of this corpus in the store; import it first: {command}")
    return Prepared(spec, store, plan)


def imported_spec(name: str, modality: str) -> EncoderSpec:
    """The spec of embeddings that were computed elsewhere: their fingerprint is the file's digest.

    Args:
        name: `imported:FILE`.
    """
    from lpgnet.feature_extractors import Settings, digest_file, make_spec

    file = Path(name.removeprefix(IMPORTED))
    if not file.is_file():
        raise PipelineError(
            f"{file}: no such file of embeddings; an .npz or .safetensors file by utterance id is needed"
        )
    return make_spec(name, modality, Settings(modality=modality, layers="all"), None, {"imported": digest_file(file)})


def _resolve(config: Config, modality: str, stat_cache: StatCache) -> EncoderSpec:
    from lpgnet.feature_extractors import digest_file, resolve_spec

    settings = encoder_config(config, modality)
    return resolve_spec(
        str(settings.name),
        modality=modality,
        layers=settings.layers,
        pooling=settings.pooling,
        precision=_precision(config, modality),
        trust_remote_code=settings.trust_remote_code,
        digest_file=lambda path: str(stat_cache.lookup(path, lambda file: {"sha256": digest_file(file)})["sha256"]),
        max_seconds=config.encoders.audio.max_seconds,
    )


def _precision(config: Config, modality: str) -> str:
    """`auto` is resolved once for an encoder in an experiment and kept, so that another device does not change it."""
    settings = encoder_config(config, modality)
    if settings.precision != "auto":
        return settings.precision
    known = _auto_precisions(config, modality)
    if settings.name in known:
        return known[settings.name]
    from lpgnet.feature_extractors import resolve_precision

    return resolve_precision("auto", resolve_device(config.features.device))


def _auto_precisions(config: Config, modality: str) -> dict[str, str]:
    """What `auto` was resolved to, by the encoder's name."""
    return dict(read_summaries(config.folder).get(modality, {}).get("auto_precision", {}))


def _extract_modality(config: Config, prepared: Prepared, todo: list[Request], launch: Launch) -> Summary:
    """Compute this process's part of one modality's missing embeddings."""
    started = perf_counter()
    wanted = len(prepared.plan.requests)
    extraction = Extraction(problems=list(prepared.plan.problems) if launch.is_main else [])
    summary = Summary(prepared.spec, wanted, _cached(prepared, todo), extraction)
    mine = balance(todo, [cost(request) for request in todo], launch.size)[launch.rank]
    if mine:
        _extract(config, prepared, mine, extraction, shown=launch.is_main)
        extraction.problems = _for_all_that_share(prepared.plan, extraction.problems)
    summary.seconds = perf_counter() - started
    return summary


def _cached(prepared: Prepared, todo: list[Request]) -> int:
    missing = {request.key for request in todo}
    return sum(request.key not in missing for request in prepared.plan.requests)


def _for_all_that_share(plan: Plan, problems: list[Problem]) -> list[Problem]:
    """Utterances with equal content share a key and one request; what is wrong with it is wrong with all of them."""
    keys = {request.utterance_id: request.key for request in plan.requests}
    messages = {keys[problem.utterance_id]: problem.message for problem in problems if problem.utterance_id in keys}
    shared = [Problem(name, messages[key]) for name, key in keys.items() if key in messages]
    return [problem for problem in problems if problem.utterance_id not in keys] + shared


def _missing(prepared: Prepared) -> list[Request]:
    """One request for each key that the store does not have."""
    by_key = {request.key: request for request in prepared.plan.requests}
    return [by_key[key] for key in prepared.store.missing(by_key)]


def _extract(
    config: Config, prepared: Prepared, requests: list[Request], extraction: Extraction, *, shown: bool
) -> None:
    """Embed requests and write them to the store, a shard at a time, with a progress bar where it is `shown`."""
    from lpgnet.feature_extractors import load_encoder

    quiet_transformers()
    spec, settings, device = prepared.spec, config.features, resolve_device(config.features.device)
    encoder = load_encoder(spec, device=device)
    if shown:
        say(f"features: {spec.modality} by {spec.name} in {spec.precision} on {device}")
    pairs = embed(
        encoder, requests, extraction, device=device, workers=settings.workers, batch_budget=settings.batch_budget
    )
    bar = progress_bar("speed", unit="s of audio" if spec.modality == "audio" else "characters", shown=shown)
    description = prepared.store.description or spec.to_dict() | _frame_length(encoder)
    with prepared.store.writer(description, dtype=settings.dtype) as writer, bar:
        task = bar.add_task(spec.modality, total=sum(map(cost, requests)), speed="")
        started = flushed = perf_counter()
        for request, embedding in pairs:
            writer.add(request.key, embedding.values, n_frames=embedding.n_frames)
            bar.update(task, advance=cost(request), speed=_speed(extraction, perf_counter() - started))
            if perf_counter() - flushed > FLUSH_SECONDS:
                writer.flush()
                flushed = perf_counter()


def _frame_length(encoder: Encoder) -> dict[str, float]:
    """How long one frame is, measured on made-up sound: what a store's hours of audio are counted by."""
    if encoder.sampling_rate is None:
        return {}
    sound = np.random.default_rng(0).normal(0, 0.1, FRAME_PROBE_SECONDS * encoder.sampling_rate).astype(np.float32)
    return {"seconds_per_frame": FRAME_PROBE_SECONDS / encoder.encode([sound])[0].n_frames}


def _speed(extraction: Extraction, seconds: float) -> str:
    if extraction.audio_seconds:
        return f"{extraction.audio_seconds / seconds:.1f} x real time"
    return f"{extraction.computed / seconds:.0f} utterances/s"


def _write_summaries(config: Config, summaries: list[Summary]) -> None:
    """Keep what the embeddings were made by: `auto` precision is read back from here."""
    values = read_summaries(config.folder)
    for summary in summaries:
        skipped = [problem.utterance_id for problem in summary.extraction.problems]
        spec, modality = summary.spec, summary.spec.modality
        chosen = encoder_config(config, modality)
        resolved = {str(chosen.name): spec.precision} if chosen.precision == "auto" else {}
        values[modality] = {
            "spec": spec.to_dict(),
            "auto_precision": _auto_precisions(config, modality) | resolved,
            "context_turns": config.encoders.text.context_turns if modality == "text" else 0,
            "utterances": summary.wanted,
            "skipped": skipped if config.features.on_error == "skip" else [],
        }
    write_atomically(config.folder / FEATURES_FILE, json.dumps(values, indent=2) + "\n")


def skipped_utterances(config: Config, modality: str) -> set[str]:
    """The utterances that have no embedding because the user chose to go on without them."""
    return set(read_summaries(config.folder).get(modality, {}).get("skipped", []))


def read_summaries(folder: Path) -> dict[str, Any]:
    """What the stage kept in an experiment's folder, by modality; empty before its first run."""
    path = folder / FEATURES_FILE
    return parse_object(read_text(path), where=str(path)) if path.exists() else {}


def _print_summaries(summaries: list[Summary]) -> None:
    for summary in summaries:
        done, spec = summary.extraction, summary.spec
        show(f"{spec.modality} by {spec.name}: {summary.wanted} utterances, {summary.cached} were cached")
        if done.computed:
            show(f"  computed {_work(done, summary.seconds)}")
        for flag, count in sorted(done.flags.items()):
            show(f"  {count} {flag}")


def _work(done: Extraction, seconds: float) -> str:
    hours = f" ({done.audio_seconds / 3600:.2f} h)" if done.audio_seconds else ""
    facts = [_speed(done, seconds)]
    if done.size:
        facts.append(f"padded/real {(done.size + done.padding) / done.size:.2f}")
    if done.audio_seconds:
        facts.append(f"{done.seconds_waited:.1f} s waited for decoding")
    return f"{done.computed}{hours} in {seconds:.1f} s: {', '.join(facts)}"


def _report_problems(summaries: list[Summary], *, on_error: str) -> None:
    """Name every bad utterance at the end.

    Raises:
        PipelineError: there are some, and the stage is not to go on without them.
    """
    problems = [problem for summary in summaries for problem in summary.extraction.problems]
    for problem in problems:
        say(f"bad utterance {problem.utterance_id}: {problem.message}")
    if problems and on_error == "stop":
        raise PipelineError(
            f"{len(problems)} utterances could not be embedded (listed above); the others are cached. "
            "Correct them, or go on without them by --features.on_error skip"
        )


if __name__ == "__main__":
    module_main("features")
