"""Damaged files of every kind that is read: each is read, or refused in one line that names it, soon.

The finds of `fuzz.py` are tried too: every file in `finds/READER/` once broke that reader.
"""

from pathlib import Path
from random import Random

import pytest

from tests.hostile.budget import cases
from tests.hostile.mutations import mutate
from tests.hostile.oracle import complaint
from tests.hostile.readers import READERS, make_reader

FINDS = sorted(path for path in (Path(__file__).parent / "finds").glob("*/*") if path.is_file())
# Of all hostile cases together; a slow reader has a tenth of a fast one's.
_SHARE = 0.7 / len(READERS)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    reader = make_reader(name)
    reader.lay(tmp_path)
    for seed in range(cases(_SHARE / 10 if reader.slow else _SHARE)):
        data = mutate(reader.samples, Random(seed))
        assert complaint(reader, tmp_path, data) is None, f"{name}, seed {seed}"


@pytest.mark.parametrize("find", FINDS, ids=[f"{path.parent.name}-{path.name}" for path in FINDS])
def test_what_once_broke_a_reader_no_longer_does(tmp_path: Path, find: Path) -> None:
    reader = make_reader(find.parent.name)
    reader.lay(tmp_path)
    assert complaint(reader, tmp_path, find.read_bytes()) is None
