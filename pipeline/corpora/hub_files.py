"""Where a dataset's files are, and reading them as tables: of the Hugging Face Hub, or of a local folder.

A dataset of the hub is downloaded into the hub's own cache, at one commit, and then read as a local one is. `datasets`
reads its files as a stream, which writes no second copy of them, and gives Arrow tables, which hold the bytes or paths
of audio as `Audio(decode=False)` does: it decodes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpgnet.cache.addresses import without_local_scheme
from lpgnet.pipeline.common.files import is_address, open_binary, parse_object, read_text
from lpgnet.pipeline.corpora.base import corpus_root
from lpgnet.pipeline.corpora.clips import SUFFIXES
from lpgnet.pipeline.errors import PipelineError, did_you_mean, kind_and_words, shorten

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_ELSEWHERE = "give a local folder as corpus.root"
# What `save_to_disk` writes: of one dataset, and of a dictionary of splits.
_STATE, _SPLITS = "state.json", "dataset_dict.json"
_CARD = "README.md"
# What reads tables and folders of recordings, and no code; as `datasets` names its readers.
_KINDS = ("parquet", "arrow", "csv", "json", "audiofolder", "videofolder")
# Rows that are in memory together, with their audio.
_BATCH = 32


@dataclass(frozen=True)
class Split:
    """One split of a dataset.

    Attributes:
        features: what its columns hold, where the files say it.
        n_rows: how many rows it should have, or None.
        read: gives its tables.
    """

    name: str
    features: Mapping[str, Any]
    n_rows: int | None
    read: Callable[[], Iterator[pa.Table]]

    def tables(self) -> Generator[pa.Table]:
        """Yield its rows, a few at a time."""
        for table in self.read():
            # What is damaged is refused here; reading it could end the process.
            table.validate(full=True)
            yield table


def dataset_folder(root: str, name: str | None, revision: str | None, files: Sequence[str] | None) -> Path:
    """Return the absolute folder of a dataset, which is downloaded if it is named and is not in the hub's cache.

    The hub says once which commit a branch stands at, and all files are of that.

    Args:
        root: a local folder, where there is no name.
        name: on the hub, `owner/dataset`.
        revision: a branch, tag or commit.
        files: patterns of the files that are fetched from the hub; None: all.

    Raises:
        PipelineError: there is none, or the hub does not give it.
    """
    if name is None:
        if is_address(without_local_scheme(root)):
            raise PipelineError(f"{root}: datasets are read from a local folder or the hub; copy or mount it")
        return Path(os.path.abspath(corpus_root(root)))
    script = f"{name.split('/')[-1]}.py"
    folder = _snapshot(name, revision, [script, _CARD])
    _refuse_script(folder / script, name)
    return _snapshot(name, folder.name, files)


def _snapshot(name: str, revision: str | None, files: Sequence[str] | None) -> Path:
    from huggingface_hub import snapshot_download

    from lpgnet.feature_extractors import hub_reason, quiet_hub

    try:
        with quiet_hub():
            return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=_listed(files)))
    # Anything may go wrong between here and the hub: no route, a proxy, no permission, a full disk.
    except Exception as error:
        reason = hub_reason(error, kind="dataset", page=f"datasets/{name}", elsewhere=_ELSEWHERE)
        raise PipelineError(f"{name}: {reason}") from error


def _listed(files: Sequence[str] | None) -> list[str] | None:
    return None if files is None else [*files, _CARD]


def _refuse_script(script: Path, source: str) -> None:
    if script.is_file():
        raise PipelineError(
            f"{source}: is a script that loads a dataset ({script.name}), and no code of a dataset is run; set"
            " corpus.options.revision to refs/convert/parquet, where the hub may hold it as Parquet, or use its files"
        )


def home_of(folder: Path, name: str | None) -> Path:
    """Return what the files of a dataset lie in: `datasets--owner--name`, two above a snapshot, or its own folder."""
    return folder if name is None else folder.parent.parent


def source_files(folder: Path, config: str | None, files: Sequence[str] | None) -> list[Path]:
    """Return what is read of a local dataset, its card among it, with a folder in the place of its recordings.

    Raises:
        PipelineError: as `open_splits` does.
    """
    builder = _builder(folder, config, files, source=str(folder))
    read = [Path(file) for listed in builder.config.data_files.values() for file in listed]
    folders = dict.fromkeys([folder, *(file.parent for file in read)])
    cards = [one / name for one in folders for name in (_CARD, _STATE, _SPLITS) if (one / name).is_file()]
    return list(dict.fromkeys([*cards, *(file.parent if file.suffix.lower() in SUFFIXES else file for file in read)]))


def open_splits(folder: Path, config: str | None, files: Sequence[str] | None, *, source: str) -> list[Split]:
    """Open a dataset, without reading a row.

    Args:
        folder: holds what `save_to_disk` wrote, or files that `load_dataset` reads: Parquet, Arrow, CSV, JSON, or
            recordings in folders with their metadata.
        config: name of the dataset's configuration.
        files: patterns of the files that are read; None: all.
        source: what errors call it.

    Raises:
        PipelineError: it is no dataset, or names files elsewhere.
    """
    builder = _builder(folder, config, files, source=source)
    try:
        return _parquet_splits(builder) if _kind(builder) == "parquet" else _streamed_splits(builder)
    except Exception as error:
        raise unreadable(error, source) from None


def _builder(folder: Path, config: str | None, files: Sequence[str] | None, *, source: str) -> Any:
    """Return what `datasets` would read a folder with, after a look at the files that it would read."""
    import datasets

    from lpgnet.feature_extractors import quiet_hub

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    _refuse_script(folder / f"{folder.name}.py", source)
    _check_regular([folder / _CARD], source)
    saved = _saved_files(folder)
    kind, config = ("arrow", None) if saved else (str(folder), config)
    try:
        with quiet_hub():
            builder = datasets.load_dataset_builder(kind, config, data_files=saved)
    except Exception as error:
        raise _about_config(folder, config, source) or unreadable(error, source) from None
    _choose(builder, folder, files, source)
    _check_files(builder, folder, source)
    _read_as_text(builder)
    return builder


def _choose(builder: Any, folder: Path, files: Sequence[str] | None, source: str) -> None:
    """Keep the files that are wanted: the hub's cache holds all that was ever fetched of a commit."""
    if files is None:
        return
    # As the hub's library reads patterns.
    patterns = [f"{one}*" if one.endswith("/") else one for one in files]

    def wanted(file: str) -> bool:
        path = Path(os.path.relpath(file, folder)).as_posix()
        return any(fnmatch(path, pattern) for pattern in patterns)

    listed = {name: list(filter(wanted, found)) for name, found in (builder.config.data_files or {}).items()}
    builder.config.data_files = {name: found for name, found in listed.items() if found}
    # The card counts the rows of all files.
    builder.info.splits = None
    if not builder.config.data_files:
        raise PipelineError(f"{source}: none of its files is like {shorten(files)}; change corpus.options.files")


