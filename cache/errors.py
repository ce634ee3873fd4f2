"""The exceptions of the feature store: one base, and the two cases a caller may want to tell apart."""


class StoreError(Exception):
    """Something about the feature store that a person has to know, in one line."""

    def __str__(self) -> str:
        # KeyError, a base of MissingRowError, would show the message in quotation marks.
        return str(self.args[0]) if self.args else type(self).__name__


class MissingRowError(StoreError, KeyError):
    """The store holds no row for a key."""


class NotAShardError(StoreError):
    """A file is none of this store's shards, or too damaged to be read as one."""


class OutdatedShardError(NotAShardError):
    """A shard is in the format of an earlier version, which a repair converts and nothing else reads."""


class ShardGoneError(StoreError):
    """A shard was merged into another, or dropped, after it was listed."""


def shard_gone(where: object) -> ShardGoneError:
    """Say of a shard that it is gone.

    Args:
        where: its path or address.
    """
    return ShardGoneError(f"{where} is not there any more: it was merged or dropped; run again")


class DamagedRowError(StoreError):
    """A row's bytes are not those that were written."""
