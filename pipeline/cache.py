"""The `lpgnet cache` command: look after the feature store, copy it, and bring embeddings out of it and into it."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from lpgnet.cache import (
    Damage,
    FeatureStore,
    ShardCache,
    StatCache,
    StoredRows,
    StoreInfo,
    compact,
    copy_shards,
    export_rows,
    gc,
    import_rows,
    info,
    lacking,
    list_stores,
    repair,
    verify,
)
from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import progress_bar, say, show, show_table
from lpgnet.pipeline.common.files import check_address
from lpgnet.pipeline.corpora.manifest import Manifest, read_manifest
from lpgnet.pipeline.embeddings.plan import MODALITIES, Plan, imported_key, make_plan
from lpgnet.pipeline.embeddings.prepared import IMPORTED, imported_spec
from lpgnet.pipeline.embeddings.silence import read_speech, trim
from lpgnet.pipeline.embeddings.stores import shard_cache, stat_cache_of
from lpgnet.pipeline.embeddings.summaries import ModalitySummary, read_summaries
from lpgnet.pipeline.errors import PipelineError, shorten

DEFAULT_STORE = "work/store"


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code: 1 where something is damaged."""
    options = _parser().parse_args(arguments)
    for name in ("store", "address"):
        check_address(getattr(options, name, ""), key=name)
    actions = {
        "info": _info,
        "verify": _verify,
        "repair": _repair,
        "gc": _gc,
        "compact": _compact,
        "export": _export,
        "import": _import,
        "push": _push,
        "pull": _pull,
    }
    return actions[options.action](options)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="lpgnet cache", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    purposes = {
        "info": "encoders, rows, bytes, hours of audio, oldest and newest, silent and clipped ones",
        "verify": "check every byte; exit 1 and the list of what is bad",
        "repair": "set bad shards aside, and convert those of an earlier version",
        "gc": "drop what no manifest needs; without --delete it only says what that would be",
        "compact": "merge small shards into large ones; readers are undisturbed",
        "export": "one manifest's embeddings -> safetensors, npz or a datasets folder",
        "import": "precomputed embeddings by utterance id -> the store",
        "push": "copy what another store, such as one at an address, lacks of this one",
        "pull": "copy what this store lacks of another, such as one at an address",
    }
    for name, purpose in purposes.items():
        action = actions.add_parser(name, help=purpose, description=purpose)
        action.add_argument(
            "--store", default=DEFAULT_STORE, help=f"folder or address of the store (default: {DEFAULT_STORE})"
        )
        _add_cache(action)
        action.add_argument("--debug", action="store_true", help="show the traceback of an error")
        if name == "gc":
            action.add_argument("--keep-manifest", nargs="+", required=True, help="folders such as work/demo")
            action.add_argument("--delete", action="store_true", help="do it")
            action.add_argument(
                "--drop-unreadable", action="store_true", help="drop what is of recordings that cannot be read now, too"
            )
        if name in ("export", "import"):
            _add_exchange(action, name)
        if name in ("push", "pull"):
            action.add_argument("address", help="address, such as s3://bucket/prefix, or folder of the other store")
    return parser


def _add_cache(action: ArgumentParser) -> None:
    action.add_argument("--cache_folder", help="folder for copies of what is read at an address (the user's cache)")
    action.add_argument("--cache_gigabytes", type=gigabytes, default=20.0, help="the most that they take (default: 20)")


def gigabytes(text: str) -> float:
    """Read a number of them; argparse names this function where it is none."""
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError
    return number


def _cache(options: Namespace) -> ShardCache:
    return shard_cache(options.cache_folder, options.cache_gigabytes)


def _add_exchange(action: ArgumentParser, name: str) -> None:
    files = {
        "export": "file or folder to write",
        "import": "an .npz or .safetensors file with an array per utterance id, or an .npy matrix with a list of ids "
        "beside it (.txt, .json or .csv of the same name)",
    }
    action.add_argument("file", help=files[name])
    action.add_argument("--manifest", required=True, help="folder of the manifest, such as work/demo")
    action.add_argument("--modality", required=True, choices=MODALITIES)
    if name == "export":
        action.add_argument("--format", choices=("safetensors", "npz", "datasets"), default="safetensors")


def _stores(options: Namespace) -> list[FeatureStore]:
    stores = _open_all(options.store, options)
    if not stores:
        raise PipelineError(f"{options.store}: holds no embeddings; run the features stage, or name another --store")
    return stores


