"""Stage 3, train: embeddings -> model, the epoch chosen on development data only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show
from lpgnet.pipeline.common.processes import Launch, agree, current_launch, make_accelerator
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.described import DescribedCorpus, describe_corpus
from lpgnet.pipeline.training.freshness import is_trained, tell_done


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("train", arguments, Config)
    launch = current_launch()
    try:
        corpus = describe_corpus(config)
        done = is_trained(config, corpus)
    except PipelineError:
        # What is wrong here is told here; the others are told that it is.
        with suppress(PipelineError):
            _agree(config, launch, "cannot begin")
        raise
    _agree(config, launch, "done" if done else "to be trained")
    if not done:
        _train(config, corpus)
    elif launch.is_main:
        tell_done(config.run_folder)
    if launch.is_main:
        show(f"run folder: {config.run_folder}")
    return 0


def _agree(config: Config, launch: Launch, state: str) -> None:
    """Refuse machines that find the run in different states: they would wait for each other."""
    if launch.size > 1:
        make_accelerator(config.training.device, config.training.mixed_precision)
        agree(config.run_folder, {"the state of the run": state})


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
