"""Encoders by name, `family:model`: finding the family, resolving a spec, loading the encoder."""

import difflib
import fnmatch
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from lpgnet.feature_extractors.errors import EncoderError, one_line
from lpgnet.feature_extractors.items import Encoder
from lpgnet.feature_extractors.spec import (
    DigestFile,
    EncoderSpec,
    Layers,
    Settings,
    canonical_layers,
    check_settings,
    digest_file,
)

ENTRY_POINTS = "lpgnet.encoders"
# Imported when first used, so that looking a name up costs no library that another family needs.
OWN_FAMILIES = {
    "hf": "lpgnet.feature_extractors.hf:HuggingFaceFamily",
    "torchaudio": "lpgnet.feature_extractors.torchaudio_bundles:TorchaudioFamily",
    "librosa": "lpgnet.feature_extractors.librosa_prosody:LibrosaFamily",
    "opensmile": "lpgnet.feature_extractors.opensmile_functionals:OpenSmileFamily",
}


class Family(Protocol):
    """What an entry point of the group `lpgnet.encoders` gives (its name is the family's); made without arguments."""

    def models(self) -> list[str]:
        """List the models that `list_encoders` shows; a family may know more than it lists."""
        ...

    def resolve(self, model: str, name: str, settings: Settings, digest: DigestFile) -> EncoderSpec:
        """Make the spec of `name` = `family:model`, without loading weights."""
        ...

    def load(self, model: str, spec: EncoderSpec, device: str) -> Encoder:
        """Load the encoder of a spec that `resolve` gave."""
        ...


@runtime_checkable
class LayeredFamily(Family, Protocol):
    """A family whose embeddings of all layers hold those of chosen ones."""

    def layers_of_all(self, model: str, spec: EncoderSpec) -> tuple[int, ...] | None:
        """Say which layers of `layers: all` are those of a spec of some, -1 for the last; None if none are."""
        ...


def resolve_spec(
    name: str,
    *,
    modality: str | None = None,
    layers: Layers | int | Sequence[int] = "last",
    pooling: str = "mean",
    precision: str = "fp32",
    max_seconds: float = 30.0,
    trust_remote_code: bool = False,
    window: str = "full",
    device: str = "cpu",
    digest_file: DigestFile = digest_file,
) -> EncoderSpec:
    """Make an encoder's spec from its config and the digests of its weight files.

    Torch is not imported for it unless `precision` is `auto`.

    Args:
        name: `family:model`.
        modality: "audio" or "text", checked against what the model is for; None takes either.
        layers: "last", "all", an index or a list of indices.
        pooling: "mean", "mean_std", "max", "first" or "none".
        precision: "fp32", "bf16" or "auto".
        max_seconds: the longest window of audio.
        trust_remote_code: whether code that comes with the model may run.
        window: "full", or "tight" for a model that pads its input to one length to compute an utterance's own frames.
        device: what "auto" is resolved for.
        digest_file: may remember what `lpgnet.feature_extractors.digest_file` returned for a file.

    Raises:
        EncoderError: there is no such encoder, or a setting does not fit it.
    """
    settings = Settings(
        modality=modality,
        layers=canonical_layers(layers),
        pooling=pooling,
        precision=precision,
        max_seconds=max_seconds,
        trust_remote_code=trust_remote_code,
        window=window,
    )
    return _resolve(name, settings, device, digest_file)


def resolve_all_layers(
    spec: EncoderSpec, *, digest_file: DigestFile = digest_file
) -> tuple[EncoderSpec, tuple[int, ...]] | None:
    """Find the encoder whose embeddings hold those of a spec: the same with all layers.

    Args:
        spec: an encoder.
        digest_file: as in `resolve_spec`.

    Returns:
        The spec with `layers: all`, and which of them are the given spec's, in order; None where that is not so: the
        spec is it itself, its layers cannot be told apart, or `last` comes after a norm behind the last block.

    Raises:
        EncoderError: there is no such encoder any more.
    """
    family, model = _find(spec.name)
    if spec.layers == "all" or not isinstance(family, LayeredFamily):
        return None
    layers = family.layers_of_all(model, spec)
    if layers is None:
        return None
    return _resolve(spec.name, replace(spec.settings, layers="all"), "cpu", digest_file), layers