def _check_regular(files: Sequence[Path], source: str) -> None:
    for file in files:
        if file.exists() and not file.is_file():
            raise PipelineError(f"{source}: {file} is no regular file, and only those are read; take it away")


def _about_config(folder: Path, config: str | None, source: str) -> PipelineError | None:
    """Say which configurations there are, where the wrong one is why a dataset cannot be opened."""
    import datasets

    try:
        names = datasets.get_dataset_config_names(str(folder))
    except Exception as error:
        if type(error).__name__ not in ("EmptyDatasetError", "DataFilesNotFoundError"):
            return None
        return PipelineError(f"{source}: cannot be read as a dataset (it holds none of {', '.join(_KINDS)})")
    known = f"its configurations are {shorten(names)}; name one in corpus.options.config"
    if config is None:
        return PipelineError(f"{source}: {known}") if len(names) > 1 else None
    if config in names:
        return None
    return PipelineError(f"{source}: has no configuration '{config}'{did_you_mean(config, names)}; {known}")


def _read_as_text(builder: Any) -> None:
    """Keep the cells of CSV as they are written, where the card says of no column what it holds.

    By itself pandas makes nothing of the words None, NA and nan, and 1 of 001.
    """
    if _kind(builder) == "csv" and builder.config.features is None and builder.info.features is None:
        builder.config.keep_default_na = False
        builder.config.features = _texts(builder)
    if hasattr(builder, "_read_metadata"):
        builder._read_metadata = partial(_metadata, builder._read_metadata, as_text=builder.info.features is None)


def _texts(builder: Any) -> Any:
    """Return the features of tables of text that have the columns of the first one."""
    import datasets
    import pandas

    first = next(str(file) for files in builder.config.data_files.values() for file in files)
    try:
        header = pandas.read_csv(first, **{**builder.config.pd_read_csv_kwargs, "nrows": 0, "chunksize": None})
    except (ValueError, OSError):
        # Whoever reads the rows tells what is wrong.
        return None
    return datasets.Features({str(name): datasets.Value("string") for name in header.columns})