def _open_all(root: str, options: Namespace) -> list[FeatureStore]:
    return [FeatureStore(root, fingerprint, _cache(options)) for fingerprint in list_stores(root)]


def _info(options: Namespace) -> int:
    stores = [info(store) for store in _stores(options)]
    columns = ("encoder", "fingerprint", "shards", "rows", "MB", "hours", "oldest", "newest", "damaged shards")
    show_table(options.store, columns, map(_info_row, stores))
    for store in stores:
        if flags := _flags(store):
            show(f"  {_short(store)}: {flags}")
        if store.outdated:
            say(
                f"{_short(store)}: {store.outdated} shards are in the format of an earlier version; "
                f"run `lpgnet cache repair --store {options.store}`, which converts them"
            )
    return 0


def _info_row(store: StoreInfo) -> tuple[object, ...]:
    hours = "-" if store.hours is None else f"{store.hours:.1f}"
    name = str(store.description.get("name", "-"))
    row = (name, _short(store), store.shards, store.rows, f"{store.bytes / 1e6:.1f}", hours)
    return (*row, _day(store.oldest_ns), _day(store.newest_ns), store.damaged)


def _short(store: StoreInfo) -> str:
    return store.fingerprint[:12]


def _flags(store: StoreInfo) -> str:
    """Say how many rows are silent, clipped, ..., and of how many that is not known."""
    counts = {name: count for name, count in store.flags.items() if name != "checked"}
    counts["with unknown flags"] = store.rows - store.flags["checked"]
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _day(nanoseconds: int | None) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9).strftime("%Y-%m-%d %H:%M") if nanoseconds else "-"


def _verify(options: Namespace) -> int:
    sound = True
    for store in _stores(options):
        report = verify(store)
        sound &= not report.bad
        verdict = f"{len(report.bad)} damaged" if report.bad else "sound"
        show(f"{store.where}: {report.rows} rows in {report.shards} shards: {verdict}")
        _show_damage(report.bad)
    if not sound:
        say("`lpgnet cache repair` sets damaged shards aside; the features stage then computes the lost rows again")
    return 0 if sound else 1


def _show_damage(damaged: Iterable[Damage]) -> None:
    for damage in damaged:
        show(f"  {damage.shard}: {damage.reason}")


def _repair(options: Namespace) -> int:
    for store in _stores(options):
        report = repair(store)
        show(f"{store.where}: {len(report.set_aside)} shards set aside, {report.saved} rows saved from them")
        if report.converted:
            show(f"  {report.converted} shards of an earlier version converted")
        _show_damage(report.set_aside)
        if report.lost:
            show(f"  {report.lost} rows must be computed again: run the features stage")
    return 0


def _compact(options: Namespace) -> int:
    for store in _stores(options):
        report = compact(store)
        show(f"{store.where}: {report.before} shards became {report.after}, {report.bytes_freed / 1e6:.1f} MB freed")
        _show_skipped(report.skipped)
    return 0


def _show_skipped(shards: Sequence[str]) -> None:
    if shards:
        show(f"  left alone because damaged: {shorten(shards)}; run repair first")


def _gc(options: Namespace) -> int:
    needed = set().union(*(_needed_keys(Path(folder), options) for folder in options.keep_manifest))
    for store in _stores(options):
        report = gc(store, needed, dry_run=not options.delete)
        done = "dropped" if options.delete else "would be dropped"
        freed = f"{report.bytes_freed / 1e6:.1f} MB"
        show(f"{store.where}: {report.dropped} rows {done} ({freed}), {report.kept} kept")
        _show_skipped(report.skipped)
    if not options.delete:
        show("nothing was changed; --delete does it")
    return 0


def _needed_keys(folder: Path, options: Namespace) -> set[bytes]:
    """The keys of everything in a manifest, whichever encoder they are embedded by.

    Raises:
        PipelineError: a recording that cannot be read may have rows, which would be dropped.
    """
    manifest, speech = read_manifest(folder), read_speech(folder)
    whole = _plan(manifest, "audio", options)
    audio = [whole, trim(whole, speech)] if speech else [whole]
    # Those of a trimmed plan are those of the whole one, and more.
    if (lost := _problems(audio[-1], "audio")) and options.delete and not options.drop_unreadable:
        raise PipelineError(f"{lost}; what is stored of them would be dropped: mend that, or add --drop-unreadable")
    text = [_plan(manifest, "text", options, context_turns=turns) for turns in {0, _context_turns(folder)}]
    for told in filter(None, (lost, _problems(text[0], "text"))):
        say(told)
    imported = {imported_key(utterance.utterance_id) for utterance in manifest.utterances}
    return imported | {request.key for plan in (*audio, *text) for request in plan.requests}