def load_encoder(
    encoder: str | EncoderSpec,
    *,
    device: str = "cpu",
    digest_file: DigestFile = digest_file,
    **settings: Any,
) -> Encoder:
    """Load an encoder, frozen and ready.

    Args:
        encoder: `family:model`, or a spec, which is resolved again.
        device: where it runs.
        digest_file: as in `resolve_spec`.
        settings: those of `resolve_spec`; they go with a name only.

    Raises:
        EncoderError: it cannot be loaded, or the model's files have changed since the spec was made.
    """
    if isinstance(encoder, str):
        spec = resolve_spec(encoder, device=device, digest_file=digest_file, **settings)
    elif settings:
        raise EncoderError(f"{encoder.name}: a spec has its settings already, leave out {', '.join(settings)}")
    else:
        spec = _resolve_unchanged(encoder, device, digest_file)
    family, model = _find(spec.name)
    return family.load(model, spec, device)


def list_encoders(pattern: str = "*") -> list[str]:
    """List the names that match a shell pattern (a pattern without wildcard matches anywhere in the name).

    `hf:` names any model of the hub or of a local folder; those listed are known to work well.
    """
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    names = [f"{family}:{model}" for family, place in _families().items() for model in _load(family, place).models()]
    return [name for name in names if fnmatch.fnmatch(name.lower(), wanted.lower())]


def resolve_precision(precision: str, device: str = "cpu") -> str:
    """Turn `auto` into `bf16` where the device has instructions for it, else into `fp32`.

    Args:
        precision: `fp32`, `bf16` or `auto`.
        device: such as `cpu` or `cuda`.

    Returns:
        `fp32` or `bf16`.
    """
    if precision != "auto":
        return precision
    from lpgnet.feature_extractors.devices import has_bfloat16

    return "bf16" if has_bfloat16(device) else "fp32"


def unknown_model(name: str, known: list[str]) -> EncoderError:
    """Make the error for a model that a family with a fixed list does not have.

    Args:
        name: `family:model`, as it was asked for.
        known: the models that there are.
    """
    family = name.partition(":")[0]
    return EncoderError(f"there is no encoder {name!r}{_did_you_mean(name, [f'{family}:{m}' for m in known])}")


def _resolve(name: str, settings: Settings, device: str, digest: DigestFile) -> EncoderSpec:
    family, model = _find(name)
    precision = resolve_precision(check_settings(settings).precision, device)
    return family.resolve(model, name, replace(settings, precision=precision), digest)


def _resolve_unchanged(spec: EncoderSpec, device: str, digest: DigestFile) -> EncoderSpec:
    found = _resolve(spec.name, spec.settings, device, digest)
    if found.fingerprint != spec.fingerprint:
        raise EncoderError(
            f"{spec.name} has changed: its fingerprint is {found.fingerprint}, {spec.fingerprint} is asked for;"
            " extract the embeddings again or give the encoder as it was"
        )
    return found


def _find(name: str) -> tuple[Family, str]:
    """The family of an encoder, and the name of its model there."""
    family, colon, model = name.partition(":")
    families = _families()
    if colon and model and family in families:
        return _load(family, families[family]), model
    if not colon:
        raise EncoderError(f"an encoder is named family:model, {name!r} has no family; did you mean 'hf:{name}'?")
    known = list_encoders() if model else [f"{known}:" for known in families]
    raise EncoderError(f"there is no encoder {name!r}{_did_you_mean(name, known)}")


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), [entry.lower() for entry in known], n=1, cutoff=0.5)
    match = next((entry for entry in known if close and entry.lower() == close[0]), None)
    return f"; did you mean {match!r}?" if match else f"; the families are {', '.join(_families())}"


def _families() -> Mapping[str, str]:
    return OWN_FAMILIES | {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


def _load(name: str, place: str) -> Family:
    module, _, attribute = place.partition(":")
    try:
        family: Family = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise EncoderError(f"the encoder family {name!r} cannot be loaded: {one_line(error)}") from error
    return family
