"""The errors that are told to people in one line instead of a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterable
from difflib import get_close_matches


class PipelineError(Exception):
    """The work could not be done: the message names the file or utterance, what is wrong and what to do (exit 1)."""


class UsageError(PipelineError):
    """The command or its configuration is wrong (exit 2)."""


class MissingExtraError(PipelineError):
    """An extra is not installed: what is wrong with one file is wrong with all of its kind (exit 1)."""


class NotFiniteError(PipelineError):
    """A model computes numbers that are not finite (exit 1)."""


# What to do about an error of the operating system.
_ADVICE = {
    errno.ENOSPC: "free some space, or choose another disk; the same command continues from there",
    errno.EDQUOT: "free some of your quota, or choose another disk; the same command continues from there",
    errno.EACCES: "change its permissions, or choose another folder",
    errno.EPERM: "change its permissions, or choose another folder",
    errno.EROFS: "choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "allow more open files (ulimit -n)",
}

# Of these packages are the errors of what reads addresses.
_DRIVERS = ("aiobotocore", "aiohttp", "botocore", "s3fs")


def for_people(error: BaseException) -> PipelineError:
    """Say in one line what is wrong; an error that nobody foresaw is a defect of this program."""
    if isinstance(error, PipelineError):
        return error
    if {kind.__name__ for kind in type(error).__mro__} & {"StoreError", "EncoderError", "ModelError"}:
        return PipelineError(str(error))
    if _is_of_a_driver(error) or _is_of_a_driver(error.__cause__):
        words = " ".join(str(error).split())[:300]
        return PipelineError(
            f"an address does not answer as it should: {words}; check the address, the network and the credentials, "
            "and run again"
        )
    if isinstance(error, shutil.Error) or (isinstance(error, OSError) and error.errno is not None):
        return failed_file(error)
    if isinstance(error, MemoryError):
        return PipelineError("there is not enough memory; use shorter recordings, smaller batches or a larger machine")
    return PipelineError(f"unexpected {kind_and_words(error)}; please report it (--debug shows where)")


def _is_of_a_driver(error: BaseException | None) -> bool:
    """Tell whether what reads addresses raised an error."""
    return type(error).__module__.partition(".")[0] in _DRIVERS


def kind_and_words(error: BaseException) -> str:
    """Say `ValueError: what it says`, in one line, of an error that nobody foresaw."""
    # Blotted out before it is cut: half a secret is one too.
    return f"{type(error).__name__}: {' '.join(without_secrets(str(error)).split())[:300]}"


def without_secrets(text: str) -> str:
    """Blot out what logs in to object storage, which an error of its driver may repeat."""
    # Without it no driver has said anything, and what follows would take longer than the rest of the command.
    if "fsspec" not in sys.modules:
        return text
    from lpgnet.cache import addresses

    return addresses.without_secrets(text)


def failed_file(error: OSError, path: object = None) -> PipelineError:
    """Say which file the operating system refused, why, and what to do.

    Args:
        error: what it raised.
        path: the file, where the error may not name it.
    """
    if isinstance(error, shutil.Error):  # of a whole folder: (from, to, why) of each file
        code = next((known for known in _ADVICE if f"[Errno {known}]" in str(error)), None)
        reason = os.strerror(code) if code else str(error.args[0][0][2])
    else:
        reason, code = error.strerror or str(error), error.errno
    advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
    return PipelineError(f"{path or error.filename or 'a file'}: {reason}{advice}")


def in_one_line(text: str) -> str:
    """Put a message on one line, and show what has no shape, or would steer a terminal, as an escape."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else ascii(letter)[1:-1] for letter in text
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint such as `; did you mean 'audio'?`, or nothing when no known name is similar."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Say `1 turn`, `2 turns`; the plural is with an s unless it is given."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def shorten(names: Iterable[object], *, most: int = 5) -> str:
    """List the first names, and how many more there are: `a, b and 3 more`."""
    listed = [str(name) for name in names]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")
