"""What the served page does with a recording: check its limits, label it, write what people look at and take home."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lpgnet.pipeline.config import ServeConfig
from lpgnet.pipeline.corpora.audio import describe
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline
from lpgnet.pipeline.labelling.page_process import Job, Tell
from lpgnet.pipeline.recordings.media import as_far_as_it_goes, decodable
from lpgnet.pipeline.reports.page import is_embedded, playable_copy
from lpgnet.pipeline.reports.timeline import HTML, Timeline, check_formats, write_timeline

# The folders of a path that starts at the root; a doubled slash between them is one.
_FOLDERS = re.compile(r"(?<![\w./])/(?:[^/\s]+/+)+")


@dataclass(frozen=True)
class Labeller:
    """Labels uploaded recordings within the limits of the configuration."""

    pipeline: EmotionPipeline
    config: ServeConfig

    @classmethod
    def from_config(cls, config: ServeConfig) -> Labeller:
        """Load the model.

        Raises:
            PipelineError: the model cannot be loaded.
        """
        return cls(EmotionPipeline.from_config(replace(config.prediction, model=config.model)), config)

    def label(self, job: Job, tell: Tell) -> list[Path]:
        """Label a recording, write its results and return their paths, the report first.

        Raises:
            PipelineError: the recording is too large or too long, or cannot be labelled.
        """
        try:
            return self._label(job, tell)
        except (PipelineError, ValueError) as error:
            raise PipelineError(without_folders(str(error))) from None

    def _label(self, job: Job, tell: Tell) -> list[Path]:
        tell(0.05, "checking the recording")
        with self._checked(job.recording) as audio:
            tell(0.2, "finding and labelling turns")
            timeline = self.pipeline.label_recording(audio, job.transcript, name=name_of(job.recording))
        tell(0.9, "writing the report")
        return self._write(_for_page(timeline, job.recording), job.target)

    @contextmanager
    def _checked(self, recording: Path) -> Iterator[Path]:
        """Give the recording in a form that libsndfile reads, if it is within the limits."""
        if not recording.is_file():
            raise PipelineError(f"{recording.name}: is no longer on the server; add it again")
        size, minutes = recording.stat().st_size / 1e6, self.config.max_minutes
        if size > self.config.max_megabytes:
            raise PipelineError(f"{recording.name}: has {size:.0f} MB, the limit is {self.config.max_megabytes:g} MB")
        with decodable(recording, max_seconds=60 * minutes) as audio:
            with as_far_as_it_goes(audio) as (part, _):
                found = describe(str(part)).seconds / 60
            if found > minutes:
                raise PipelineError(f"{recording.name}: lasts {found:.0f} min, the limit is {minutes:g} min")
            yield audio

    def _write(self, timeline: Timeline, target: Path) -> list[Path]:
        page, csv_raw = self.config.prediction.page, self.config.prediction.csv_raw
        formats = [name for name in check_formats(self.config.prediction.formats) if name != HTML]
        files = write_timeline(timeline, target, formats, page, csv_raw=csv_raw)
        if timeline.recording is not None and not is_embedded(timeline.recording, page):
            files.append(playable_copy(timeline.recording, target, timeline.name))
            timeline = replace(timeline, recording=files[-1])
        return [*write_timeline(timeline, target, (HTML,), page, csv_raw=csv_raw), *files]


def _for_page(timeline: Timeline, recording: Path) -> Timeline:
    """Users of the page must not see this machine's folders."""
    choices = tuple(without_folders(line) for line in timeline.choices)
    return replace(timeline, recording=recording, beside=True, model=Path(timeline.model).name, choices=choices)


def without_folders(line: str) -> str:
    """Shorten every path from the root to the name at its end."""
    return _FOLDERS.sub("", line)


def name_of(recording: Path) -> str:
    """Return the name of the results, also for a recording that is called `.wav`."""
    stem = recording.stem if recording.suffix else recording.name.removeprefix(".")
    return stem.strip(" .") or "recording"
