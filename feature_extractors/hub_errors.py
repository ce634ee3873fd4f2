"""What went wrong between here and the Hugging Face Hub, in one line about the model that was asked for."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lpgnet.feature_extractors.errors import EncoderError, one_line

DEMO = {"audio": "hf:examples/demo/encoders/audio", "text": "hf:examples/demo/encoders/text"}
_ELSEWHERE = f"give a local folder as hf:./folder; the demo encoders {DEMO['audio']} and {DEMO['text']} need no network"
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
_ROOM = "make room there, or set HF_HOME to a folder on another disk"
# What a disk or its permissions refuse.
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST),
    errno.EIO,
}


def hub_error(name: str, model: str, error: BaseException) -> EncoderError:
    """Say why a model of the hub could not be had, whichever of its files the library stumbled over.

    Args:
        name: the encoder's, as it was asked for.
        model: `owner/model`.
        error: what the hub's library raised.
    """
    return EncoderError(f"{name}: {hub_reason(error, kind='model', page=model, elsewhere=_ELSEWHERE)}")


def hub_reason(error: BaseException, *, kind: str, page: str, elsewhere: str) -> str:
    """Say in one line why something of the hub could not be had, and what to do.

    Args:
        error: what the hub's library raised.
        kind: `model` or `dataset`.
        page: its page on the hub, below the hub's own address.
        elsewhere: how to do without the hub.
    """
    told = next(filter(None, (_told(cause, kind, page, elsewhere) for cause in _causes(error))), None)
    return told or (
        f"is not cached and the hub cannot be reached ({one_line(error, limit=100)}): fetch it once with a"
        f" network and set HF_HUB_OFFLINE=1, or {elsewhere}"
    )


def _told(cause: BaseException, kind: str, page: str, elsewhere: str) -> str | None:
    """Say what one of the errors means; None where that says nothing."""
    from huggingface_hub import constants, errors

    if isinstance(cause, errors.GatedRepoError):
        address = f"{constants.ENDPOINT}/{page}"
        return f"the hub gives it only to those who accept its terms: see {address}, and {_LOGIN}"
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"the hub has no such revision of this {kind}"
    if isinstance(cause, errors.RepositoryNotFoundError | errors.HFValidationError) or _status(cause) == 401:
        return f"the hub has no such {kind} (or it is private: {_LOGIN}), and there is no such folder"
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return f"is not cached, and HF_HUB_OFFLINE forbids to fetch it: unset it, or {elsewhere}"
    if isinstance(cause, errors.HfHubHTTPError):
        return f"the hub answers with error {_status(cause)}; try again later, or {elsewhere}"
    reason = _disk_problem(cause)
    return f"cannot be kept in the cache of the hub ({reason}): {_ROOM}" if reason else None


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Let the hub's library try again without a line each time; in the end one line says what was wrong."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from: the library hides the hub's answer behind a file that it does not find."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _disk_problem(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # The library's accelerated transfer, written in another language, gives the system's words alone.
    return "no space left on its disk" if "No space left on device" in str(error) else None
