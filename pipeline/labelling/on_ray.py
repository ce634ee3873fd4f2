"""Labelling on a Ray cluster: groups of recordings to processes that hold the model, little rows back."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.ray_cluster import (
    Place,
    Pool,
    check_nodes,
    connected,
    find_nodes,
    import_ray,
    plan_pool,
)
from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.errors import PipelineError, UsageError, for_people
from lpgnet.pipeline.labelling.groups import GroupLabeller, Outcome, cut
from lpgnet.pipeline.labelling.made_from import Origins
from lpgnet.pipeline.labelling.model_folders import about_folder
from lpgnet.pipeline.recordings.sources import Source

# A recording that is alone in its group is tried so often: what ends every process that takes it must not go on.
TRIES_ALONE = 3
_ENDED = "the process that labels it ended each time; perhaps its file crashes the decoder, or memory is short"


@dataclass(frozen=True)
class _Group:
    """What is sent to a process."""

    sources: tuple[Source, ...]


def label_on_ray(sources: Sequence[Source], origins: Origins) -> Generator[Outcome, None, None]:
    """Label sources on the cluster of the configuration.

    Whoever labels a group writes its files, so that nothing is lost with a process, and only what came of each source
    comes back. A group whose process is lost is labelled again, and its files and its part are written again.

    Args:
        sources: what is not up to date.
        origins: what their timelines are made from.

    Yields:
        What came of each source, in the order in which they are done.

    Raises:
        PipelineError: there is no cluster, a machine lacks the model or the folder, or files cannot be written.
    """
    import_ray()
    config = origins.config
    with connected(config.ray):
        nodes, place = find_nodes(), Place.here()
        check_nodes(nodes, [Path(config.model or ""), origins.out], place)
        pool = plan_pool(config.ray, nodes, device=config.device)
        for line in (*about_folder(Path(config.model or "")), f"predict: {pool}"):
            say(line)
        waiting = {source.name: source for source in sorted(sources, key=lambda source: source.size, reverse=True)}
        groups = cut(list(waiting.values()), processes=pool.count)
        yield from _told(_run(groups, config, place, pool), waiting)
        # What never came back was with something that ends its process: each alone, to find out which.
        alone = [[source] for source in waiting.values()]
        yield from _told(_run(alone, config, place, pool, max_task_retries=TRIES_ALONE), waiting)
        for source in waiting.values():
            yield Outcome(str(source), source.name, error=PipelineError(f"{source}: {_ENDED}"))
    if origins.dataset:
        origins.dataset.settle()


def _told(outcomes: Iterator[Outcome], waiting: dict[str, Source]) -> Iterator[Outcome]:
    """Let each source be told of once, and wait no more."""
    for outcome in outcomes:
        if waiting.pop(outcome.name, None):
            yield outcome


def _run(
    groups: Iterator[list[Source]] | list[list[Source]],
    config: PredictionConfig,
    place: Place,
    pool: Pool,
    **options: Any,
) -> Iterator[Outcome]:
    import ray.data

    items = [{"group": _Group(tuple(group))} for group in groups]
    if not items:
        return
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Labeller,
        fn_constructor_args=(config, place, pool),
        batch_size=1,
        batch_format="numpy",
        **pool.options | options,
    )
    for block in done.iter_batches(batch_size=None, batch_format="pyarrow"):
        for row in block.to_pylist():
            yield _outcome(row)


class _Labeller:
    """A process that holds the model and labels groups."""

    def __init__(self, config: PredictionConfig, place: Place, pool: Pool) -> None:
        place.enter(pool)
        self._config = config
        self._labeller: GroupLabeller | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        rows: list[dict[str, Any]] = []
        for group in batch["group"]:
            try:
                rows += [_row(outcome) for outcome in self._loaded().label(group.sources)]
            except Exception as error:
                rows.append(_row(Outcome("", "", error=for_people(error))))
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _loaded(self) -> GroupLabeller:
        from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline

        if self._labeller is None:
            self._labeller = GroupLabeller(EmotionPipeline.from_config(self._config), Origins(self._config))
        return self._labeller


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
