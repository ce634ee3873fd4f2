"""One modality of a corpus, ready to be extracted or read: its encoder, its store and its plan."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from lpgnet.cache import StatCache, StoredRows, find_ids
from lpgnet.pipeline.common.processes import resolve_device
from lpgnet.pipeline.config import AudioEncoderConfig, Config, EncodersConfig, FeaturesConfig, TextEncoderConfig
from lpgnet.pipeline.corpora.manifest import Manifest
from lpgnet.pipeline.embeddings.plan import MODALITIES, Plan, Request, make_plan, plan_imported
from lpgnet.pipeline.embeddings.silence import Speech, read_speech, trim
from lpgnet.pipeline.embeddings.stores import open_store, stat_cache_file
from lpgnet.pipeline.embeddings.summaries import Served, read_summaries
from lpgnet.pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from lpgnet.feature_extractors import EncoderSpec

# Names embeddings that `lpgnet cache import` brought into the store.
IMPORTED = "imported:"


def encoded_modalities(encoders: EncodersConfig) -> list[str]:
    """Return the modalities that have an encoder.

    Raises:
        UsageError: there is none.
    """
    named = [modality for modality in MODALITIES if encoder_config(encoders, modality).name]
    if not named:
        raise UsageError("no encoder is configured: set encoders.text.name, encoders.audio.name or both")
    return named


def encoder_config(encoders: EncodersConfig, modality: str) -> AudioEncoderConfig | TextEncoderConfig:
    """Return the settings of a modality's encoder."""
    return encoders.audio if modality == "audio" else encoders.text


@dataclass(frozen=True)
class Prepared:
    """One modality of a manifest, ready to be extracted or read: the encoder's spec, the plan, and what is stored.

    Attributes:
        speech: where anybody speaks in the files of the plan; empty for text.
    """

    spec: EncoderSpec
    plan: Plan
    stored: StoredRows
    speech: Speech = field(default_factory=dict)

    def served(self) -> Served | None:
        """Count the embeddings that are read from those of all layers; None where none are."""
        served = self.stored.served(request.key for request in self.plan.requests)
        if not served or self.stored.whole is None:
            return None
        count = sum(request.key in served for request in self.plan.requests)
        return Served(self.stored.whole.fingerprint, self.stored.layers, count)


@dataclass(frozen=True)
class Share:
    """Of a modality, what is to be embedded: one request for each key.

    Attributes:
        requests: may be none.
    """

    prepared: Prepared
    requests: list[Request]


def prepare_modality(
    config: Config, manifest: Manifest, modality: str, *, find: Callable[[Plan], Speech] | None = None
) -> Prepared:
    """Resolve the encoder without loading it, open its store and find every utterance's key.

    Args:
        config: the experiment.
        manifest: its utterances.
        modality: text or audio.
        find: finds the speech in the files of a plan; None reads what the features stage has found.

    Raises:
        PipelineError: imported embeddings are not in the store.
        UsageError: imported embeddings are to be trimmed.
    """
    stat_cache = StatCache(stat_cache_file(config.features))
    name = str(encoder_config(config.encoders, modality).name)
    if name.startswith(IMPORTED):
        if modality == "audio" and config.encoders.audio.trim != "none":
            raise UsageError("key 'encoders.audio.trim': imported embeddings are as they are; set it to none")
        return _prepare_imported(config, manifest, modality)
    spec = _resolve(config, modality, stat_cache)
    plan = make_plan(
        modality,
        manifest.utterances,
        root=manifest.corpus.root,
        stat_cache=stat_cache,
        context_turns=config.encoders.text.context_turns,
        follow_links=config.corpus.follow_links,
    )
    speech = (find(plan) if find else read_speech(config.folder)) if modality == "audio" else {}
    if modality == "audio" and config.encoders.audio.trim == "speech":
        plan = trim(plan, speech)
    return Prepared(spec, plan, _find_stored(config.features, spec, plan, stat_cache), speech)


