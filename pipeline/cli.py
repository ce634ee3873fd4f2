"""The `lpgnet` command: one subcommand a stage; a stage's code is imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO

from lpgnet.pipeline.common.processes import leave_launch
from lpgnet.pipeline.common.stops import Stop
from lpgnet.pipeline.common.streams import MESSAGES, OUTPUT, prepare_streams
from lpgnet.pipeline.common.threads import settle_threads
from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean, for_people, in_one_line, without_secrets
from lpgnet.pipeline.presets import preset_names

STAGES = {
    "prepare": "a corpus as distributed -> manifest",
    "features": "manifest -> cached embeddings",
    "tune": "an encoder -> the same, adapted to the training utterances",
    "train": "embeddings -> model",
    "evaluate": "metrics, intervals and plots of a trained model on its test split",
    "crossval": "a table of results: models x folds x seeds",
    "search": "settings that score best on development data",
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
            f"`--preset NAME` is read beneath all that is given; the presets: {', '.join(preset_names())}.",
            "`lpgnet STAGE --help` lists every field of the configuration with its unit and default.",
            "Exit codes: 0 done, 1 failed, 2 wrong usage.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage and return the exit code; without arguments given, as the command that this process is."""
    if arguments is None:
        settle_threads()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        return _guarded(_print_usage) if arguments else _guarded(_print_usage) or 2
    return run_stage(arguments[0], arguments[1:])


def _print_usage() -> int:
    OUTPUT.write(f"{usage()}\n")
    return 0


def run_stage(stage: str, arguments: Sequence[str]) -> int:
    """Import a stage, run it and return the exit code; an error becomes one line on standard error."""
    return _guarded(
        lambda: _import_and_run(stage, arguments), debug="--debug" in arguments, keeps_work=stage != "serve"
    )


def _import_and_run(stage: str, arguments: Sequence[str]) -> int:
    if stage not in STAGES:
        raise UsageError(f"unknown stage '{stage}'{did_you_mean(stage, STAGES)}; see lpgnet --help")
    run = import_module(f"lpgnet.pipeline.{stage}").main
    try:
        with _help_written_here(arguments):
            return int(run(list(arguments)) or 0)
    except SystemExit as exit:  # argparse has said what is wrong, or shown its help
        return int(exit.code or 0)


@contextmanager
def _help_written_here(arguments: Sequence[str]) -> Iterator[None]:
    """Write argparse's help as everything is written: that of Python 3.11.2 fails where nobody reads on."""
    if not {"-h", "--help"} & {*arguments}:
        yield
        return
    shown = StringIO()
    try:
        with redirect_stdout(shown):
            yield
    finally:
        OUTPUT.write(shown.getvalue())


def _guarded(work: Callable[[], int], *, debug: bool = False, keeps_work: bool = True) -> int:
    """Do the work and return the exit code, whatever happens: a signal, an error, an output that nobody reads."""
    stop = Stop(keeps_work=keeps_work)
    try:
        stop.watch()
        prepare_streams()
        code = work()
        OUTPUT.flush()
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) or stop.signal_number:
            return stop.conclude()
        if debug:
            raise
        code = _fail(for_people(error))
    finally:
        stop.unwatch()
    return stop.conclude() if stop.signal_number else code


def _fail(error: PipelineError) -> int:
    MESSAGES.write(f"lpgnet: error: {in_one_line(without_secrets(str(error)))}\n")
    return 2 if isinstance(error, UsageError) else 1


def module_main(stage: str) -> None:
    """Exit with what a stage returns: lets `python -m lpgnet.pipeline.STAGE` do what `lpgnet STAGE` does."""
    code = run_stage(stage, sys.argv[1:])
    if code == 0:
        leave_launch()
    sys.exit(code)


def _runs_stage() -> bool:
    """Whether this process is `python -m lpgnet.pipeline.STAGE`, which imports this module before torch."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name.startswith("lpgnet.pipeline.")


if _runs_stage():
    # Not in `module_main`: the stage may import torch in between.
    settle_threads()

if __name__ == "__main__":
    sys.exit(main())
