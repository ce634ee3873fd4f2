"""Stamps: what a stage was made from, so that a stage whose inputs have not changed does nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from lpgnet.pipeline.common.files import is_address, open_regular, write_atomically

# Up to here a file is read each time: that takes 3 ms and leaves no doubt. Transcripts, configurations and the tables
# of 40,000 utterances are smaller, weights and long recordings larger (bytes).
SMALL_BYTES = 4 * 2**20
# Of the stat cache, in the folder of the store or of what else remembers files.
STAT_CACHE_FILE = "stat.sqlite"

# What a file held, or None where it cannot be read.
Digest = str | None


def digests_of(paths: Iterable[Path], *, stat_cache: Path, large: Container[str] = ()) -> dict[str, Digest]:
    """Return the digest of what each file holds; of a folder, that of the names in it.

    Args:
        paths: files and folders.
        stat_cache: file of the store's stat cache, by whose rules a large file is read again or not.
        large: suffixes of files that count as large whatever their size: there may be thousands of recordings.
    """
    files = list(dict.fromkeys(paths))
    remote = {str(path): path for path in files if is_address(str(path))}
    local = [path for path in files if str(path) not in remote]
    remembered = [path for path in local if path.is_file() and _is_large(path, large)]
    digests = dict(zip(map(str, remembered), _remembered_digests(remembered, stat_cache), strict=True))
    digests |= _digests_at(remote, stat_cache)
    return {str(path): digests[str(path)] if str(path) in digests else _digest(path) for path in files}


def _is_large(path: Path, large: Container[str]) -> bool:
    return path.suffix.lower() in large or path.stat().st_size > SMALL_BYTES


def _digests_at(paths: Mapping[str, Path], stat_cache: Path) -> dict[str, Digest]:
    """Return the digests of the files at addresses of which it can be told whether they changed."""
    if not paths:
        return {}
    # Imported late, as below.
    from lpgnet.cache import StatCache
    from lpgnet.pipeline.common.remote_files import RemoteFiles, has_version

    versions = RemoteFiles().sure_versions(paths)

    def digest_still(address: str) -> tuple[dict[str, Digest], bool]:
        digest = _digest(paths[address])
        return {"sha256": digest}, digest is not None and has_version(address, versions[address])

    found = StatCache(stat_cache).lookup_versions("sha256", versions, digest_still)
    return {address: one["sha256"] for address, one in found.items()}


def _remembered_digests(paths: Sequence[Path], stat_cache: Path) -> list[Digest]:
    """Look all of them up at once; where one cannot be read or does not hold still, one after another."""
    if not paths:
        return []
    # Imported late: it needs numpy and pyarrow, and most stamps have no large file.
    from lpgnet.cache import StatCache, StoreError

    try:
        found = StatCache(stat_cache).lookup_many(paths, lambda path: {"sha256": digest_file(path)})
        return [str(one["sha256"]) for one in found]
    except (OSError, StoreError):
        return [None] if len(paths) == 1 else [_remembered_digests([path], stat_cache)[0] for path in paths]


def _digest(path: Path) -> Digest:
    try:
        if path.is_dir():
            return hashlib.sha256(json.dumps(sorted(inside.name for inside in path.iterdir())).encode()).hexdigest()
        return digest_file(path) if path.is_file() else None
    except (OSError, ValueError):
        return None


def digest_file(path: Path) -> str:
    """Digest what a file holds.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") if is_address(str(path)) else open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_fresh(stamp: Path, inputs: Mapping[str, object]) -> bool:
    """Tell whether the stamp was written for exactly these inputs."""
    try:
        return bool(json.loads(stamp.read_text(encoding="utf-8")) == json.loads(json.dumps(inputs)))
    except (OSError, ValueError, RecursionError):
        return False


def write_stamp(stamp: Path, inputs: Mapping[str, object]) -> None:
    """Write what the stage was made from; call it last, when all else is written."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(stamp, json.dumps(inputs, indent=2) + "\n")
