"""Utterances with the same sound: copies of a file, or one segment given to two utterances."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from lpgnet.cache import StatCache
from lpgnet.cache.addresses import without_local_scheme
from lpgnet.pipeline.common.files import is_address, open_regular
from lpgnet.pipeline.corpora.audio import locate
from lpgnet.pipeline.corpora.manifest import Corpus, Utterance
from lpgnet.pipeline.embeddings.plan import plan_audio
from lpgnet.pipeline.errors import MissingExtraError, PipelineError

# Read of files of one size, at their middle: clips of one length are many, copies few.
PROBE_BYTES = 2**16

Member = TypeVar("Member")


def equal_clips(
    corpus: Corpus, utterances: Sequence[Utterance], stat_cache: StatCache, *, follow_links: bool
) -> list[list[str]]:
    """Find the utterances whose sound is the same, down to the byte.

    A file is read only where another of its size has the same bytes at its middle, or where two utterances are the same
    segment of it, and then not again by the features stage, which needs the same digest. A sound file is not decoded
    for it; a video is, as its length is that of its decoded sound. Nothing is read at an address, where files are told
    apart by their names.

    Args:
        corpus: where the recordings are.
        utterances: the corpus's.
        stat_cache: knows the digests of files that have not changed.
        follow_links: whether links out of the corpus are followed.

    Returns:
        Utterance ids of each group of equal ones, in the corpus's order.
    """
    spoken = [utterance for utterance in utterances if utterance.audio is not None]
    if is_address(without_local_scheme(corpus.root)):
        return _groups((_segment(one), one.utterance_id) for one in spoken)
    copies = _possible_copies(corpus, {str(utterance.audio) for utterance in spoken}, follow_links=follow_links)
    repeated = {id(one) for group in _groups((_segment(one), one) for one in spoken) for one in group}
    candidates = [one for one in spoken if one.audio in copies or id(one) in repeated]
    try:
        plan = plan_audio(candidates, corpus.root, stat_cache, follow_links=follow_links)
    except MissingExtraError:  # the features stage says so; a model of text alone needs none
        return []
    return _groups((request.key, request.utterance_id) for request in plan.requests)


def _segment(utterance: Utterance) -> Hashable:
    return utterance.audio, utterance.start, utterance.end, utterance.channel


def _possible_copies(corpus: Corpus, audios: Iterable[str], *, follow_links: bool) -> set[str]:
    """Return the files that another one of the same size may be a copy of."""
    known = [(audio, _local_file(corpus, audio, follow_links=follow_links)) for audio in sorted(audios)]
    files = [(audio, file) for audio, file in known if file]
    same_size = [pair for group in _groups((os.path.getsize(pair[1]), pair) for pair in files) for pair in group]
    return {audio for group in _groups((_probe(file), audio) for audio, file in same_size) for audio in group}


def _local_file(corpus: Corpus, audio: str, *, follow_links: bool) -> str | None:
    """Where a recording is on this disk; None for what the features stage will complain about, or fetch."""
    try:
        file = locate(corpus.root, audio, follow_links=follow_links)
    except PipelineError:
        return None
    return file if os.path.isfile(file) else None


def _probe(file: str) -> Hashable:
    try:
        with open_regular(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(size - PROBE_BYTES, 0) // 2)
            return size, hashlib.sha256(stream.read(PROBE_BYTES)).digest()
    except OSError:
        return file


def _groups(pairs: Iterable[tuple[Hashable, Member]]) -> list[list[Member]]:
    """Return the members of each key that has several, in order."""
    by_key: dict[Hashable, list[Member]] = defaultdict(list)
    for key, member in pairs:
        by_key[key].append(member)
    return [members for members in by_key.values() if len(members) > 1]
