"""`EncoderSpec`: which encoder, with which settings, and the fingerprint under which its embeddings are kept."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpgnet.feature_extractors.errors import EncoderError, one_line

# Raised whenever the golden outputs in tests/feature_extractors change; old embeddings are then not found.
ENCODER_VERSION = 1
POOLINGS = ("mean", "mean_std", "max", "first", "none")
PRECISIONS = ("auto", "fp32", "bf16")
WINDOWS = ("full", "tight")

JsonObject = dict[str, Any]
Layers = str | tuple[int, ...]
DigestFile = Callable[[Path], str]


@dataclass(frozen=True)
class Settings:
    """What a caller may choose, before the model's own files are looked at; `layers` is canonical."""

    modality: str | None = None
    layers: Layers = "last"
    pooling: str = "mean"
    precision: str = "fp32"
    max_seconds: float = 30.0
    trust_remote_code: bool = False
    window: str = "full"


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder by name with its settings; two specs with one fingerprint give the same embeddings.

    `layers` is `"last"`, `"all"` or indices (0 enters the first block, n leaves block n); `sampling_rate` in Hz
    and `max_seconds` (the longest window) are None for text; `precision` is `fp32` or `bf16`; `window` is `tight` where
    a model that pads its input to one length takes an utterance's own frames instead, else `full`.
    """

    name: str
    modality: str
    layers: Layers
    pooling: str
    precision: str
    sampling_rate: int | None
    max_seconds: float | None
    trust_remote_code: bool
    fingerprint: str
    window: str = "full"

    def to_dict(self) -> JsonObject:
        """Return the spec as JSON types, without a full window: what was written before had no choice."""
        fields = asdict(self)
        if self.window == "full":
            del fields["window"]
        return fields | {"layers": self.layers if isinstance(self.layers, str) else list(self.layers)}

    @classmethod
    def from_dict(cls, fields: JsonObject) -> "EncoderSpec":
        """Make a spec of what `to_dict` gave.

        Args:
            fields: the spec as JSON types.
        """
        return cls(**{**fields, "layers": canonical_layers(fields["layers"])})

    @property
    def settings(self) -> Settings:
        """Return the settings that give this spec again."""
        return Settings(
            modality=self.modality,
            layers=self.layers,
            pooling=self.pooling,
            precision=self.precision,
            max_seconds=Settings.max_seconds if self.max_seconds is None else self.max_seconds,
            trust_remote_code=self.trust_remote_code,
            window=self.window,
        )


def canonical_layers(layers: object) -> Layers:
    """Bring layers to one form: `"last"`, `"all"` or a tuple of indices.

    Args:
        layers: the same, a list of indices, or an index alone.

    Raises:
        EncoderError: it is none of these.
    """
    if layers in ("last", "all"):
        return str(layers)
    indices = layers if isinstance(layers, list | tuple) else (layers,)
    if not indices or not all(type(i) is int and i >= 0 for i in indices) or len(set(indices)) < len(indices):
        raise EncoderError(
            f"layers: {layers!r} is not 'last', 'all', an index or a list of different indices"
            " (0 enters the first block, n leaves block n)"
        )
    return tuple(indices)


def check_settings(settings: Settings) -> Settings:
    """Return the settings themselves.

    Args:
        settings: what a caller chose.

    Raises:
        EncoderError: one of them is wrong; it names which.
    """
    for field, allowed in (("pooling", POOLINGS), ("precision", PRECISIONS), ("window", WINDOWS)):
        if getattr(settings, field) not in allowed:
            raise EncoderError(f"{field}: {getattr(settings, field)!r} is none of {', '.join(allowed)}")
    if settings.modality not in (None, "audio", "text"):
        raise EncoderError(f"modality: {settings.modality!r} is neither 'audio' nor 'text'")
    # Half a second leaves every known model at least one frame beside the overlap of two windows.
    if not settings.max_seconds >= 0.5:
        raise EncoderError(f"max_seconds: {settings.max_seconds!r} is shorter than half a second")
    return settings


def check_layers(layers: Layers, n_blocks: int, name: str) -> None:
    """Refuse layers beyond the model's last block.

    Args:
        layers: in canonical form.
        n_blocks: how many blocks the model has.
        name: the encoder's, for people.

    Raises:
        EncoderError: an index lies beyond.
    """
    beyond = [index for index in layers if index > n_blocks] if isinstance(layers, tuple) else []
    if beyond:
        raise EncoderError(f"{name} has {n_blocks} blocks: layers go from 0 to {n_blocks}, not {beyond[0]}")


def digest_file(path: Path) -> str:
    """Compute the SHA-256 of a file's content; a `digest_file` given by a caller must return the same.

    Args:
        path: the file.

    Returns:
        64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(name: str, file: Path) -> JsonObject:
    """Read a JSON object, or raise an `EncoderError` that names the encoder and the file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"{name}: {file} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{name}: {file} holds no JSON object")
    return content


def resampling() -> dict[str, str]:
    """Describe what turns a recording into the encoder's sampling rate; part of every audio fingerprint."""
    return {"resampler": "soxr", "quality": "HQ", "version": importlib.metadata.version("soxr")}


def make_spec(
    name: str,
    modality: str,
    settings: Settings,
    sampling_rate: int | None,
    content: Mapping[str, object],
    *,
    can_be_tight: bool = False,
) -> EncoderSpec:
    """Make a spec whose fingerprint covers `content` and the settings, not the name.

    Args:
        name: `family:model`.
        modality: what the model is for, "audio" or "text".
        settings: what the caller chose.
        sampling_rate: in Hz; None for text.
        content: digests of the weights, config and preprocessing, as JSON types.
        can_be_tight: whether the model pads its input to one length, and can do without; others compute an utterance's
            own frames anyway, whatever `window` says.

    Raises:
        EncoderError: the settings ask for another modality.
    """
    if settings.modality not in (None, modality):
        raise EncoderError(f"{name} is an encoder for {modality}, it was given for {settings.modality}")
    audio, tight = modality == "audio", can_be_tight and settings.window == "tight"
    digested = {
        "version": ENCODER_VERSION,
        "modality": modality,
        "content": content,
        "resampling": resampling() if audio else None,
        "sampling_rate": sampling_rate,
        "layers": settings.layers,
        "pooling": settings.pooling,
        "precision": settings.precision,
        "max_seconds": float(settings.max_seconds) if audio else None,
        # Left out where it is full: fingerprints are older than the setting.
        **({"window": "tight"} if tight else {}),
    }
    return EncoderSpec(
        name=name,
        modality=modality,
        layers=settings.layers,
        pooling=settings.pooling,
        precision=settings.precision,
        sampling_rate=sampling_rate,
        max_seconds=float(settings.max_seconds) if audio else None,
        trust_remote_code=settings.trust_remote_code,
        fingerprint=digest_json(digested),
        window="tight" if tight else "full",
    )


def digest_json(content: Mapping[str, object]) -> str:
    """Digest JSON types to 32 hexadecimal digits, in whatever order they stand."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
