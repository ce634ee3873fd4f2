"""Groups of recordings: what one process labels and writes at a time, whichever engine has given them to it."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lpgnet.pipeline.errors import PipelineError, for_people
from lpgnet.pipeline.labelling.made_from import Origin, Origins, digest
from lpgnet.pipeline.recordings.sources import Source
from lpgnet.pipeline.reports.parquet import Entry, Fingerprints
from lpgnet.pipeline.reports.timeline import Timeline, write_timeline

if TYPE_CHECKING:
    from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline, Failed

# What a group has at most, if it has more than one: a part of the Parquet dataset, and what is lost with a process.
GROUP_SOURCES, GROUP_BYTES = 256, 64 * 2**20


@dataclass(frozen=True)
class Labelled:
    """A timeline that was written, with a title to show and its files."""

    title: str
    timeline: Timeline
    paths: list[Path]


@dataclass(frozen=True)
class Outcome:
    """What came of a source: little enough to travel between machines.

    Attributes:
        about: how people know the source.
        name: of its timeline.
        turns: how many were labelled.
        error: why it could not be; None where it was.
    """

    about: str
    name: str
    turns: int = 0
    error: PipelineError | None = None

    def __str__(self) -> str:
        if self.error is None:
            return self.about
        message = " ".join(str(self.error).split())
        return f"failed: {message if message.startswith(self.about) else f'{self.about}: {message}'}"


def cut(sources: Sequence[Source], *, processes: int | None = None) -> Iterator[list[Source]]:
    """Cut sources into groups.

    For processes that take one after another the groups are ever smaller, so that none works alone at last: a group has
    at most half of a process's share of what is left (guided self-scheduling, Polychronopoulos and Kuck 1987).

    Args:
        sources: in this order.
        processes: how many take groups; None where this one takes them all.
    """
    waiting = deque(sources)
    while waiting:
        share = len(waiting) // (2 * processes) if processes else GROUP_SOURCES
        yield _taken(waiting, max(1, min(GROUP_SOURCES, share)))


def _taken(waiting: deque[Source], most: int) -> list[Source]:
    group: list[Source] = []
    total = 0
    while waiting and len(group) < most:
        total += waiting[0].size
        if group and total > GROUP_BYTES:
            break
        group.append(waiting.popleft())
    return group


@dataclass(frozen=True)
class GroupLabeller:
    """Labels groups with a loaded model, and writes their timelines.

    Attributes:
        debug: raise the first error as it is.
    """

    pipeline: EmotionPipeline
    origins: Origins
    debug: bool = False

    def label(
        self, group: Sequence[Source], on_labelled: Callable[[Labelled], None] | None = None
    ) -> Generator[Outcome, None, None]:
        """Label a group and write its files, and at its end, or where it breaks off, its part of the dataset.

        Args:
            group: sources that are not up to date.
            on_labelled: is called with each timeline once its files are written.

        Raises:
            PipelineError: the part cannot be written.
        """
        found = zip(group, self.origins.of(group), self.pipeline.label_many(group), strict=True)
        done: list[Entry] = []
        try:
            for source, origin, one in found:
                try:
                    labelled = self._written(source, one, origin)
                except Exception as error:
                    if self.debug:
                        raise
                    yield Outcome(str(source), source.name, error=for_people(error))
                    continue
                done.append(Entry(labelled.timeline, str(source), digest(origin)))
                if on_labelled:
                    on_labelled(labelled)
                yield Outcome(str(source), source.name, len(labelled.timeline.rows))
        finally:
            if done and self.origins.dataset:
                self.origins.dataset.add(done, self._fingerprints)

    def _written(self, source: Source, found: Timeline | Failed, origin: Origin) -> Labelled:
        """Write the files of a timeline."""
        if not isinstance(found, Timeline):
            raise found.error
        config, formats = self.origins.config, self.origins.formats
        with self.pipeline.seconds.of("outputs"):
            paths = write_timeline(found, self.origins.out, formats, config.page, csv_raw=config.csv_raw)
        # Last, so that an interrupted timeline is made again.
        self.origins.remember(source, origin)
        return Labelled(str(source), found, paths)

    @cached_property
    def _fingerprints(self) -> Fingerprints:
        files = self.origins.digests(self.origins.model_files)
        model = hashlib.sha256(json.dumps(list(files.values())).encode()).hexdigest()
        encoders = {name: encoder.spec.fingerprint for name, encoder in self.pipeline.encoders.items()}
        return Fingerprints(model, encoders)
