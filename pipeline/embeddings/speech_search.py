"""The features stage's search for speech: each file once in an experiment, shared by the processes of a launch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from lpgnet.pipeline.common.console import progress_bar
from lpgnet.pipeline.common.processes import Launch, balance, make_accelerator
from lpgnet.pipeline.config import Config
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.embeddings.plan import Plan
from lpgnet.pipeline.embeddings.prepared import Prepared
from lpgnet.pipeline.embeddings.silence import (
    Source,
    Speech,
    look_for_speech,
    read_speech,
    silences,
    sources,
    summarize,
    whole,
    write_speech,
)

# How often what was found is kept (seconds).
KEEP_SECONDS = 30.0


@dataclass
class SpeechSearch:
    """Finds the speech in the files of a plan, and keeps it beside the manifest.

    Attributes:
        hours: of audio that were searched, as nobody had before.
        seconds: what that took.
    """

    config: Config
    launch: Launch
    hours: float = 0.0
    seconds: float = 0.0

    def __call__(self, plan: Plan) -> Speech:
        """Return where anybody speaks in each file of a plan, or why that cannot be told."""
        started = perf_counter()
        known = read_speech(self.config.folder)
        missing = {source: whole(plan, segment) for source, segment in sources(plan).items() if source not in known}
        found = self._shared(missing, known)
        if found and self.launch.size > 1 and self.launch.is_main:
            write_speech(self.config.folder, {**known, **found})
        self.hours += sum(file.seconds for file in missing.values()) / 3600
        self.seconds += perf_counter() - started
        return {**known, **found}

    def _shared(self, missing: dict[Source, Segment], known: Speech) -> Speech:
        """What this process and the others find."""
        costs = [file.seconds for file in missing.values()]
        share = balance(list(missing.items()), costs, self.launch.size)[self.launch.rank]
        found = self._find(dict(share), known) if share else {}
        if self.launch.size == 1:
            return found
        from accelerate.utils import gather_object

        make_accelerator("cpu" if self.config.features.device == "cpu" else "auto")
        return {source: times for part in gather_object([found]) for source, times in part.items()}

    def _find(self, wanted: dict[Source, Segment], known: Speech) -> Speech:
        """Look through files; where this process is alone, what it found is kept as it goes on."""
        found: dict[Source, list[float] | str] = {}
        kept = perf_counter()
        with progress_bar("speed", unit="s of audio", shown=self.launch.is_main) as bar:
            task = bar.add_task("speech", total=sum(file.seconds for file in wanted.values()), speed="")
            try:
                for source, segment in wanted.items():
                    found.update(look_for_speech({source: segment}))
                    bar.update(task, advance=segment.seconds)
                    if perf_counter() - kept > KEEP_SECONDS:
                        self._keep({**known, **found})
                        kept = perf_counter()
            finally:
                self._keep({**known, **found})
        return found

    def _keep(self, speech: Speech) -> None:
        if self.launch.size == 1:
            write_speech(self.config.folder, speech)

    def told(self, prepared: Prepared) -> tuple[str, ...]:
        """Say how much is not speech where it was found now, and what could not be trimmed."""
        trims = self.config.encoders.audio.trim == "speech"
        worth_it = bool(prepared.speech) and (trims or self.hours > 0)
        return tuple(self._lines(prepared, trims=trims)) if worth_it else ()

    def _lines(self, prepared: Prepared, *, trims: bool) -> Iterator[str]:
        around = silences(prepared.plan, prepared.speech)
        if self.hours and (summary := summarize(around.values())):
            yield (
                f"not speech: {summary['lead']:.2f} s before and {summary['trail']:.2f} s after the words (medians), "
                f"{summary['share']:.0%} in all; searched {self.hours:.2f} h in {self.seconds:.1f} s"
            )
        if trims and (n_whole := len(prepared.plan.requests) - len(around)):
            yield f"not trimmed: {n_whole} utterances, as no speech was found in them"
