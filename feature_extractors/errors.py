"""The exceptions of this package: one public base, and one that says which items of a call are bad."""

from collections.abc import Mapping


class EncoderError(ValueError):
    """An encoder cannot be named, found, loaded or applied; the message is one line that says what to do."""


class ItemError(EncoderError):
    """Some items of one `encode` call cannot be embedded.

    `problems` maps the index of every bad item to what is wrong with it, so that a caller drops them and
    calls again with the rest; `index` is the first of them.
    """

    def __init__(self, problems: Mapping[int, str]) -> None:
        self.problems = dict(sorted(problems.items()))
        self.index = next(iter(self.problems))
        others = f" (and {len(self.problems) - 1} more bad items)" if len(self.problems) > 1 else ""
        super().__init__(f"item {self.index}: {self.problems[self.index]}{others}")


def one_line(error: BaseException, *, limit: int = 300) -> str:
    """Put the message of another library's exception on one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
