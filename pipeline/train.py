"""Stage 3, train: embeddings -> model, the epoch chosen on development data only."""

from __future__ import annotations

from collections.abc import Sequence

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show
from lpgnet.pipeline.common.processes import agree, current_launch, make_accelerator
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.training.described import DescribedCorpus, describe_corpus
from lpgnet.pipeline.training.freshness import is_trained, tell_done


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("train", arguments, Config)
    launch, corpus = current_launch(), describe_corpus(config)
    done = is_trained(config, corpus)
    if launch.size > 1:
        _agree(config, done)
    if not done:
        _train(config, corpus)
    elif launch.is_main:
        tell_done(config.run_folder)
    if launch.is_main:
        show(f"run folder: {config.run_folder}")
    return 0


def _agree(config: Config, done: bool) -> None:
    """Refuse machines of which only some find the run done: the others would wait for them."""
    make_accelerator(config.training.device, config.training.mixed_precision)
    agree(config.run_folder, {"whether the run is done": done})


def _train(config: Config, described: DescribedCorpus) -> None:
    # Imported late: torch takes longer than it takes to see that a run is done.
    from lpgnet.pipeline.evaluation.development import measure_development
    from lpgnet.pipeline.reports.run import write_training_plot
    from lpgnet.pipeline.training.runs import load_corpus
    from lpgnet.pipeline.training.splits import make_split
    from lpgnet.pipeline.training.trainer import train_run

    accelerator = make_accelerator(config.training.device, config.training.mixed_precision)
    corpus = load_corpus(config, described)
    split = make_split(corpus.dialogues, config.splits)
    train_run(config, corpus, split, config.run_folder, accelerator, measure_development)
    if accelerator.is_main_process:
        write_training_plot(config.run_folder)


if __name__ == "__main__":
    module_main("train")
