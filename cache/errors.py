"""The exceptions of the feature store: one base, and the two cases a caller may want to tell apart."""


class StoreError(Exception):
    """Something about the feature store that a person has to know, in one line."""

    def __str__(self) -> str:
        # KeyError, a base of MissingRowError, would show the message in quotation marks.
        return str(self.args[0]) if self.args else type(self).__name__


class MissingRowError(StoreError, KeyError):
    """The store holds no row for a key."""


class OutdatedShardError(StoreError):
    """A shard is in the format of an earlier version, which a repair converts and nothing else reads."""


class ShardGoneError(StoreError):
    """A shard at an address was merged into another, or dropped, after it was listed."""


class DamagedRowError(StoreError):
    """A row's bytes are not those that were written."""
