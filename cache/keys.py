"""Content keys: what names a row is what the embedding was computed from, never a path or an index."""

import hashlib
import operator
import re
import struct
from collections.abc import Sequence
from typing import BinaryIO

from lpgnet.cache.errors import StoreError

KEY_BYTES = 16
_BLOCK_BYTES = 2**20
_DIGEST = re.compile(r"[0-9a-f]{16,128}")


def file_digest(file: BinaryIO) -> str:
    """Compute the SHA-256 of an open binary file.

    A cryptographic digest, because a file made to collide with another would be served its embedding.

    Args:
        file: open for reading; it is read to its end.

    Returns:
        64 hexadecimal digits, as `sha256sum` prints them.
    """
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def audio_key(digest: str, start: int, end: int, channel: int | None) -> bytes:
    """Compute the key of the samples [start, end) of a file.

    Args:
        digest: hexadecimal digest of the file's content.
        start: first sample, counted at the file's own rate.
        end: one past the last sample; the caller resolves "to the end of the file" first.
        channel: index of the channel, from 0, or None for all channels mixed.

    Returns:
        16 bytes.

    Raises:
        StoreError: the digest is not hexadecimal, or the segment is empty or reversed.
    """
    start, end = operator.index(start), operator.index(end)
    channel_index = -1 if channel is None else operator.index(channel)
    if not _DIGEST.fullmatch(digest):
        raise StoreError(f"a content digest is lowercase hexadecimal, not {digest!r}")
    if not 0 <= start < end < 2**63 or (channel is not None and channel_index < 0):
        raise StoreError(f"no such segment: samples {start} to {end}, channel {channel}")
    return _digest16(b"audio", digest.encode() + struct.pack("<qqq", start, end, channel_index))


def text_key(text: str, context: Sequence[str] = ()) -> bytes:
    """Compute the key of an utterance's text within its ordered context.

    Every part is preceded by its length, so that no two ways to divide the same characters share a key.

    Args:
        text: the utterance.
        context: the turns that are encoded with it, in order.

    Returns:
        16 bytes.
    """
    # surrogatepass: a lone surrogate is poor text, but it must have a key of its own too.
    parts = [part.encode("utf-8", "surrogatepass") for part in (text, *context)]
    return _digest16(b"text", b"".join(struct.pack("<q", len(part)) + part for part in parts))


def check_key(key: bytes) -> bytes:
    """Return the key itself.

    Raises:
        StoreError: it is not 16 bytes.
    """
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise StoreError(f"a key is {KEY_BYTES} bytes, not {key!r}")
    return key


def _digest16(kind: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES, person=kind).digest()
