"""What timelines are made from, by content: whoever asks for one again gets the one that is there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from lpgnet.pipeline.common.stamps import STAT_CACHE_FILE, Digest, digests_of, is_fresh, write_stamp
from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.corpora.limits import MAX_RECORDING_BYTES
from lpgnet.pipeline.labelling.model_folders import model_folder
from lpgnet.pipeline.recordings.diarizers import resolve_diarizer
from lpgnet.pipeline.recordings.sources import RECORDING_SUFFIXES, Source
from lpgnet.pipeline.reports.parquet import TimelineDataset, in_utf8
from lpgnet.pipeline.reports.timeline import PARQUET, check_formats, output_paths

# Subfolder of the output folder for what each timeline was made from.
STAMPS = ".made-from"
# Raised whenever the same inputs give different outputs, so that all timelines are made again.
OUTPUT_VERSION = 4
# Fields that do not change what a timeline contains.
_NOT_IN_STAMPS = ("recordings", "transcript", "out", "again", "device", "workers", "formats", "engine", "ray")

Origin = Mapping[str, object]


@dataclass(frozen=True)
class Origins:
    """What the timelines of a configuration are made from, and which of them are there."""

    config: PredictionConfig

    @cached_property
    def formats(self) -> tuple[str, ...]:
        """The formats that have a file for each recording."""
        return tuple(form for form in check_formats(self.config.formats) if form != PARQUET)

    @cached_property
    def dataset(self) -> TimelineDataset | None:
        """The Parquet dataset, where it is asked for."""
        wanted = PARQUET in check_formats(self.config.formats)
        return TimelineDataset(self.out, scratch=self.out / STAMPS) if wanted else None

    @property
    def out(self) -> Path:
        """The folder of the timelines."""
        return Path(self.config.out)

    @cached_property
    def model_files(self) -> tuple[Path, ...]:
        """What the model is, apart from its encoders, whose fingerprints it holds."""
        model = model_folder(Path(self.config.model or ""))
        return model / "config.json", model / "model.safetensors"

    @cached_property
    def _shared(self) -> tuple[Path, ...]:
        """The files that every timeline is made from."""
        helpers = [_local_files(name) for name in (self.config.asr, self.config.aligner) if name]
        return (*self.model_files, *chain.from_iterable(helpers))

    @cached_property
    def _settings(self) -> dict[str, object]:
        chosen = {name: value for name, value in asdict(self.config).items() if name not in _NOT_IN_STAMPS}
        return {"version": OUTPUT_VERSION, "settings": chosen, "diarizer": resolve_diarizer(self.config.diarizer)}

    def of(self, sources: Sequence[Source]) -> list[Origin]:
        """Return everything that the timeline of each source depends on; files are read once for all of them."""
        digests = self.digests(chain(self._shared, *(source.files for source in sources)))
        return [
            {
                **self._settings,
                "files": {
                    **{str(path): digests[str(path)] for path in (*source.files, *self._shared)},
                    **source.versions,
                },
            }
            for source in sources
        ]

    def digests(self, files: Iterable[Path]) -> dict[str, Digest]:
        """Return the digest of each file, of large ones by the stat cache."""
        every = list(files)
        # A recording that is too large to be labelled is not read for its digest either.
        read = [path for path in every if not _is_too_large(path)]
        found = digests_of(read, stat_cache=self.out / STAMPS / STAT_CACHE_FILE, large=RECORDING_SUFFIXES)
        return dict.fromkeys(map(str, every)) | found

    def waiting(self, sources: Sequence[Source]) -> list[Source]:
        """Leave out the sources whose timelines are there, made from what they are made from now."""
        in_dataset = self.dataset.done() if self.dataset else {}
        written = [source for source in sources if self._is_written(source, in_dataset)]
        # At once for all: they share the model, and dialogues their manifest.
        origins = zip(written, self.of(written), strict=True) if written else ()
        done = {source.name for source, origin in origins if self._is_done(source, origin, in_dataset)}
        return [source for source in sources if source.name not in done]

    def remember(self, source: Source, origin: Origin) -> None:
        """Keep what the files of a source are made from; call it when they are written."""
        # One a format, as each may be older than another.
        for form in self.formats:
            write_stamp(self.stamp_path(source, form), origin)

    def stamp_path(self, source: Source, form: str) -> Path:
        """Where it is kept what a file was made from."""
        return self.out / STAMPS / f"{source.name}.{form}.json"

    def _is_written(self, source: Source, in_dataset: Mapping[str, str]) -> bool:
        paths = output_paths(self.out, source.name, self.formats)
        return all(map(os.path.isfile, paths.values())) and (not self.dataset or in_utf8(source.name) in in_dataset)

    def _is_done(self, source: Source, origin: Origin, in_dataset: Mapping[str, str]) -> bool:
        if self.dataset and in_dataset[in_utf8(source.name)] != digest(origin):
            return False
        return all(is_fresh(self.stamp_path(source, form), origin) for form in self.formats)


def digest(origin: Origin) -> str:
    """Digest what a timeline is made from."""
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()


def _local_files(name: str) -> list[Path]:
    """Return the files of a model that is named by its folder, such as `hf:models/whisper`; none of one on the hub."""
    folder = Path(os.path.expanduser(name.partition(":")[2]))
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _is_too_large(path: Path) -> bool:
    is_recording = path.suffix.lower() in RECORDING_SUFFIXES and path.is_file()
    return is_recording and path.stat().st_size > MAX_RECORDING_BYTES
