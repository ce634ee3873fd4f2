"""Stage 2, features: manifest -> cached embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import say, show
from lpgnet.pipeline.common.processes import current_launch
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.embeddings.extraction import Extraction, speed
from lpgnet.pipeline.embeddings.fill_store import Filled, fill_store
from lpgnet.pipeline.errors import PipelineError, counted


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("features", arguments, Config)
    filled = fill_store(config)
    if current_launch().is_main:
        print_filled(filled)
        report_problems(filled, on_error=config.features.on_error)
    return 0


def print_filled(filled: Sequence[Filled]) -> None:
    """Print what was computed for each modality."""
    for one in filled:
        done, spec = one.extraction, one.spec
        show(f"{spec.modality} by {spec.name}: {counted(one.wanted, 'utterance')}, {one.cached} already cached")
        if one.served:
            show(f"  {one.served.line}")
        if done.computed:
            show(f"  computed {_work(done)}")
        for flag, count in sorted(done.flags.items()):
            show(f"  {count} {flag}")
        for line in one.told:
            show(f"  {line}")


def _work(done: Extraction) -> str:
    hours = f" ({done.audio_seconds / 3600:.2f} h)" if done.audio_seconds else ""
    facts = [speed(done, done.seconds)]
    if done.size:
        facts.append(f"padded/real {(done.size + done.padding) / done.size:.2f}")
    if done.audio_seconds:
        facts.append(f"waited {done.seconds_waited:.1f} s for decoding")
    return f"{done.computed}{hours} in {done.seconds:.1f} s: {', '.join(facts)}"


def report_problems(filled: Sequence[Filled], *, on_error: str) -> None:
    """Name every bad utterance.

    Args:
        filled: what was done for each modality.
        on_error: `stop` refuses bad utterances, `skip` goes on without them.

    Raises:
        PipelineError: there are some, and `on_error` is `stop`.
    """
    problems = [problem for one in filled for problem in one.extraction.problems]
    for problem in problems:
        say(f"bad utterance {problem.utterance_id}: {problem.message}")
    if problems and on_error == "stop":
        raise PipelineError(
            f"{counted(len(problems), 'utterance')} could not be embedded, as told above; the others are cached. "
            "Correct what is wrong, or go on without with --features.on_error skip"
        )


if __name__ == "__main__":
    module_main("features")
