"""Rows of an encoder wherever they are: in its own store, or as layers in the store of all its layers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lpgnet.cache.shards import Row, Shard
from lpgnet.cache.store import FeatureStore


class StoredRows:
    """Reads what a `FeatureStore` has, and what it lacks from the store of the same encoder with all layers."""

    def __init__(self, own: FeatureStore, whole: FeatureStore | None = None, layers: Sequence[int] = ()) -> None:
        """Read from a store, and from the store of all layers where one is given.

        Args:
            own: the store of the encoder; its rows come first.
            whole: the store of the same encoder, with the same settings, whose rows hold all layers.
            layers: which of them are those of `own`, in order; negative ones count from the last.
        """
        self.own, self.layers = own, list(layers)
        self.whole = whole if whole is not None and _has_layers(whole, self.layers) else None

    @property
    def folder(self) -> Path:
        """The folder of the encoder's own store on this machine, which need not exist."""
        return self.own.folder

    @property
    def where(self) -> str:
        """The folder or address of the encoder's own store, which need not exist."""
        return self.own.where

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self.own.fingerprint

    @property
    def description(self) -> dict[str, object]:
        """What the first writer said of the encoder, or of it with all layers."""
        if self.own.description or not self.whole:
            return self.own.description
        return self.whole.description | {"fingerprint": self.fingerprint, "layers": self.layers}

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards that rows are read from."""
        return self.own.shards + (self.whole.shards if self.whole else ())

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return those of the keys that have no row in either store, as `FeatureStore.missing` does."""
        absent = self.own.missing(keys)
        return self.whole.missing(absent) if self.whole else absent

    def served(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return those of the keys whose rows are read from the store of all layers."""
        if self.whole is None:
            return set()
        absent = self.own.missing(keys)
        return set(absent).difference(self.whole.missing(absent))

    def read(self, keys: Iterable[bytes]) -> Iterator[Row]:
        """Read many rows, as `FeatureStore.read` does.

        Args:
            keys: 16 bytes each.

        Yields:
            The rows in the keys' order, with the encoder's own layers.

        Raises:
            MissingRowError: neither store has a key.
            DamagedRowError: a row's bytes are not those that were written.
        """
        wanted = list(keys)
        served = self.served(wanted)
        if self.whole is None or not served:
            yield from self.own.read(wanted)
            return
        own = self.own.read(key for key in wanted if key not in served)
        whole = self.whole.read(key for key in wanted if key in served)
        for key in wanted:
            yield self._select(next(whole)) if key in served else next(own)

    def _select(self, row: Row) -> Row:
        return replace(row, values=row.values[..., self.layers, :])


def _has_layers(store: FeatureStore, layers: Sequence[int]) -> bool:
    """Say whether every row has layers of these indices; a store without rows has nothing to serve."""
    counts = {shard.layout.layers for shard in store.shards}
    return bool(counts) and all(-least <= layer < least for least in counts for layer in layers)
