"""The `lpgnet` command: one subcommand a stage; a stage's code is imported when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean

STAGES = {
    "prepare": "a corpus as distributed -> manifest",
    "features": "manifest -> cached embeddings",
    "train": "embeddings -> model",
    "evaluate": "metrics, intervals and plots of a trained model on its test split",
    "crossval": "a table of results: models x folds x seeds",
    "compare": "whether one of two runs, or rows of a table, is better",
    "predict": "new recordings -> emotion timelines",
    "serve": "a web page to drop recordings on",
    "export": "a run's best model -> a folder to share",
    "encoders": "list the encoders, or check one",
    "cache": "inspect and maintain the feature store",
}


def usage() -> str:
    """Return what `lpgnet --help` prints."""
    lines = [f"  {name:<10} {purpose}" for name, purpose in STAGES.items()]
    return "\n".join(
        [
            "usage: lpgnet STAGE [--config FILE.yaml] [--section.field VALUE ...]",
            "",
            "Emotion recognition in conversations: recordings and transcripts to an emotion timeline.",
            "",
            "stages:",
            *lines,
            "",
            "`lpgnet STAGE --help` lists every field of the configuration with its unit and default.",
            "Exit codes: 0 done, 1 failed, 2 wrong usage.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage and return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    stage = arguments[0]
    if stage not in STAGES:
        return _fail(UsageError(f"unknown stage '{stage}'{did_you_mean(stage, STAGES)}; see lpgnet --help"))
    return run_stage(stage, arguments[1:])


def run_stage(stage: str, arguments: Sequence[str]) -> int:
    """Import a stage, run it and return the exit code; an error becomes one line on standard error."""
    try:
        return int(import_module(f"lpgnet.pipeline.{stage}").main(list(arguments)) or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("lpgnet: interrupted; finished work is kept, and the same command continues from there", file=sys.stderr)
        return 130
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _fail(error if _is_for_people(error) else _defect(error))


def _is_for_people(error: Exception) -> bool:
    """Tell whether an error says in one line what is wrong; anything else is a defect."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, PipelineError) or bool(names & {"StoreError", "EncoderError", "ModelError"})


def _defect(error: Exception) -> Exception:
    line = " ".join(str(error).split())[:300]
    return PipelineError(f"unexpected {type(error).__name__}: {line}; please report it (--debug shows where)")


def _fail(error: Exception) -> int:
    print(f"lpgnet: error: {error}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1


def module_main(stage: str) -> None:
    """Exit with what a stage returns: lets `python -m lpgnet.pipeline.STAGE` do what `lpgnet STAGE` does."""
    sys.exit(run_stage(stage, sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
