"""The index: for every key of a store, the shard and the row that hold it.

It is built from the shards' columns of keys whenever a store is opened, which takes well under a second for a
million rows, and never written to disk: what is not stored cannot go stale or be damaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lpgnet.cache.keys import KEY_BYTES


@dataclass(frozen=True)
class Index:
    """Where the row of every key lies, in 24 bytes a row.

    Attributes:
        keys: (rows,) numpy S16, sorted, every key once.
        shards: (rows,) uint32, the index of the shard among those the index was built from.
        rows: (rows,) uint32, the row within that shard.
    """

    keys: np.ndarray
    shards: np.ndarray
    rows: np.ndarray

    @classmethod
    def build(cls, columns: Sequence[np.ndarray]) -> "Index":
        """Build the index over the keys of shards: of equal keys the first shard's wins.

        Args:
            columns: the keys (rows,) of every shard, in order of the shards' names.
        """
        keys = np.concatenate(columns) if columns else np.empty(0, f"S{KEY_BYTES}")
        order = np.argsort(keys, kind="stable").astype(np.uint32)
        keys = keys[order]
        first = np.ones(len(keys), bool)
        first[1:] = keys[1:] != keys[:-1]
        keys, order = keys[first], order[first]
        starts = np.cumsum([0, *map(len, columns)])
        shards = (np.searchsorted(starts, order, side="right") - 1).astype(np.uint32)
        return cls(keys, shards, (order - starts[shards]).astype(np.uint32))

    def __len__(self) -> int:
        return len(self.keys)

    def locate(self, key: bytes) -> tuple[int, int] | None:
        """Return the shard and the row of one key, or None: as `find`, without its cost of whole arrays.

        Args:
            key: 16 bytes.
        """
        if not len(self.keys):
            return None
        index = int(self.keys.searchsorted(np.frombuffer(key, f"S{KEY_BYTES}"))[0])
        # Compared as bytes, because numpy's single strings lose their trailing zeros.
        if self._content[KEY_BYTES * index : KEY_BYTES * (index + 1)] != key:
            return None
        return int(self.shards[index]), int(self.rows[index])

    @cached_property
    def _content(self) -> memoryview:
        return self.keys.view(np.uint8).data

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Look many keys up.

        Args:
            keys: (n,) numpy S16.

        Returns:
            (n,) their indices among `self.keys`; -1 for those that are not there.
        """
        if not len(self.keys):
            return np.full(len(keys), -1)
        indices = np.searchsorted(self.keys, keys)
        indices[indices == len(self.keys)] = 0
        return np.where(self.keys[indices] == keys, indices, -1)

    def locations(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the rows of found keys lie.

        Args:
            indices: (n,) as `find` gave them.

        Returns:
            The shards (n,) and the rows (n,) within them; -1 where the index is -1.
        """
        found = indices >= 0
        shards, rows = np.full(len(indices), -1), np.full(len(indices), -1)
        shards[found], rows[found] = self.shards[indices[found]], self.rows[indices[found]]
        return shards, rows


def key_array(keys: Sequence[bytes]) -> np.ndarray:
    """Join keys of 16 bytes each to one array (n,) of numpy S16."""
    return np.frombuffer(b"".join(keys), f"S{KEY_BYTES}")
