"""Work for other processes, in a module that imports little."""

from lpgnet.pipeline.errors import UsageError


def fail_on_two(number: int) -> None:
    if number == 2:
        raise UsageError("number 2 cannot be done")
