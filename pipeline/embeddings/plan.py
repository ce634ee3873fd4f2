"""Which embedding every utterance needs, by content key, and reading them back from the feature store."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lpgnet.cache import FeatureStore, StatCache, StoredRows, StoreError, audio_key, text_key
from lpgnet.pipeline.common.console import Lines
from lpgnet.pipeline.common.files import is_address
from lpgnet.pipeline.common.processes import current_launch
from lpgnet.pipeline.common.remote_files import RemoteFiles, has_version
from lpgnet.pipeline.corpora.audio import AudioInfo, Segment, describe, locate, segment_of
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import MissingExtraError, PipelineError, kind_and_words

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
    """What one modality of a manifest needs, and what the files hold that it needs."""

    requests: tuple[Request, ...]
    problems: tuple[Problem, ...]
    files: Mapping[str, AudioInfo] = field(default_factory=dict)

    def without(self, utterance_ids: Collection[str]) -> Plan:
        """Return the plan without the requests of some utterances."""
        kept = tuple(request for request in self.requests if request.utterance_id not in utterance_ids)
        return replace(self, requests=kept)


# An audio file and what it holds, or why it cannot be used.
DescribedFile = tuple[str, AudioInfo] | str


def plan_audio(
    utterances: Sequence[Utterance], root: str, stat_cache: StatCache | None, *, follow_links: bool = True
) -> Plan:
    """Find the audio that each utterance needs; a file that the stat cache knows is not read again."""
    spoken = [utterance for utterance in utterances if utterance.audio is not None]
    audios = {str(utterance.audio) for utterance in spoken}
    files = _describe_all(audios, root, stat_cache, follow_links=follow_links)
    plan = _plan(_audio_request(utterance, files[str(utterance.audio)]) for utterance in spoken)
    return replace(plan, files=dict(found for found in files.values() if not isinstance(found, str)))


def _plan(found: Iterable[Request | Problem]) -> Plan:
    listed = list(found)
    requests = tuple(one for one in listed if isinstance(one, Request))
    return Plan(requests, tuple(one for one in listed if isinstance(one, Problem)))


def _audio_request(utterance: Utterance, described: DescribedFile) -> Request | Problem:
    if isinstance(described, str):
        return Problem(utterance.utterance_id, described)
    file, info = described
    try:
        segment = segment_of(file, info, start=utterance.start, end=utterance.end, channel=utterance.channel)
        key = audio_key(info.digest, segment.start, segment.end, segment.channel)
    except Exception as error:
        return Problem(utterance.utterance_id, why(error))
    return Request(utterance.utterance_id, key, segment)


def why(error: Exception) -> str:
    """Say what is wrong with one utterance, whatever it is: the others must not suffer for it."""
    known = isinstance(error, PipelineError | StoreError)
    return str(error) if known else f"cannot be used ({kind_and_words(error)})"


def _describe_all(
    audios: Iterable[str], root: str, stat_cache: StatCache | None, *, follow_links: bool
) -> dict[str, DescribedFile]:
    """Describe each file of the corpus, or say why it cannot be used."""
    files, described = {}, {}
    for audio in sorted(audios):
        try:
            files[audio] = locate(root, audio, follow_links=follow_links)
        except PipelineError as error:
            described[audio] = str(error)
    found = _describe_files(files.values(), stat_cache)
    return described | {audio: _described(file, found[file]) for audio, file in files.items()}


def _described(file: str, found: dict[str, Any]) -> DescribedFile:
    return found["problem"] if "problem" in found else (file, AudioInfo(**found))


def _describe_files(files: Iterable[str], stat_cache: StatCache | None) -> dict[str, dict[str, Any]]:
    """Call `describe_or_problem` for each file; one that has not changed is not read again."""
    found = sorted(set(files))
    values = _known_of(stat_cache, found) if stat_cache else {}
    return values | {file: describe_or_problem(file) for file in found if file not in values}


def _known_of(stat_cache: StatCache, files: Sequence[str]) -> dict[str, dict[str, Any]]:
    remote = [file for file in files if is_address(file)]
    local = [file for file in files if not is_address(file) and os.path.isfile(file)]
    return _look_up(stat_cache, local) | (_look_up_remote(stat_cache, remote) if remote else {})


def _look_up_remote(stat_cache: StatCache, addresses: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Describe the files of which it can be told whether they changed; of one that cannot be used the problem."""
    versions = RemoteFiles().sure_versions(addresses)
    describe_one = _telling_how_far(len(versions))

    def describe_still(address: str) -> tuple[dict[str, Any], bool]:
        found = describe_one(address)
        return found, "problem" not in found and has_version(address, versions[address])

    return stat_cache.lookup_versions("recording", versions, describe_still)