def _metadata(read: Any, file: str, metadata_ext: str = "", *, as_text: bool) -> Iterator[pa.Table]:
    """Read the metadata of recordings as `datasets` does, but cells of CSV as text and Parquet in this thread."""
    import pandas
    import pyarrow as pa
    import pyarrow.parquet as pq

    if metadata_ext == ".csv" and as_text:
        with open_binary(file) as stream:
            for frame in pandas.read_csv(stream, dtype=object, keep_default_na=False, chunksize=10_000):
                yield pa.Table.from_pandas(frame, preserve_index=False)
    elif metadata_ext == ".parquet":
        with open_binary(file) as stream:
            yield from parquet_tables(pq.ParquetFile(pa.BufferReader(stream.read())))
    else:
        yield from read(file, metadata_ext=metadata_ext)


def _streamed_splits(builder: Any) -> list[Split]:
    def read(dataset: Any) -> Iterator[pa.Table]:
        yield from dataset.with_format("arrow").iter(batch_size=_BATCH)

    found, counts = builder.as_streaming_dataset(), _counts(builder)
    return [Split(str(name), one.features or {}, counts.get(name), partial(read, one)) for name, one in found.items()]


def _parquet_splits(builder: Any) -> list[Split]:
    """Read Parquet without `datasets`, whose scan leaves threads that can abort the process when it ends."""
    import datasets
    import pyarrow.parquet as pq

    def read(files: Sequence[str]) -> Iterator[pa.Table]:
        for file in files:
            with pq.ParquetFile(file) as parquet:
                yield from map(builder._cast_table, parquet_tables(parquet))

    listed, counts = builder.config.data_files, _counts(builder)
    if builder.info.features is None:
        first = next(str(file) for files in listed.values() for file in files)
        builder.info.features = datasets.Features.from_arrow_schema(pq.read_schema(first))
    features = builder.info.features
    return [
        Split(str(name), features, counts.get(name), partial(read, list(map(str, files))))
        for name, files in listed.items()
    ]


def parquet_tables(parquet: pq.ParquetFile) -> Iterator[pa.Table]:
    """Yield the rows of a file of Parquet, a few at a time, in this thread."""
    import pyarrow as pa

    for batch in parquet.iter_batches(batch_size=_BATCH, use_threads=False):
        yield pa.Table.from_batches([batch])


def _counts(builder: Any) -> dict[str, int | None]:
    return {name: info.num_examples or None for name, info in (builder.info.splits or {}).items()}


def _kind(builder: Any) -> str:
    return str(type(builder).__module__.rsplit(".", 1)[-1])


def unreadable(error: Exception, where: str) -> PipelineError:
    """Say that `datasets` could not read something, whichever of its many errors it raised."""
    return PipelineError(f"{where}: cannot be read as a dataset ({kind_and_words(error)})")


def _check_files(builder: Any, folder: Path, source: str) -> None:
    kind = _kind(builder)
    if kind not in _KINDS:
        raise PipelineError(f"{source}: is of the kind '{kind}', and {', '.join(_KINDS)} are read; convert it to one")
    files = [str(file) for listed in (builder.config.data_files or {}).values() for file in listed]
    outside = [file for file in files if "://" in file or not Path(os.path.abspath(file)).is_relative_to(folder)]
    if outside:
        raise PipelineError(f"{source}: its files lie outside {folder}: {shorten(outside, most=2)}; put them there")
    _check_regular([Path(file) for file in files], source)


def _saved_files(folder: Path) -> dict[str, list[str]] | None:
    """Return the files of each split that `save_to_disk` wrote; None where it did not."""
    if (folder / _SPLITS).is_file():
        names = parse_object(read_text(folder / _SPLITS), where=str(folder / _SPLITS)).get("splits")
        return {name: _state_files(folder / name)[1] for name in _plain_names(names, folder / _SPLITS)}
    return dict([_state_files(folder)]) if (folder / _STATE).is_file() else None


def _state_files(folder: Path) -> tuple[str, list[str]]:
    """Return the name of the split that a folder holds, and its files."""
    path = folder / _STATE
    state = parse_object(read_text(path), where=str(path))
    listed = state.get("_data_files")
    names = [file.get("filename") if isinstance(file, dict) else file for file in listed or ()]
    return str(state.get("_split") or "all"), [str(folder / name) for name in _plain_names(names, path)]


def _plain_names(names: object, path: Path) -> list[str]:
    """Check the names of files or folders beside a file that lists them."""
    return [_plain_name(name, path) for name in (names if isinstance(names, list) else [names])]


def _plain_name(name: object, path: Path) -> str:
    if not isinstance(name, str) or not name or os.path.basename(name) != name or name.startswith("."):
        raise PipelineError(f"{path}: {name!r:.60} is no name of a file beside it; save the dataset again")
    return name
