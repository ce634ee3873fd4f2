"""Stage tune: an encoder -> the same with adapters, which have learned from the training utterances of a split."""

from __future__ import annotations

from collections.abc import Sequence

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show, show_table
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.training.tuned import read_record


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    asked = parse_config("tune", arguments, Config)
    # Imported late: torch takes longer than it takes to see that the command line is wrong.
    from lpgnet.pipeline.evaluation.development import measure_development
    from lpgnet.pipeline.reports.score_tables import tuned_table
    from lpgnet.pipeline.training.runs import load_corpus
    from lpgnet.pipeline.training.splits import make_split
    from lpgnet.pipeline.tuning.tuner import tune_encoder, tuned_folder, tuning_config

    config = tuning_config(asked)
    accelerator = make_accelerator(config.training.device, config.tune.mixed_precision)
    corpus = load_corpus(config)
    split = make_split(corpus.dialogues, config.splits)
    folder = tuned_folder(config, config.tune.modality)
    tune_encoder(config, corpus, split, folder, accelerator, measure_development)
    if accelerator.is_main_process:
        record = read_record(folder)
        table = tuned_table({f"{record.modality}, epoch {record.epoch}": [record.scores]}, of="tuned encoder")
        show_table(table.title, table.columns, table.rows)
        show(f"tuned encoder: --encoders.{config.tune.modality}.name hf:{folder}")
    return 0


if __name__ == "__main__":
    module_main("tune")
