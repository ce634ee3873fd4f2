"""Addresses such as s3://bucket/prefix: which are taken, what reads them, and what their errors may say."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lpgnet.cache.errors import StoreError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_LOCAL_SCHEMES = ("file://", "local://")
_EXTRAS = {"s3": "s3", "s3a": "s3"}
# Variables of the environment that log in to some storage; their values must be in no message.
_SECRET = re.compile("SECRET|TOKEN|PASSWORD|ACCESS_KEY|ACCOUNT_KEY|STORAGE_KEY|API_KEY|CONNECTION_STRING")
# A shorter value is no secret, and would blot out words (letters).
_SHORTEST_SECRET = 6
_WORDS = 300


class AddressError(StoreError):
    """An address is none that can be taken."""


class MissingDriverError(StoreError):
    """What reads addresses of a kind is not installed."""


def is_address(root: str) -> bool:
    """Say whether a root is an address rather than a folder of this machine."""
    return "://" in without_local_scheme(root)


def without_local_scheme(root: str) -> str:
    """Return the folder that `file:///folder` means, and any other root as it is."""
    for scheme in _LOCAL_SCHEMES:
        root = root.removeprefix(scheme)
    return root


def check_address(address: str) -> str:
    """Return the address, unless something in it may be a secret: addresses stand in reports and in logs.

    Raises:
        AddressError: it has a login or a question mark; it is not repeated.
    """
    scheme, _, rest = address.partition("://")
    before, at, _ = rest.rpartition("@")
    # A secret key may have slashes in it, so that no part of the address is certain to be the login.
    if "?" in rest or (at and ("/" not in before or ":" in before)):
        raise AddressError(
            f"an address of {scheme}:// has a login or a ? in it, which would get into reports and logs; give "
            "credentials by the environment (AWS_ACCESS_KEY_ID, ...) or the usual files (~/.aws)"
        )
    return address


def filesystem(address: str) -> "AbstractFileSystem":
    """Return what reads and writes files at addresses of this kind; fsspec keeps one for each process.

    Raises:
        AddressError: the address may hold a secret.
        MissingDriverError: it is not installed, or not known; says what to install.
    """
    import fsspec

    protocol = check_address(address).partition("://")[0]
    try:
        # What others have published meanwhile is in no listing from before.
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        advice = f"pip install 'lpgnet[{extra}]'" if extra else str(error)
        raise MissingDriverError(f"nothing here reads addresses of {protocol}://: {advice}") from None
    except ValueError:
        raise MissingDriverError(f"nothing reads addresses of {protocol}://: no such protocol is known") from None


@contextlib.contextmanager
def address_errors(where: str, action: str) -> Iterator[None]:
    """Turn whatever a driver raises into a line for people.

    Args:
        where: the address.
        action: what was tried, such as "write to".

    Raises:
        FileNotFoundError: as it is.
        StoreError: everything else.
    """
    try:
        yield
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:
        # Not "from error": a traceback would show what the driver says, secrets and all.
        raise StoreError(
            f"cannot {action} {where}: {_words(error)}; rows confirmed before are safe, check the address, the network "
            "and the credentials, and run again"
        ) from None


def without_secrets(text: str) -> str:
    """Put *** for every value of the environment that logs in to some storage."""
    secrets = [value for name, value in os.environ.items() if _SECRET.search(name.upper())]
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text


def _words(error: Exception) -> str:
    return without_secrets(" ".join(str(error).split()) or type(error).__name__)[:_WORDS]
