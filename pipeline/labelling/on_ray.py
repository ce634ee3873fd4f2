"""Labelling on a Ray cluster: groups of recordings to processes that hold the model, little rows back."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.ray_cluster import Place, Pool, check_nodes, connected, find_nodes, marked, plan_pool
from lpgnet.pipeline.common.ray_stream import ROUNDS, is_round, may_begin, stream
from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.errors import PipelineError, UsageError, for_people
from lpgnet.pipeline.labelling.groups import GroupLabeller, Outcome, cut
from lpgnet.pipeline.labelling.made_from import Origins
from lpgnet.pipeline.labelling.model_folders import about_folder, local_parts
from lpgnet.pipeline.recordings.sources import Source

_LOST = "every process of Ray that took it up was lost; perhaps memory ran out, or its file ends the decoder"


@dataclass(frozen=True)
class Group:
    """What is sent to a process."""

    number: int
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Work:
    """What a process needs in order to label: it is sent to every machine."""

    config: PredictionConfig
    pool: Pool
    place: Place


def label_on_ray(sources: Sequence[Source], origins: Origins) -> Generator[Outcome, None, None]:
    """Label sources on the cluster of the configuration.

    Whoever labels a group writes its files, so that nothing is lost with a process, and only what came of each source
    comes back. A group whose process is lost is labelled again, and writes the same files and the same part.

    Args:
        sources: what is not up to date.
        origins: what their timelines are made from.

    Yields:
        What came of each source, in the order in which they are done.

    Raises:
        PipelineError: there is no cluster, a machine lacks the model or the folder, or files cannot be written.
    """
    with connected(origins.config.ray), marked(origins.out) as mark:
        yield from _rounds(sources, origins, mark)


def _rounds(sources: Sequence[Source], origins: Origins, mark: list[Path]) -> Iterator[Outcome]:
    """Label all, what did not come back again one by one, and give up what never does."""
    config, place = origins.config, Place.here()
    for line in about_folder(Path(config.model or "")):
        say(line)
    needed = local_parts(config) + mark
    left = {source.name: source for source in sorted(sources, key=lambda source: source.size, reverse=True)}
    rounds = 0
    while left and rounds < ROUNDS:
        nodes = check_nodes(find_nodes(), needed, place)
        pool = plan_pool(config.ray, nodes, device=config.device, decodes=False)
        say(f"predict: {pool}")
        groups = [[source] for source in left.values()] if rounds else cut(list(left.values()), processes=pool.count)
        before, dataset = len(left), partial(_dataset, Work(config, pool, place), list(groups))
        # Closed before the cluster is left, whatever happens here.
        with closing(stream(dataset, nodes)) as rows:
            for outcome in map(_outcome, rows):
                if left.pop(outcome.name, None):
                    yield outcome
        rounds += is_round(nodes, find_nodes(), any_done=len(left) < before)
    for source in left.values():
        yield Outcome(str(source), source.name, error=PipelineError(f"{source}: {_LOST}"))


def _dataset(work: Work, groups: Iterable[Sequence[Source]], tries: Any) -> Any:
    import ray.data

    items = [{"group": Group(number, tuple(group))} for number, group in enumerate(groups)]
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Labeller, fn_constructor_args=(work, tries), batch_size=1, batch_format="numpy", **work.pool.options
    )


class Labeller:
    """A process of Ray that holds the model, labels groups and writes their files."""

    def __init__(self, work: Work, tries: Any) -> None:
        self._tries = tries
        self._failure: PipelineError | None = None
        try:
            self._load(work)
        except Exception as error:
            # Ray would try again what fails again; it is told with the first group.
            self._failure = for_people(error)

    def _load(self, work: Work) -> None:
        work.place.enter(work.pool)
        from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline

        pipeline = EmotionPipeline.from_config(replace(work.config, device=work.pool.device))
        self._labeller = GroupLabeller(pipeline, Origins(work.config))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Label a batch of one group, and say what came of each of its sources."""
        (group,) = batch["group"]
        try:
            outcomes = self._label(group)
        except Exception as error:
            outcomes = [Outcome("", "", error=for_people(error))]
        rows = [_row(outcome) for outcome in outcomes]
        return {name: [row[name] for row in rows] for name in _row(Outcome("", ""))}

    def _label(self, group: Group) -> list[Outcome]:
        if self._failure:
            raise self._failure
        return list(self._labeller.label(group.sources)) if may_begin(self._tries, group.number) else []


def _row(outcome: Outcome) -> dict[str, Any]:
    error = "" if outcome.error is None else str(outcome.error)
    is_usage = isinstance(outcome.error, UsageError)
    return {"about": outcome.about, "name": outcome.name, "turns": outcome.turns, "error": error, "is_usage": is_usage}


def _outcome(row: dict[str, Any]) -> Outcome:
    """Read what `_row` made; what is about no source concerns all of them.

    Raises:
        PipelineError: the model cannot be loaded, or files cannot be written.
    """
    error = (UsageError if row["is_usage"] else PipelineError)(row["error"]) if row["error"] else None
    if error and not row["name"]:
        raise error
    return Outcome(row["about"], row["name"], row["turns"], error)
