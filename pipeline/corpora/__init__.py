"""Corpus readers by name: a corpus's raw layout becomes the utterances of a manifest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType

from lpgnet.pipeline.corpora import (
    crema_d,
    dailytalk,
    hub,
    iemocap,
    label_studio,
    meld,
    msp_podcast,
    ravdess,
    table,
)
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, differences, refuse_links
from lpgnet.pipeline.corpora.manifest import Utterance, check_dimensions, check_utterances
from lpgnet.pipeline.errors import UsageError, did_you_mean

__all__ = [
    "CLIPS",
    "READERS",
    "ReadCorpus",
    "Reader",
    "compare_counts",
    "fetch",
    "home",
    "known_about",
    "read_corpus",
    "reader_version",
    "refuse_links",
    "sources",
]

# The folder of such clips, beside the manifest.
CLIPS = "audio"
# Arguments of readers that are no options of the config.
_OURS = ("clips", "follow_links", "fetched")


@dataclass(frozen=True)
class Reader:
    """One corpus layout.

    Attributes:
        read: `read(root, **options) -> ReadCorpus`; its keyword arguments are the options of the config.
        sources: takes the same arguments; returns the files that the manifest depends on.
        published: how many utterances the corpus is published with; empty where that is not known.
        about: what is known of its speech.
        version: raised whenever the same files give another manifest.
        writes_clips: `read` also takes `clips`, the folder into which it writes clips that the corpus holds as bytes,
            and `follow_links`, as it reads recordings for that.
        home: takes the arguments of `read`; returns the folder that the corpus's files lie in.
        fetch: takes the arguments of `read`; downloads the corpus, if it is one to download, and returns its folder,
            which `read`, `sources` and `home` then take as `fetched`. None where a corpus is never downloaded.
    """

    read: Callable[..., ReadCorpus]
    sources: Callable[..., list[Path]]
    published: PublishedCounts
    about: About
    version: int
    writes_clips: bool
    home: Callable[..., str]
    fetch: Callable[..., Path | None] | None


def _reader_in(module: ModuleType, *, writes_clips: bool = False) -> Reader:
    return Reader(
        read=module.read,
        sources=module.sources,
        published=module.PUBLISHED_COUNTS,
        about=getattr(module, "ABOUT", About()),
        version=module.VERSION,
        writes_clips=writes_clips,
        home=getattr(module, "home", lambda root, **_: root),
        fetch=getattr(module, "fetch", None),
    )


READERS = {
    "iemocap": _reader_in(iemocap),
    "meld": _reader_in(meld),
    "msp_podcast": _reader_in(msp_podcast),
    "dailytalk": _reader_in(dailytalk),
    "crema_d": _reader_in(crema_d),
    "ravdess": _reader_in(ravdess),
    "table": _reader_in(table),
    "datasets": _reader_in(hub, writes_clips=True),
    "label_studio": _reader_in(label_studio),
}


def fetch(reader: str, root: str, **options: object) -> Path | None:
    """Download a corpus that has to be, and return the folder that it is now in; None where it lies at its root.

    Handed to `sources`, `home` and `read_corpus`, it keeps them to what was downloaded, whatever becomes of the source.

    Raises:
        UsageError: no such reader, or no such option.
        PipelineError: it cannot be downloaded.
    """
    known = _reader(reader, options)
    return known.fetch(root, **options) if known.fetch else None


def _handed(fetched: Path | None) -> dict[str, object]:
    return {} if fetched is None else {"fetched": fetched}


def read_corpus(
    reader: str,
    root: str,
    *,
    clips: Path = Path(CLIPS),
    follow_links: bool = True,
    fetched: Path | None = None,
    **options: object,
) -> ReadCorpus:
    """Read a corpus with the reader of that name.

    Args:
        reader: one of `READERS`.
        root: folder of the corpus.
        clips: folder into which a reader writes clips that the corpus holds as bytes.
        follow_links: whether recordings that a reader copies may be links out of the corpus.
        fetched: what `fetch` gave.
        options: keyword arguments of that reader's `read`.

    Raises:
        UsageError: no such reader, or no such option.
        PipelineError: the corpus cannot be read; names the file and the line.
    """
    known = _reader(reader, options)
    copying = {"clips": clips, "follow_links": follow_links} if known.writes_clips else {}
    corpus = known.read(root, **options, **copying, **_handed(fetched))
    check_utterances(corpus.utterances, source=root)
    check_dimensions(corpus.utterances, corpus.ranges, source=root)
    return corpus


def sources(reader: str, root: str, *, fetched: Path | None = None, **options: object) -> list[Path]:
    """Return the files that the manifest of a corpus depends on, sorted, without reading them.

    Transcripts, label files and tables, no audio. A folder stands for the names of the files in it.

    Raises:
        UsageError: no such reader, or no such option.
        PipelineError: the corpus is not there.
    """
    return sorted(_reader(reader, options).sources(root, **options, **_handed(fetched)))


def home(reader: str, root: str, *, fetched: Path | None = None, **options: object) -> str:
    """Return the folder that the files of a corpus lie in: its root, or that of a download."""
    return _reader(reader, options).home(root, **options, **_handed(fetched))


def compare_counts(reader: str, utterances: Sequence[Utterance]) -> list[str]:
    """Return warnings where the counts by label, session or split differ from those the corpus is published with."""
    return differences(utterances, _reader(reader, {}).published)


def reader_version(reader: str) -> int:
    """Return the version of the reader of that name, which the manifest depends on as on the corpus's files.

    Raises:
        UsageError: no such reader.
    """
    return _reader(reader, {}).version


def known_about(reader: str, given: About) -> About:
    """Return what the reader knows of its corpus's speech, but for what the user says of it."""
    said = {name: value for name, value in asdict(given).items() if value is not None}
    return replace(_reader(reader, {}).about, **said)


def _reader(name: str, options: Mapping[str, object]) -> Reader:
    if name not in READERS:
        raise UsageError(f"no corpus reader '{name}'{did_you_mean(name, READERS)}; readers: {', '.join(READERS)}")
    known = [option for option in list(inspect.signature(READERS[name].read).parameters)[1:] if option not in _OURS]
    for option in options:
        if option not in known:
            raise UsageError(
                f"corpus.options: reader {name} has no option '{option}'{did_you_mean(option, known)};"
                f" its options: {', '.join(known) or 'none'}"
            )
    return READERS[name]