def _look_up(stat_cache: StatCache, files: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Describe files through the cache, one by one where one of them goes away or changes meanwhile."""
    try:
        describe_one = _telling_how_far(len(files))
        found = stat_cache.lookup_many(map(Path, files), lambda path: describe_one(str(path)))
    except StoreError as error:
        if len(files) == 1:
            return {files[0]: {"problem": str(error)}}
        return {file: value for one in files for file, value in _look_up(stat_cache, [one]).items()}
    # What was wrong may have passed (a disk that was not there), so a problem is never taken from the cache.
    return {file: value for file, value in zip(files, found, strict=True) if "problem" not in value}


def _telling_how_far(count: int) -> Callable[[str], dict[str, Any]]:
    """Return what describes files, and tells every few seconds of how many it did: videos are decoded for it."""
    if not current_launch().is_main:
        return describe_or_problem
    lines = Lines("note", "files")
    task = lines.add_task("recordings", total=count, note="")

    def describe_one(file: str) -> dict[str, Any]:
        found = describe_or_problem(file)
        lines.update(task, advance=1)
        return found

    return describe_one


def describe_or_problem(file: str) -> dict[str, Any]:
    """Describe a recording in a form that the stat cache keeps.

    Raises:
        MissingExtraError: an extra is needed, which is told once and not of each of thousands of videos.
    """
    try:
        return asdict(describe(file))
    except MissingExtraError:
        raise
    except Exception as error:
        return {"problem": why(error)}


def plan_text(utterances: Sequence[Utterance], context_turns: int) -> Plan:
    """Find the words that each utterance needs, with up to `context_turns` turns before it."""
    dialogues = groupby(utterances, key=lambda utterance: utterance.dialogue_id)
    return _plan(found for _, turns in dialogues for found in _text_requests(turns, context_turns))


def _text_requests(turns: Iterable[Utterance], context_turns: int) -> Iterator[Request | Problem]:
    """Yield one dialogue's requests, in turn order."""
    said: list[str] = []
    for utterance in turns:
        if utterance.text is None:
            continue
        text = " ".join(utterance.text.split())
        if not text:
            yield Problem(utterance.utterance_id, "its text is empty; transcribe it or set it to null")
            continue
        context = tuple(said[-context_turns:]) if context_turns else ()
        yield Request(utterance.utterance_id, text_key(text, context), Words(text, context))
        said.append(text)


def imported_key(utterance_id: str) -> bytes:
    """Return the key of an embedding that was computed elsewhere: there may be no recording to take a key from."""
    return text_key(utterance_id, ("imported",))


def plan_imported(utterances: Sequence[Utterance], store: FeatureStore) -> Plan:
    """Find the imported embeddings; an utterance without one lacks the modality."""
    keys = {utterance.utterance_id: imported_key(utterance.utterance_id) for utterance in utterances}
    missing = set(store.missing(keys.values()))
    return Plan(tuple(Request(name, key, Words("")) for name, key in keys.items() if key not in missing), ())


def make_plan(
    modality: str,
    utterances: Sequence[Utterance],
    *,
    root: str,
    stat_cache: StatCache,
    context_turns: int,
    follow_links: bool = True,
) -> Plan:
    """Call `plan_audio` or `plan_text`."""
    if modality == "text":
        return plan_text(utterances, context_turns)
    return plan_audio(utterances, root, stat_cache, follow_links=follow_links)


@dataclass(frozen=True)
class Embeddings:
    """One modality's embeddings of N utterances: `values` `(N, K, D)` float32 and each utterance's row in it."""

    values: np.ndarray
    rows: dict[str, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one embedding, `(K, D)`."""
        return self.values.shape[1:]

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self.rows

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        """Return an utterance's embedding `(K, D)`."""
        embedding: np.ndarray = self.values[self.rows[utterance_id]]
        return embedding

    def read(self, utterance_ids: Iterable[str]) -> Iterator[np.ndarray]:
        """Yield the embedding `(K, D)` of each of these utterances."""
        return map(self.__getitem__, utterance_ids)


@dataclass(frozen=True)
class StoredEmbeddings:
    """One modality's embeddings in the store, each read when it is asked for; rows with frames are averaged over them.

    Attributes:
        shape: of one embedding, `(K, D)`.
        keys: of each utterance that has one.
    """

    shape: tuple[int, ...]
    keys: dict[str, bytes]
    stored: StoredRows

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self.keys

    def read(self, utterance_ids: Iterable[str]) -> Iterator[np.ndarray]:
        """Yield the embedding `(K, D)` of each of these utterances."""
        keys = [self.keys[utterance_id] for utterance_id in utterance_ids]
        return (pool_frames(row.values) for row in self.stored.read(keys))


def stored_embeddings(plan: Plan, spec: EncoderSpec, stored: StoredRows) -> StoredEmbeddings:
    """Return what a plan needs, to be read from the store.

    Raises:
        PipelineError: an embedding is not in the store.
    """
    missing = set(stored.missing(request.key for request in plan.requests))
    if missing:
        raise PipelineError(
            f"{len(missing)} of {len(plan.requests)} {spec.modality} embeddings by {spec.name} are not in the store; "
            "run the features stage with this configuration first"
        )
    keys = {request.utterance_id: request.key for request in plan.requests}
    first = next((pool_frames(row.values) for row in stored.read([*keys.values()][:1])), np.zeros((1, 1)))
    return StoredEmbeddings(first.shape, keys, stored)


def stack_embeddings(values: Mapping[str, np.ndarray], *, empty_shape: tuple[int, int]) -> Embeddings:
    """Stack each utterance's embedding, `(K, D)` or `(n_frames, K, D)`; `empty_shape` (K, D) is that of none."""
    pooled = [pool_frames(one) for one in values.values()]
    stacked = np.stack(pooled) if pooled else np.zeros((0, *empty_shape), np.float32)
    return Embeddings(stacked, {utterance_id: row for row, utterance_id in enumerate(values)})


def pool_frames(values: np.ndarray) -> np.ndarray:
    """Average `(n_frames, K, D)` over frames, float32; return a pooled `(K, D)` as it is."""
    return values.mean(axis=0, dtype=np.float64).astype(np.float32) if values.ndim == 3 else values
