"""Stage 1, prepare: a corpus as distributed -> manifest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from lpgnet.cache import StatCache
from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import say, show, show_table
from lpgnet.pipeline.common.stamps import STAT_CACHE_FILE, Digest, digests_of, is_fresh, write_stamp
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.corpora import compare_counts, known_about, read_corpus, refuse_links, sources
from lpgnet.pipeline.corpora.manifest import CORPUS_FILE, MANIFEST_FILE, Corpus, Manifest, count_by, write_manifest
from lpgnet.pipeline.embeddings.equal_clips import equal_clips
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
    summarize(config, manifest)


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
        corpus.ranges,
    )
    return Manifest(described, tuple(corpus.utterances))


def summarize(config: Config, manifest: Manifest) -> None:
    """Print how many utterances there are per label, class, split, speaker and session, and which sound the same."""
    utterances = manifest.utterances
    n_dialogues = sum(1 for _ in manifest.dialogues())
    show(f"{manifest.corpus.name}: {len(utterances)} utterances in {n_dialogues} dialogues")
    rows = []
    for name in ("label", "split", "session", "speaker"):
        counts = count_by(utterances, name)
        rows.append((name, shorten((f"{value} {count}" for value, count in counts.items()), most=12)))
        if name == "label" and config.labels:
            rows.append(("class", shorten(_classes(counts, config.labels), most=12)))
    if clips := _equal_clips(config, manifest):
        rows.append(("equal clips", clips))
    show_table("", ("field", "utterances"), rows)


def _classes(counts: Mapping[str, int], labels: Mapping[str, str | None]) -> list[str]:
    """Say how many utterances each class has, by the config's `labels`, and of which codes: `happy 5 (exc, hap)`."""
    codes: dict[str, list[str]] = defaultdict(list)
    for code in counts:
        codes[_class_of(code, labels)].append(code)
    totals = {name: sum(counts[code] for code in members) for name, members in codes.items()}
    ordered = sorted(totals, key=lambda name: (name.startswith("("), -totals[name]))
    return [f"{name} {totals[name]} ({', '.join(sorted(codes[name]))})" for name in ordered]


def _class_of(code: str, labels: Mapping[str, str | None]) -> str:
    if code == "-":
        return "(no label)"
    return labels[code] or "(ignored)" if code in labels else "(not in labels)"


def _equal_clips(config: Config, manifest: Manifest) -> str | None:
    """Say which utterances have the same sound; None if all differ."""
    stat_cache, links = StatCache(Path(config.features.store) / STAT_CACHE_FILE), config.corpus.follow_links
    groups = equal_clips(manifest.corpus, manifest.utterances, stat_cache, follow_links=links)
    if not groups:
        return None
    return f"{sum(map(len, groups))}: {shorten((' = '.join(_first(group)) for group in groups), most=3)}"


def _first(group: Sequence[str]) -> list[str]:
    return [*group[:3], *(["..."] if len(group) > 3 else [])]


if __name__ == "__main__":
    module_main("prepare")
