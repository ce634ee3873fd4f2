"""Stage 1, prepare: a corpus as distributed -> manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import say, show, show_table
from lpgnet.pipeline.common.stamps import STAT_CACHE_FILE, Digest, digests_of, is_fresh, write_stamp
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.corpora import compare_counts, known_about, read_corpus, refuse_links, sources
from lpgnet.pipeline.corpora.manifest import CORPUS_FILE, MANIFEST_FILE, Corpus, Manifest, count_by, write_manifest
from lpgnet.pipeline.errors import shorten

STAMP_FILE = "prepare.json"


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("prepare", arguments, Config)
    prepare(config)
    return 0


def prepare(config: Config) -> None:
    """Write the manifest of the configured corpus, unless it is there and its sources have not changed.

    Raises:
        PipelineError: the corpus cannot be read; names the file and the row.
    """
    inputs = _inputs(config)
    if is_fresh(config.folder / STAMP_FILE, inputs | _outputs(config)):
        say(f"prepare: up to date ({config.folder / MANIFEST_FILE})")
        return
    manifest = _read(config)
    write_manifest(config.folder, manifest)
    write_stamp(config.folder / STAMP_FILE, inputs | _outputs(config))
    summarize(manifest)


def _inputs(config: Config) -> dict[str, object]:
    files = sources(config.corpus.reader, config.corpus.root, **config.corpus.options)
    if not config.corpus.follow_links:
        refuse_links(files, config.corpus.root)
    return {"corpus": asdict(config.corpus), "name": config.name, "sources": _digests(config, files)}


def _outputs(config: Config) -> dict[str, object]:
    return {"outputs": _digests(config, [config.folder / MANIFEST_FILE, config.folder / CORPUS_FILE])}


def _digests(config: Config, files: Sequence[Path]) -> dict[str, Digest]:
    return digests_of(files, stat_cache=Path(config.features.store) / STAT_CACHE_FILE)


def _read(config: Config) -> Manifest:
    corpus = read_corpus(config.corpus.reader, config.corpus.root, **config.corpus.options)
    for warning in [*corpus.warnings, *compare_counts(config.corpus.reader, corpus.utterances)]:
        say(f"warning: {warning}")
    described = Corpus(
        config.name,
        config.corpus.root,
        config.corpus.reader,
        corpus.version,
        known_about(config.corpus.reader, config.corpus.about),
    )
    return Manifest(described, tuple(corpus.utterances))


def summarize(manifest: Manifest) -> None:
    """Print how many utterances there are per label, split, speaker and session."""
    utterances = manifest.utterances
    n_dialogues = sum(1 for _ in manifest.dialogues())
    show(f"{manifest.corpus.name}: {len(utterances)} utterances in {n_dialogues} dialogues")
    rows = []
    for name in ("label", "split", "session", "speaker"):
        counts = count_by(utterances, name)
        rows.append((name, shorten((f"{value} {count}" for value, count in counts.items()), most=12)))
    show_table("", ("field", "utterances"), rows)


if __name__ == "__main__":
    module_main("prepare")
