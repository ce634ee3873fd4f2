"""What every corpus reader shares: what it gives, where its files may lie, and the check against published counts."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import cast

from lpgnet.cache.addresses import without_local_scheme
from lpgnet.pipeline.common.files import check_driver, is_address
from lpgnet.pipeline.corpora.audio import refuse_link
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean, shorten

# {("session", "label"): {("Ses01", "ang"): 229}}: how many utterances have these values of these fields.
PublishedCounts = Mapping[tuple[str, ...], Mapping[tuple[str, ...], int]]


@dataclass(frozen=True)
class ReadCorpus:
    """What a reader found.

    Attributes:
        utterances: dialogues contiguous, in turn order.
        warnings: what people should know about the corpus's files, one line each.
        version: of the reader; raised whenever the same files give another manifest.
        ranges: the lowest and the highest rating that its raters could give, of each dimension that they rated.
        root: the folder that the recordings' paths are relative to; None: the corpus's.
    """

    utterances: list[Utterance]
    warnings: list[str]
    version: int
    ranges: Ranges = field(default_factory=dict)
    root: str | None = None


def corpus_root(root: str) -> Path:
    """Return the corpus's folder: a local one, or an fsspec address such as `s3://bucket/corpus` that acts like one.

    Raises:
        PipelineError: there is no such folder, or nothing here reads such addresses.
    """
    root = without_local_scheme(root)
    folder = _remote(root) if is_address(root) else Path(root).expanduser()
    if not folder.is_dir():
        raise PipelineError(f"{root}: no such folder; set corpus.root to the folder that holds the corpus")
    return folder


def _remote(root: str) -> Path:
    from upath import UPath

    check_driver(root)
    return cast(Path, UPath(root))


def one_file(root: str, name: str | None, *, option: str, what: str, suffixes: Sequence[str]) -> Path:
    """Return the file of a corpus that is named, or else the only one of its kind that lies in the root.

    Args:
        root: folder of the corpus.
        name: its path in that folder, or None.
        option: the reader's option that names it.
        what: it is, in one word.
        suffixes: of its kind, in lower case.

    Raises:
        PipelineError: there is no such folder, or it holds none or several of the kind.
        UsageError: the name is no text.
    """
    folder = corpus_root(root)
    if not isinstance(name, str | None):
        raise UsageError(f"corpus.options.{option}: give the name of a file in quotes, not {name!r:.60}")
    if name is not None:
        return folder / name
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name[0] != ".")
    if len(found) == 1:
        return found[0]
    names = shorten(path.name for path in found) or "none"
    kinds = " or ".join(", ".join(suffixes).rsplit(", ", 1))
    raise PipelineError(f"{root}: must hold one {what} ({kinds}) but holds {names}; name it in corpus.options.{option}")


def one_of(value: object, known: Collection[str], *, option: str) -> None:
    """Refuse a value of a reader's option that is none of those it takes.

    Raises:
        UsageError: names the option and the nearest value.
    """
    if value not in list(known):
        near = did_you_mean(value, known) if isinstance(value, str) else ""
        raise UsageError(f"corpus.options.{option}: {value!r:.60} is not one of {', '.join(known)}{near}")


def without(lacking: Mapping[str, Sequence[Utterance]], utterances: Sequence[Utterance]) -> list[str]:
    """Return one warning for each thing, said in the key, that some of the utterances lack."""
    return [
        f"{what}: {len(those)} of {len(utterances)} utterances: {shorten(one.utterance_id for one in those)}"
        for what, those in lacking.items()
        if those
    ]


def refuse_links(files: Iterable[Path], root: str) -> None:
    """Refuse files of a local corpus that links lead out of its root.

    Raises:
        PipelineError: there is one; names it.
    """
    if not is_address(without_local_scheme(root)):
        for file in files:
            refuse_link(str(file), root)


def inside_root(audio: str, *, where: str) -> str:
    r"""Return a path of the corpus unchanged if it stays inside the corpus root.

    Args:
        audio: path relative to the root, with `/` or `\` between its parts.
        where: the file and line, for the error.

    Raises:
        PipelineError: the path is absolute or leaves the root.
    """
    windows = PureWindowsPath(audio)
    if windows.is_absolute() or windows.anchor or audio.startswith("~"):
        raise PipelineError(f"{where}: audio '{audio}' is absolute; give it relative to the corpus root")
    if posixpath.normpath(windows.as_posix()).split("/")[0] == "..":
        raise PipelineError(f"{where}: audio '{audio}' leaves the corpus root; give a path inside it")
    return audio


def differences(utterances: Sequence[Utterance], published: PublishedCounts) -> list[str]:
    """Return one warning for each group of fields whose counts differ from the published ones.

    The first group is the coarsest. Where it differs already, as of a part of the corpus, it alone is told.
    """
    groups = [_differences_by(names, utterances, counts) for names, counts in published.items()]
    told = groups[:1] if any(groups[:1]) else groups
    return [warning for group in told for warning in group]


def _differences_by(
    names: tuple[str, ...], utterances: Iterable[Utterance], published: Mapping[tuple[str, ...], int]
) -> list[str]:
    found = Counter(tuple(getattr(utterance, name) or "-" for name in names) for utterance in utterances)
    wrong = [
        f"{' '.join(key) or 'all'} {found[key]} instead of {count}"
        for key, count in published.items()
        if found[key] != count
    ]
    by = f"utterances by {' and '.join(names)}" if names else "utterances"
    return [f"{by} differ from the published counts: {shorten(wrong)}"] if wrong else []
