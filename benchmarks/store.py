"""The feature store compared with what people use instead: random reads, writing, a million rows, and a cached corpus.

Run `python benchmarks/store.py [folder]`; it needs about 4 GB of disk there and prints Markdown tables, and `--write`
puts them into docs/store.md. Every way of reading copies the rows into the same array, in the same shuffled order, from
files that are in the page cache; a row of the table is the best of five rounds, and the rounds of all ways take turns.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from page import ROOT, add_other_packages, make_parser, publish

from lpgnet.cache import FeatureStore, text_key
from lpgnet.cache.shards import SHARD_BYTES

FINGERPRINT = "0123456789abcdef"
ROWS, LAYERS, WIDTH = 10_000, 13, 768
MANY = 1_000_000
KEYS = [text_key(str(index)) for index in range(ROWS)]
Read = Callable[[int], np.ndarray]

# What a fresh process needs, so that nothing is warm but the page cache.
_OPEN_MANY = """
import sys, time
from lpgnet.cache import FeatureStore, text_key
keys = [text_key(str(index)) for index in range(0, 2 * {many}, 2)]
start = time.perf_counter()
store = FeatureStore(sys.argv[1], "{fingerprint}")
opened = time.perf_counter()
missing = store.missing(keys)
end = time.perf_counter()
assert len(store) == {many} and len(missing) == {many} // 2
index = store.index
size = index.keys.nbytes + index.shards.nbytes + index.rows.nbytes
print(opened - start, end - opened, size / len(store))
"""
_CACHED = """
import sys
from pathlib import Path
from lpgnet.cache import FeatureStore, StatCache, audio_key, file_digest
folder = Path(sys.argv[1])
def read(path):
    with open(path, "rb") as file:
        return {{"digest": file_digest(file)}}
files = [folder / f"{{dialogue}}.wav" for dialogue in range({dialogues})]
known = StatCache(folder / "files.sqlite").lookup_many(files, read)
rows = [(known[n % {dialogues}]["digest"], n, n + 1, None) for n in range({utterances})]
keys = [audio_key(*row) for row in rows]
store = FeatureStore(folder / "store", "{fingerprint}")
missing = store.missing(keys)
print(len(missing))
assert "torch" not in sys.modules
if missing:
    import numpy as np
    with store.writer({{}}) as writer:
        for key in missing:
            writer.add(key, np.ones((13, 768), np.float32), n_frames=1)
