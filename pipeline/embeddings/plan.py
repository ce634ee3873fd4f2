"""Which embedding every utterance needs, by content key, and reading them back from the feature store."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lpgnet.cache import FeatureStore, StatCache, audio_key, text_key
from lpgnet.pipeline.corpora.audio import AudioInfo, Segment, describe, is_address, locate, segment_of
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from lpgnet.feature_extractors import EncoderSpec

MODALITIES = ("text", "audio")


@dataclass(frozen=True)
class Words:
    """An utterance's text and the turns before it, oldest first."""

    text: str
    context: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """One utterance's embedding: the key it is kept under, and what it is computed from."""

    utterance_id: str
    key: bytes
    source: Segment | Words


@dataclass(frozen=True)
class Problem:
    """An utterance that cannot be embedded, and why."""

    utterance_id: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What one modality of a manifest needs."""

    requests: tuple[Request, ...]
    problems: tuple[Problem, ...]

    def without(self, utterance_ids: Collection[str]) -> Plan:
        """The plan without the requests of some utterances."""
        kept = tuple(request for request in self.requests if request.utterance_id not in utterance_ids)
        return Plan(kept, self.problems)


def plan_audio(utterances: Sequence[Utterance], root: str, stat_cache: StatCache | None) -> Plan:
    """The audio each utterance needs; a file that the stat cache knows is not read again."""
    spoken = [utterance for utterance in utterances if utterance.audio is not None]
    files = {audio: _file_of(audio, root) for audio in {str(utterance.audio) for utterance in spoken}}
    infos = _describe_all((file for file in files.values() if isinstance(file, str)), stat_cache)
    requests, problems = [], []
    for utterance in spoken:
        try:
            requests.append(_audio_request(utterance, files[str(utterance.audio)], infos))
        except PipelineError as error:
            problems.append(Problem(utterance.utterance_id, str(error)))
    return Plan(tuple(requests), tuple(problems))


def _file_of(audio: str, root: str) -> str | PipelineError:
    try:
        return locate(root, audio)
    except PipelineError as error:
        return error


def _audio_request(
    utterance: Utterance, file: str | PipelineError, infos: dict[str, AudioInfo | PipelineError]
) -> Request:
    if isinstance(file, PipelineError):
        raise file
    if isinstance(info := infos[file], PipelineError):
        raise info
    segment = segment_of(file, info, start=utterance.start, end=utterance.end, channel=utterance.channel)
    key = audio_key(info.digest, segment.start, segment.end, segment.channel)
    return Request(utterance.utterance_id, key, segment)


def _describe_all(files: Iterable[str], stat_cache: StatCache | None) -> dict[str, AudioInfo | PipelineError]:
    """What each file holds, or why it cannot be used; a local file that is as it was is not read again."""
    found = sorted(files)
    local = [file for file in found if stat_cache and not is_address(file) and os.path.isfile(file)]
    known = stat_cache.lookup_many(map(Path, local), describe_or_problem) if stat_cache else []
    # What was wrong may have passed (a disk that was not there), so a problem is never taken from the cache.
    values = {file: value for file, value in zip(local, known, strict=True) if "problem" not in value}
    values |= {file: describe_or_problem(Path(file), file) for file in found if file not in values}
    return {file: _info(value) for file, value in values.items()}


def describe_or_problem(path: Path, file: str | None = None) -> dict[str, Any]:
    """`describe` in a form that the stat cache keeps."""
    try:
        return asdict(describe(file or str(path)))
    except PipelineError as error:
        return {"problem": str(error)}


def _info(value: dict[str, Any]) -> AudioInfo | PipelineError:
    return PipelineError(value["problem"]) if "problem" in value else AudioInfo(**value)


def plan_text(utterances: Sequence[Utterance], context_turns: int) -> Plan:
    """The words each utterance needs, with up to `context_turns` turns before it."""
    requests, problems = [], []
    for _, turns in groupby(utterances, key=lambda utterance: utterance.dialogue_id):
        said: list[str] = []
        for utterance in turns:
            if utterance.text is None:
                continue
            text = " ".join(utterance.text.split())
            if not text:
                problems.append(Problem(utterance.utterance_id, "its text is empty; transcribe it or leave it null"))
                continue
            context = tuple(said[-context_turns:]) if context_turns else ()
            requests.append(Request(utterance.utterance_id, text_key(text, context), Words(text, context)))
            said.append(text)
    return Plan(tuple(requests), tuple(problems))


def imported_key(utterance_id: str) -> bytes:
    """The key of an embedding that was computed elsewhere: there may be no recording to take a key from."""
    return text_key(utterance_id, ("imported",))


def plan_imported(utterances: Sequence[Utterance], store: FeatureStore) -> Plan:
    """The imported embeddings that there are; an utterance without one lacks the modality."""
    keys = {utterance.utterance_id: imported_key(utterance.utterance_id) for utterance in utterances}
    missing = set(store.missing(keys.values()))
    return Plan(tuple(Request(name, key, Words("")) for name, key in keys.items() if key not in missing), ())


def make_plan(
    modality: str, utterances: Sequence[Utterance], *, root: str, stat_cache: StatCache, context_turns: int
) -> Plan:
    """`plan_audio` or `plan_text`."""
    return plan_audio(utterances, root, stat_cache) if modality == "audio" else plan_text(utterances, context_turns)


@dataclass(frozen=True)
class Embeddings:
    """One modality's embeddings of many utterances: `values` `(N, K, D)` float32 and each utterance's row in it."""

    values: np.ndarray
    rows: dict[str, int]

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self.rows

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        """An utterance's embedding `(K, D)`."""
        return self.values[self.rows[utterance_id]]


def read_embeddings(plan: Plan, spec: EncoderSpec, store: FeatureStore) -> Embeddings:
    """Read what a plan needs; rows with frames are averaged over them.

    Raises:
        PipelineError: an embedding is not in the store.
    """
    missing = set(store.missing(request.key for request in plan.requests))
    if missing:
        raise PipelineError(
            f"{len(missing)} of {len(plan.requests)} {spec.modality} embeddings by {spec.name} are not in the store; "
            "run the features stage with this configuration first"
        )
    keys = list(dict.fromkeys(request.key for request in plan.requests))
    places = {key: place for place, key in enumerate(keys)}
    values = (
        np.stack([pool_frames(row.values) for row in store.read(keys)]) if keys else np.zeros((0, 1, 1), np.float32)
    )
    return Embeddings(values, {request.utterance_id: places[request.key] for request in plan.requests})


def stack_embeddings(values: Mapping[str, np.ndarray], *, empty_shape: tuple[int, int]) -> Embeddings:
    """Embeddings out of each utterance's own; `empty_shape` (K, D) is that of none at all."""
    rows = [pool_frames(row) for row in values.values()]
    stacked = np.stack(rows) if rows else np.zeros((0, *empty_shape), np.float32)
    return Embeddings(stacked, {utterance_id: place for place, utterance_id in enumerate(values)})


def pool_frames(values: np.ndarray) -> np.ndarray:
    """The mean over frames of `(n_frames, K, D)`, float32; a pooled `(K, D)` is returned as it is."""
    return values.mean(axis=0, dtype=np.float64).astype(np.float32) if values.ndim == 3 else values
