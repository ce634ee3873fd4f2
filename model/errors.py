"""The one exception that callers of this package need to catch."""


class ModelError(Exception):
    """A model cannot be built, loaded or run as asked; the message is one line and says what to do."""