"""


@dataclass(frozen=True)
class Way:
    """One way to keep embeddings.

    Attributes:
        name: for the table.
        prepare: writes all rows (rows, layers, width) into a folder.
        reader: opens the folder and returns a function from a row's index to its values.
        package: what it needs besides the packages of the store itself.
    """

    name: str
    prepare: Callable[[Path, np.ndarray], None]
    reader: Callable[[Path], Read]
    package: str = "numpy"


def write_store(folder: Path, values: np.ndarray) -> None:
    """Write rows in shards of the usual size, durably."""
    with FeatureStore(folder, FINGERPRINT).writer({}) as writer:
        for key, row in zip(KEYS, values, strict=True):
            writer.add(key, row, n_frames=1)


def read_store(folder: Path) -> Read:
    """Read one row at a time, by key."""
    store = FeatureStore(folder, FINGERPRINT)
    return lambda index: store[KEYS[index]].values


def write_flat(folder: Path, values: np.ndarray) -> None:
    """Write one flat file of numbers."""
    values.tofile(folder / "flat")


def read_flat(folder: Path) -> Read:
    """Open a memory map, with a dictionary from key to offset."""
    flat, size = np.memmap(folder / "flat", np.float32, "r"), LAYERS * WIDTH
    offsets = {key: index * size for index, key in enumerate(KEYS)}

    def read(index: int) -> np.ndarray:
        offset = offsets[KEYS[index]]
        return flat[offset : offset + size].reshape(LAYERS, WIDTH)

    return read


def write_torch(folder: Path, values: np.ndarray) -> None:
    """Write one `torch.save` file per utterance."""
    import torch

    for index, row in enumerate(values):
        torch.save(torch.from_numpy(row), folder / f"{index}.pt")


def read_torch(folder: Path) -> Read:
    """Read with `torch.load`, the safe way."""
    import torch

    return lambda index: torch.load(folder / f"{index}.pt", weights_only=True).numpy()


def write_hdf5(folder: Path, values: np.ndarray) -> None:
    """Write one HDF5 file with an array per utterance."""
    import h5py

    with h5py.File(folder / "rows.h5", "w") as file:
        for index, row in enumerate(values):
            file[str(index)] = row


def read_hdf5(folder: Path) -> Read:
    """Keep the file open."""
    import h5py

    file = h5py.File(folder / "rows.h5")
    return lambda index: file[str(index)][()]


def write_datasets(folder: Path, values: np.ndarray) -> None:
    """Save a column of Array2D to disk."""
    from datasets import Array2D, Dataset, Features

    features = Features({"values": Array2D((LAYERS, WIDTH), "float32")})
    parts = (values[start : start + 500] for start in range(0, ROWS, 500))
    rows = ({"values": row} for part in parts for row in part)
    options = {"cache_dir": str(folder / "cache"), "fingerprint": "benchmark"}
    Dataset.from_generator(lambda: rows, features=features, **options).save_to_disk(str(folder / "rows"))


def read_datasets(folder: Path) -> Read:
    """Read items in the numpy format."""
    from datasets import load_from_disk

    rows = load_from_disk(str(folder / "rows")).with_format("numpy")
    return lambda index: rows[index]["values"]


WAYS = (
    Way("this store", write_store, read_store),
    Way("flat numpy memmap with offsets", write_flat, read_flat),
    Way("one `torch.save` file per utterance", write_torch, read_torch, "torch"),
    Way("HDF5, an array per utterance", write_hdf5, read_hdf5, "h5py"),
    Way("`datasets`, an Array2D column", write_datasets, read_datasets, "datasets"),
)


def read_all(read: Read, order: np.ndarray) -> float:
    """Return the seconds to copy all rows in the given order into a batch of 32."""
    batch = np.empty((32, LAYERS, WIDTH), np.float32)
    start = time.perf_counter()
    for slot, index in enumerate(order.tolist()):
        batch[slot % 32] = read(index)
    return time.perf_counter() - start


def random_reads(folder: Path, values: np.ndarray, rounds: int) -> Iterator[str]:
    """Yield the lines of the table of random reads."""
    ways = [way for way in WAYS if importlib.util.find_spec(way.package)]
    reads: dict[str, Read] = {}
    for index, way in enumerate(ways):
        part = folder / str(index)
        part.mkdir()
        way.prepare(part, values)
        reads[way.name] = way.reader(part)
        for row in (0, ROWS - 1):
            assert np.array_equal(reads[way.name](row), values[row]), way.name
    times: dict[str, list[float]] = {name: [] for name in reads}
    for seed in range(rounds):
        order = np.random.default_rng(seed).permutation(ROWS)
        for name, read in reads.items():
            times[name].append(read_all(read, order))
    yield f"**{ROWS:,} random reads of {LAYERS} x {WIDTH} float32**"
    yield ""
    yield "| way | microseconds a row | store = 1 |"
    yield "|---|---|---|"
    for name, seconds in times.items():
        ratio = min(seconds) / min(times["this store"])
        yield f"| {name} | {min(seconds) / ROWS * 1e6:.1f} | {ratio:.2f} |"
    for way in set(WAYS) - set(ways):
        yield f"| {way.name} | {way.package} is not installed | |"


def write_safetensors(folder: Path, values: np.ndarray, *, durable: bool) -> None:
    """Write files as large as shards, as the library writes them or durably as the store does."""
    from safetensors.numpy import save_file

    step = SHARD_BYTES // values[0].nbytes
    for start in range(0, len(values), step):
        path = folder / f"{start}.safetensors"
        save_file({str(start + n): row for n, row in enumerate(values[start : start + step])}, path)
        if durable:
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


def writing(folder: Path, values: np.ndarray, rounds: int) -> Iterator[str]:
    """Yield the lines of the table of writing; processor seconds include those of the system."""
    ways: dict[str, Callable[[Path], None]] = {
        "this store, durable": lambda part: write_store(part, values),
        "safetensors, durable": lambda part: write_safetensors(part, values, durable=True),
        "safetensors, left to the system": lambda part: write_safetensors(part, values, durable=False),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, write in ways.items():
            os.sync()
            with scratch(folder) as part:
                wall, cpu = time.perf_counter(), time.process_time()
                write(part)
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    best = {name: [min(column) for column in zip(*rounds, strict=True)] for name, rounds in times.items()}
    yield f"**Writing {values.nbytes / 1e6:.0f} MB in files of 64 MiB**"
    yield ""
    yield "| way | seconds | store = 1 | of the processor | store = 1 |"
    yield "|---|---|---|---|---|"
    for name, seconds in best.items():
        cells = [
            f"{own:.2f} | {own / ours:.2f}" for own, ours in zip(seconds, best["this store, durable"], strict=True)
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def million_rows(folder: Path) -> Iterator[str]:
    """Yield the lines of what opening and querying a large store costs, in a fresh process."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((10_000, 1, WIDTH)).astype(np.float16)
    start = time.perf_counter()
    with FeatureStore(folder, FINGERPRINT).writer({}, dtype="float16") as writer:
        for index in range(MANY):
            writer.add(text_key(str(index)), block[index % len(block)], n_frames=1)
    written = time.perf_counter() - start
    code = _OPEN_MANY.format(many=MANY, fingerprint=FINGERPRINT)
    runs = [run_python(code, folder).split() for _ in range(3)]
    opened, asked, size = (min(float(run[column]) for run in runs) for column in range(3))
    yield f"**{MANY:,} rows of 1 x {WIDTH} float16**"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| written in | {written:.0f} s |"
    yield f"| opened in | {opened:.2f} s |"
    yield f"| `missing` of {MANY:,} keys, half of which it has | {asked:.2f} s |"
    yield f"| index | {size:.0f} bytes a row |"


