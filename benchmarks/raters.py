"""What learning from raters is worth where it can be known: on made-up corpora.

Run `OMP_NUM_THREADS=1 python benchmarks/raters.py`; it prints a Markdown table, and `--write` puts it into
docs/benchmarks.md. In corpora of the first kind, five raters vote by a distribution that follows from the embeddings,
so it is known how near a model comes. In those of the second, labels follow from valence and arousal by a threshold
each, every turn is rated with some noise, and most training labels are gone. Each model learns each corpus with and
without what the raters say; differences are those of all test dialogues together, by a paired bootstrap over them.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from page import make_parser, publish

if TYPE_CHECKING:
    from tests.pipeline.raters import Gain

MODELS = ("lpgnet", "concat")
DIALOGUES = 96


def table(folder: Path, seeds: int) -> Iterator[str]:
    """Yield the lines of the table, as they are measured."""
    from tests.pipeline.raters import gain_of_distributions, gain_of_ratings, make_rater_config

    yield "| model | learned | measured | without | with | difference |"
    yield "|---|---|---|---:|---:|---|"
    for kind in MODELS:
        config = make_rater_config(kind)
        for unagreed, votes in (("drop", "votes with a majority"), ("use", "all votes")):
            found = gain_of_distributions(folder / kind, config, seeds=seeds, unagreed=unagreed, dialogues=DIALOGUES)
            yield line(kind, votes, "divergence", found)
        for loss in ("ccc", "mse"):
            learned = replace(config, model=replace(config.model, dimension_loss=loss))
            found = gain_of_ratings(folder / kind, learned, seeds=seeds, dialogues=DIALOGUES)
            yield line(kind, f"ratings, by {loss}", "weighted F1", found)


def line(kind: str, learned: str, measured: str, gain: "Gain") -> str:
    """Return a row of the table."""
    low, high = gain.difference.interval
    return (
        f"| {kind} | {learned} | {measured} | {gain.without:.3f} | {gain.learned:.3f} "
        f"| {gain.difference.value:+.3f} [{low:+.3f}, {high:+.3f}] |"
    )


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="corpora of each kind (default: 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = table(Path(folder), options.seeds)
        publish(lines, script="raters.py", write=options.write, how=f"{options.seeds} corpora of each kind")


if __name__ == "__main__":
    main()
