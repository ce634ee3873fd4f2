"""Label many recordings: skip those that are up to date, and continue when one fails."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from lpgnet.pipeline.common.console import progress_bar, say, show
from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.errors import PipelineError, counted, shorten
from lpgnet.pipeline.labelling.groups import GroupLabeller, Labelled, Outcome, cut
from lpgnet.pipeline.labelling.made_from import Origins
from lpgnet.pipeline.labelling.model_folders import model_folder
from lpgnet.pipeline.recordings.sources import RecordingSource, Source, check_exists
from lpgnet.pipeline.reports.parquet import Failure, TimelineDataset, in_utf8
from lpgnet.pipeline.reports.timeline import output_paths

# Of more recordings than this, only the failures are told one by one.
FEW = 20


@dataclass
class Tally:
    """What came of the sources of a run."""

    n_done: int = 0
    n_turns: int = 0
    failed: list[Outcome] = field(default_factory=list)

    def count(self, outcome: Outcome) -> None:
        """Add what came of a source."""
        if outcome.error:
            self.failed.append(outcome)
        else:
            self.n_done += 1
            self.n_turns += outcome.turns


def label_sources(
    sources: Sequence[Source], config: PredictionConfig, *, on_labelled: Callable[[Labelled], None], debug: bool = False
) -> None:
    """Label the sources that are not up to date; failures are listed at the end and stop no other source.

    Args:
        sources: recordings and dialogues.
        config: how they are labelled.
        on_labelled: is called with each timeline once its files are written, where they are few and labelled here.
        debug: raise the first error as it is.

    Raises:
        PipelineError: some recordings could not be labelled.
    """
    origins = Origins(config)
    waiting = list(sources) if config.again else origins.waiting(sources)
    if len(waiting) < len(sources):
        say(f"up to date: {len(sources) - len(waiting)} of {len(sources)} (use --again true to re-label them)")
    # What is refused of a single recording is refused before seconds are spent on the models.
    if len(sources) == 1 and waiting and isinstance(sources[0], RecordingSource):
        check_exists(sources[0].recording)
    tally = Tally()
    is_shown = len(waiting) <= FEW and config.engine == "local"
    try:
        if waiting:
            _label(waiting, origins, tally, on_labelled if is_shown else None, debug=debug)
    finally:
        if origins.dataset and (waiting or origins.dataset.folder.exists()):
            _settle(origins.dataset, tally)
    if tally.n_done and (origins.dataset or not is_shown):
        where = origins.dataset.folder if origins.dataset else origins.out
        show(f"labelled: {counted(tally.n_done, 'recording')}, {counted(tally.n_turns, 'turn')}; in {where}")
    _conclude(tally, len(sources), len(waiting))


def _settle(dataset: TimelineDataset, tally: Tally) -> None:
    """Leave each recording its newest rows, and those that failed none: what is there is what holds now.

    A group that Ray took up twice may have failed in other recordings the second time, and so be there in two parts.

    Not before anything is labelled: whatever may be wrong then takes nothing away.
    """
    dataset.settle({in_utf8(outcome.name) for outcome in tally.failed})
    dataset.write_failures(map(_failure, tally.failed))


def _label(
    waiting: Sequence[Source],
    origins: Origins,
    tally: Tally,
    on_labelled: Callable[[Labelled], None] | None,
    *,
    debug: bool,
) -> None:
    """Label what is waiting, here or on Ray, and tell how far it is."""
    model_folder(Path(origins.config.model or ""))
    _check_writable(origins.out)
    refused = {source.name: outcome for source in waiting if (outcome := _refusal(source, origins))}
    spared = [source for source in waiting if source.name not in refused]
    engine = _label_on_ray if origins.config.engine == "ray" else _label_here
    with closing(engine(spared, origins, _with_choices(on_labelled), debug)) as outcomes:
        _follow(chain(refused.values(), outcomes), tally, len(waiting))


def _follow(outcomes: Iterable[Outcome], tally: Tally, n_waiting: int) -> None:
    """Count outcomes and tell of them: of all if they are few, else of the failures beside a bar."""
    is_few = n_waiting <= FEW
    with progress_bar("note", unit="recordings", shown=not is_few) as bar:
        task = bar.add_task("predict", total=n_waiting, note="")
        for number, outcome in enumerate(outcomes, start=1):
            tally.count(outcome)
            bar.update(task, completed=number)
            if n_waiting > 1 and (is_few or outcome.error):
                say(f"{number} of {n_waiting}: {outcome}")


def _label_here(
    waiting: Sequence[Source], origins: Origins, on_labelled: Callable[[Labelled], None] | None, debug: bool
) -> Generator[Outcome, None, None]:
    from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline

    pipeline = EmotionPipeline.from_config(origins.config)
    for line in (*pipeline.about_model, f"predict: {pipeline.places}"):
        say(line)
    labeller = GroupLabeller(pipeline, origins, debug)
    for group in cut(waiting):
        yield from labeller.label(group, on_labelled)


def _label_on_ray(
    waiting: Sequence[Source], origins: Origins, on_labelled: Callable[[Labelled], None] | None, debug: bool
) -> Generator[Outcome, None, None]:
    from lpgnet.pipeline.labelling.on_ray import label_on_ray

    return label_on_ray(waiting, origins)


def _with_choices(on_labelled: Callable[[Labelled], None] | None) -> Callable[[Labelled], None] | None:
    """Tell how a timeline came about before it is shown, if it is."""
    if on_labelled is None:
        return None

    def tell(labelled: Labelled) -> None:
        for choice in labelled.timeline.choices:
            say(choice)
        on_labelled(labelled)

    return tell


def _failure(outcome: Outcome) -> Failure:
    return Failure(outcome.about, outcome.name, " ".join(str(outcome.error).split()))


def _conclude(tally: Tally, n_sources: int, n_waiting: int) -> None:
    if not tally.failed:
        return
    if n_sources == 1 and tally.failed[0].error:
        raise tally.failed[0].error
    raise PipelineError(
        f"{len(tally.failed)} of {counted(n_waiting, 'recording')} could not be labelled, for the reasons above "
        f"({shorten(outcome.about for outcome in tally.failed)}); the others are done"
    )


def _refusal(source: Source, origins: Origins) -> Outcome | None:
    """Refuse to overwrite the recording or the transcript that a timeline is made from."""
    outputs = output_paths(origins.out, source.name, origins.formats).values()
    taken = {path.resolve() for path in outputs} & {path.resolve() for path in source.files}
    if not taken:
        return None
    message = f"{shorten(sorted(taken))} would be overwritten by the timeline; choose another folder with --out"
    return Outcome(str(source), source.name, error=PipelineError(message))


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".try-"):
            pass
    except OSError as error:
        raise PipelineError(f"{out}: cannot be written ({error.strerror}); choose another folder with --out") from None