def _find_stored(features: FeaturesConfig, spec: EncoderSpec, plan: Plan, stat_cache: StatCache) -> StoredRows:
    """Find what is stored of a plan: also among the embeddings of all layers, where the encoder's own lack some."""
    from lpgnet.feature_extractors import resolve_all_layers

    own = open_store(features, spec.fingerprint)
    if not own.missing(request.key for request in plan.requests):
        return StoredRows(own)
    found = resolve_all_layers(spec, digest_file=remembered(stat_cache))
    if found is None:
        return StoredRows(own)
    whole, layers = found
    return StoredRows(own, open_store(features, whole.fingerprint), layers)


def _prepare_imported(config: Config, manifest: Manifest, modality: str) -> Prepared:
    name = str(encoder_config(config.encoders, modality).name)
    spec = imported_spec(name, modality)
    store = open_store(config.features, spec.fingerprint)
    plan = plan_imported(manifest.utterances, store)
    if not plan.requests:
        options = {"--store": config.features.store, "--manifest": str(config.folder), "--modality": modality}
        command = shlex.join(["lpgnet", "cache", "import", name.removeprefix(IMPORTED), *chain(*options.items())])
        raise PipelineError(f"{name}: the store has no such embeddings of this corpus; import them first: {command}")
    return Prepared(spec, plan, StoredRows(store))


def imported_spec(name: str, modality: str) -> EncoderSpec:
    """Make the spec of embeddings that were computed elsewhere: their fingerprint is of the file, and of its ids' list.

    Args:
        name: `imported:FILE`.
        modality: text or audio.

    Raises:
        PipelineError: there is no such file.
        StoreError: it is a matrix, and there is no list of ids beside it.
    """
    from lpgnet.feature_extractors import Settings, digest_file, make_spec

    file = Path(name.removeprefix(IMPORTED))
    if not file.is_file():
        raise PipelineError(
            f"{file}: no such file of embeddings; give an .npz or .safetensors file with one array per utterance id, "
            "or an .npy matrix with a list of ids beside it"
        )
    content = {"imported": digest_file(file)}
    if file.suffix == ".npy":
        content["ids"] = digest_file(find_ids(file))
    return make_spec(name, modality, Settings(modality=modality, layers="all"), None, content)


def _resolve(config: Config, modality: str, stat_cache: StatCache) -> EncoderSpec:
    from lpgnet.feature_extractors import resolve_spec

    settings = encoder_config(config.encoders, modality)
    return resolve_spec(
        str(settings.name),
        modality=modality,
        layers=settings.layers,
        pooling=settings.pooling,
        precision=_precision(config, modality),
        trust_remote_code=settings.trust_remote_code,
        digest_file=remembered(stat_cache),
        max_seconds=config.encoders.audio.max_seconds,
        window=config.encoders.audio.window,
    )


def remembered(stat_cache: StatCache) -> Callable[[Path], str]:
    """Make a `digest_file` that reads no file again that has not changed."""
    from lpgnet.feature_extractors import digest_file

    return lambda path: str(stat_cache.lookup(path, lambda file: {"sha256": digest_file(file)})["sha256"])


def _precision(config: Config, modality: str) -> str:
    """Resolve `auto` once for an encoder in an experiment and keep it, so that another device does not change it."""
    settings = encoder_config(config.encoders, modality)
    if settings.precision != "auto":
        return settings.precision
    known = _auto_precisions(config.folder, modality)
    if settings.name in known:
        return known[settings.name]
    from lpgnet.feature_extractors import resolve_precision

    try:
        device = resolve_device(config.features.device)
    except UsageError:
        if config.engine == "local":
            raise
        problem = "auto looks at this machine, which has no such GPU as Ray's may have; say bf16 or fp32"
        raise UsageError(f"encoders.{modality}.precision: {problem}") from None
    return resolve_precision("auto", device)


def _auto_precisions(folder: Path, modality: str) -> dict[str, str]:
    summary = read_summaries(folder).get(modality)
    return summary.auto_precision if summary else {}


def skipped_utterances(config: Config, modality: str) -> set[str]:
    """Return the utterances of an experiment that the user chose to leave out, as they cannot be embedded.

    What cannot be trimmed may well be embedded whole.
    """
    summary = read_summaries(config.folder).get(modality)
    trim = config.encoders.audio.trim if modality == "audio" else "none"
    return set(summary.skipped) if summary and summary.trim == trim else set()