def cached_corpus(folder: Path, rounds: int, dialogues: int = 151, utterances: int = 10_039) -> Iterator[str]:
    """Yield the lines of the store's share of a run of the features stage that finds everything cached."""
    for dialogue in range(dialogues):
        (folder / f"{dialogue}.wav").write_bytes(np.random.default_rng(dialogue).bytes(100_000))
    time.sleep(3)  # a file that changed just now is not trusted
    code = _CACHED.format(dialogues=dialogues, utterances=utterances, fingerprint=FINGERPRINT)
    assert run_python(code, folder).strip() == str(utterances)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        assert run_python(code, folder).strip() == "0"
        times.append(time.perf_counter() - start)
    yield f"**{utterances:,} utterances of {dialogues} files, all cached**"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| Python's start, stat cache, keys, opening, `missing` | {min(times):.2f} s |"


def run_python(code: str, folder: Path) -> str:
    """Return what a program prints in a fresh process."""
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Make a folder that is removed at the end."""
    part = Path(tempfile.mkdtemp(dir=folder))
    try:
        yield part
    finally:
        shutil.rmtree(part)


def tables(folder: Path, rounds: int) -> Iterator[str]:
    """Yield the lines of all tables, each made in a folder of its own."""
    values = np.random.default_rng(0).standard_normal((ROWS, LAYERS, WIDTH)).astype(np.float32)
    with scratch(folder) as part:
        yield from random_reads(part, values, rounds)
    yield ""
    with scratch(folder) as part:
        yield from writing(part, values, rounds)
    yield ""
    with scratch(folder) as part:
        yield from million_rows(part)
    yield ""
    with scratch(folder) as part:
        yield from cached_corpus(part, rounds)


def main() -> None:
    """Run everything in a temporary folder."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", nargs="?", default=tempfile.gettempdir(), type=Path, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=5, help="of every way (default: 5)")
    options = parser.parse_args()
    add_other_packages()
    how = f"the best of {options.rounds} rounds"
    publish(
        tables(options.folder, options.rounds),
        script="store.py",
        write=options.write,
        how=how,
        page=ROOT / "docs" / "store.md",
    )


if __name__ == "__main__":
    main()