def _plan(manifest: Manifest, modality: str, options: Namespace, *, context_turns: int = 0) -> Plan:
    return make_plan(
        modality,
        manifest.utterances,
        root=manifest.corpus.root,
        stat_cache=StatCache(stat_cache_of(options.store, _cache(options))),
        context_turns=context_turns,
    )


def _problems(plan: Plan, modality: str) -> str:
    """Say how many utterances have no key, and why the first has none; nothing where all have one."""
    if not plan.problems:
        return ""
    first = plan.problems[0]
    return f"{len(plan.problems)} {modality} utterances have no key, such as {first.utterance_id}: {first.message}"


def _context_turns(folder: Path) -> int:
    summary = read_summaries(folder).get("text")
    return summary.context_turns if summary else 0


def _export(options: Namespace) -> int:
    folder = Path(options.manifest)
    summary = read_summaries(folder).get(options.modality)
    if summary is None:
        raise PipelineError(f"{folder}: has no {options.modality} embeddings; run the features stage first")
    plan = _plan(read_manifest(folder), options.modality, options, context_turns=_context_turns(folder))
    if summary.trim == "speech":
        plan = trim(plan, read_speech(folder))
    if told := _problems(plan, options.modality):
        say(told)
    keys = {request.utterance_id: request.key for request in plan.requests}
    report = export_rows(_stored(options, summary), Path(options.file), keys, options.format)
    missing = f"; {len(report.missing)} are not in the store: {shorten(report.missing)}" if report.missing else ""
    show(f"{options.file}: {report.rows} {options.modality} embeddings by {summary.spec['name']}{missing}")
    return 0


def _stored(options: Namespace, summary: ModalitySummary) -> StoredRows:
    """Open what the features stage found stored: it knows which layers are read from those of all."""
    own, served = _open(options, summary.spec["fingerprint"]), summary.served
    return StoredRows(own, _open(options, served.fingerprint), served.layers) if served else StoredRows(own)


def _open(options: Namespace, fingerprint: str) -> FeatureStore:
    return FeatureStore(options.store, fingerprint, _cache(options))


def _import(options: Namespace) -> int:
    file = Path(options.file)
    manifest = read_manifest(Path(options.manifest))
    spec = imported_spec(f"{IMPORTED}{file}", options.modality)
    keys = {utterance.utterance_id: imported_key(utterance.utterance_id) for utterance in manifest.utterances}
    report = import_rows(file, _open(options, spec.fingerprint), keys, spec.to_dict())
    show(f"{file}: {report.added} embeddings added, {report.present} were there already")
    for name, ids in (("in the file and not in the manifest", report.unknown), ("without a row", report.missing)):
        if ids:
            show(f"  {len(ids)} utterances {name}: {shorten(ids)}")
    show(f"train on them by --encoders.{options.modality}.name {IMPORTED}{file}")
    return 0


def _push(options: Namespace) -> int:
    return _transfer(options.store, options.address, options)


def _pull(options: Namespace) -> int:
    return _transfer(options.address, options.store, options)


def _transfer(source: str, target: str, options: Namespace) -> int:
    """Copy what one root lacks of another's stores; returns the exit code: 1 where something is damaged."""
    sources = _open_all(source, options)
    if not sources:
        raise PipelineError(f"{source}: holds no embeddings; check the folder or the address")
    return max([_copy_store(store, FeatureStore(target, store.fingerprint, _cache(options))) for store in sources])


def _copy_store(source: FeatureStore, target: FeatureStore) -> int:
    waiting = lacking(source, target)
    copied, damaged = 0, list[Damage]()
    with progress_bar("shard", unit="MB") as bar:
        task = bar.add_task(source.fingerprint[:12], total=sum(shard.nbytes for shard in waiting) / 1e6, shard="")
        for shard, damage in copy_shards(source, target, waiting):
            damaged += [damage] if damage else []
            copied += 0 if damage else shard.nbytes
            bar.update(task, advance=shard.nbytes / 1e6, shard=shard.name[:16])
    show(
        f"{target.where}: {len(waiting) - len(damaged)} shards copied ({copied / 1e6:.1f} MB), "
        f"{len(source.shards) - len(waiting)} were there already"
    )
    damaged += source.damaged
    _show_damage(damaged)
    return 1 if damaged else 0


if __name__ == "__main__":
    module_main("cache")
