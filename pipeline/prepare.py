"""Stage 1, prepare: a corpus as distributed -> manifest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from lpgnet.cache import StatCache
from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import say, show, show_table
from lpgnet.pipeline.common.files import read_json
from lpgnet.pipeline.common.stamps import Digest, digests_of, is_fresh, write_stamp
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.corpora import (
    CLIPS,
    compare_counts,
    fetch,
    home,
    known_about,
    read_corpus,
    reader_version,
    refuse_links,
    sources,
)
from lpgnet.pipeline.corpora.agreement import Agreement, agreement
from lpgnet.pipeline.corpora.manifest import (
    CORPUS_FILE,
    MANIFEST_FILE,
    Corpus,
    Manifest,
    Utterance,
    count_by,
    write_manifest,
)
from lpgnet.pipeline.embeddings.equal_clips import equal_clips
from lpgnet.pipeline.embeddings.stores import stat_cache_file
from lpgnet.pipeline.errors import PipelineError, shorten

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
    fetched = fetch(config.corpus.reader, config.corpus.root, **config.corpus.options)
    inputs = _inputs(config, fetched)
    if is_fresh(config.folder / STAMP_FILE, inputs | _outputs(config)):
        say(f"prepare: up to date ({config.folder / MANIFEST_FILE})")
        return
    manifest = _read(config, fetched)
    write_manifest(config.folder, manifest)
    write_stamp(config.folder / STAMP_FILE, inputs | _outputs(config))
    summarize(config, manifest)


def _inputs(config: Config, fetched: Path | None) -> dict[str, object]:
    corpus = config.corpus
    files = sources(corpus.reader, corpus.root, fetched=fetched, **corpus.options)
    if not corpus.follow_links:
        refuse_links(files, home(corpus.reader, corpus.root, fetched=fetched, **corpus.options))
    return {
        "corpus": asdict(config.corpus),
        "reader_version": reader_version(config.corpus.reader),
        "name": config.name,
        "sources": _digests(config, files),
    }


def _outputs(config: Config) -> dict[str, object]:
    written = [config.folder / MANIFEST_FILE, config.folder / CORPUS_FILE]
    return {"outputs": _digests(config, [*written, *_clips(written[1], config.corpus.root)])}


def _clips(path: Path, root: str) -> list[Path]:
    """Return the folder of the recordings where it is not the corpus's own: a reader wrote or fetched them."""
    try:
        written = read_json(path, Corpus).root
    except PipelineError:
        return []
    return [] if written == root else [Path(written)]


def _digests(config: Config, files: Sequence[Path]) -> dict[str, Digest]:
    return digests_of(files, stat_cache=stat_cache_file(config.features))


def _read(config: Config, fetched: Path | None) -> Manifest:
    clips = config.folder / CLIPS
    corpus = read_corpus(
        config.corpus.reader,
        config.corpus.root,
        clips=clips,
        follow_links=config.corpus.follow_links,
        fetched=fetched,
        **config.corpus.options,
    )
    for warning in [*corpus.warnings, *compare_counts(config.corpus.reader, corpus.utterances)]:
        say(f"warning: {warning}")
    described = Corpus(
        config.name,
        corpus.root or config.corpus.root,
        config.corpus.reader,
        corpus.version,
        known_about(config.corpus.reader, config.corpus.about),
        corpus.ranges,
    )
    return Manifest(described, tuple(corpus.utterances))


def summarize(config: Config, manifest: Manifest) -> None:
    """Print how many utterances each label, class, split, speaker and session has, and what raters said of them."""
    utterances = manifest.utterances
    n_dialogues = sum(1 for _ in manifest.dialogues())
    show(f"{manifest.corpus.name}: {len(utterances)} utterances in {n_dialogues} dialogues")
    rows = []
    for name in ("label", "split", "session", "speaker"):
        counts = count_by(utterances, name)
        rows.append((name, _counted(counts)))
        if name == "label" and config.labels:
            rows.append(("class", shorten(_classes(counts, config.labels), most=12)))
    rows += _votes(config, utterances) + _dimensions(manifest)
    if clips := _equal_clips(config, manifest):
        rows.append(("equal clips", clips))
    show_table("", ("field", "utterances"), rows)


def _counted(counts: Mapping[str, float]) -> str:
    return shorten((f"{value} {count:.10g}" for value, count in counts.items()), most=12)


def _votes(config: Config, utterances: Sequence[Utterance]) -> list[tuple[str, str]]:
    """Say which codes and classes raters voted for, and how much they agree; nothing where nobody voted."""
    totals: Counter[str] = Counter()
    for utterance in utterances:
        totals.update(utterance.votes or {})
    if not totals:
        return []
    found, votes = agreement(utterances), {code: round(count, 2) for code, count in totals.most_common()}
    rows = [("votes", _counted(votes))]
    if config.labels:
        rows.append(("votes by class", shorten(_classes(votes, config.labels), most=12)))
    share = found.without_majority / found.voted
    no_majority = f"{found.without_majority} of the {found.voted} with votes ({share:.1%})"
    return [*rows, ("agreement", _agreement(found)), ("no majority", no_majority)]


def _agreement(found: Agreement) -> str:
    alpha = "not defined" if found.alpha is None else f"{found.alpha:.3f}"
    left_out = f"; votes for several codes at once are left out ({found.shared:.4g})" if found.shared else ""
    return f"Krippendorff's alpha {alpha}, of {found.compared} with at least 2 raters who named one code{left_out}"


def _dimensions(manifest: Manifest) -> list[tuple[str, str]]:
    """Say of each dimension how many utterances are rated, and from what to what."""
    rows = []
    for name, (low, high) in manifest.corpus.ranges.items():
        ratings = [rating for utterance in manifest.utterances if (rating := getattr(utterance, name)) is not None]
        found = f", {min(ratings):g} to {max(ratings):g}" if ratings else ""
        rows.append((name, f"{len(ratings)} rated{found} (raters could give {low:g} to {high:g})"))
    return rows


def _classes(counts: Mapping[str, float], labels: Mapping[str, str | None]) -> list[str]:
    """Say how many utterances or votes each class of `labels` has, and of which codes: `happy 5 (exc, hap)`."""
    codes: dict[str, list[str]] = defaultdict(list)
    for code in counts:
        codes[_class_of(code, labels)].append(code)
    totals = {name: sum(counts[code] for code in members) for name, members in codes.items()}
    ordered = sorted(totals, key=lambda name: (name.startswith("("), -totals[name]))
    return [f"{name} {totals[name]:.10g} ({', '.join(sorted(codes[name]))})" for name in ordered]


def _class_of(code: str, labels: Mapping[str, str | None]) -> str:
    if code == "-":
        return "(no label)"
    return labels[code] or "(ignored)" if code in labels else "(not in labels)"


def _equal_clips(config: Config, manifest: Manifest) -> str | None:
    """Say which utterances have the same sound; None if all differ."""
    stat_cache, links = StatCache(stat_cache_file(config.features)), config.corpus.follow_links
    groups = equal_clips(manifest.corpus, manifest.utterances, stat_cache, follow_links=links)
    if not groups:
        return None
    return f"{sum(map(len, groups))}: {shorten((' = '.join(_first(group)) for group in groups), most=3)}"


def _first(group: Sequence[str]) -> list[str]:
    return [*group[:3], *(["..."] if len(group) > 3 else [])]


if __name__ == "__main__":
    module_main("prepare")
