"""Names of files, folders and encoders where others read them, without the folders of this machine.

`portable` names lead from the current folder to what they name, so that commands which read them run; `shown` names are
for people, who have no use for a folder that is not theirs. Names of the hub, addresses without what logs in (as in
`s3://key:secret@bucket`) and other texts stay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

from lpgnet.pipeline.common.files import is_address

_LOCAL_SCHEMES = ("file://", "local://")
_LOGIN = re.compile(r"://[^/@]*@")


def portable(name: str) -> str:
    """Return an absolute path, or an encoder's name with one, relative to the current folder or to the home folder."""
    return _renamed(name, _portable)


def shown(name: str) -> str:
    """Return a path, or an encoder's name with one, inside the current folder, or else its last name alone."""
    return _renamed(name, _shown)


def rename_all(value: Any, rename: Callable[[str], str]) -> Any:
    """Rename the texts in lists and dictionaries, but for keys."""
    if isinstance(value, dict):
        return {key: rename_all(one, rename) for key, one in value.items()}
    if isinstance(value, list):
        return [rename_all(one, rename) for one in value]
    return rename(value) if isinstance(value, str) else value


def _renamed(name: str, rename: Callable[[str], str]) -> str:
    """Rename a path behind an encoder's family, as in `hf:/folder`; a drive of Windows is one letter."""
    for scheme in _LOCAL_SCHEMES:
        name = name.removeprefix(scheme)
    if is_address(name):
        return _LOGIN.sub("://", name)
    family, colon, path = name.partition(":")
    return f"{family}:{rename(path)}" if colon and len(family) > 1 else rename(name)


def _portable(path: str) -> str:
    if not os.path.isabs(path):
        return path
    here, home = Path.cwd(), Path(os.path.expanduser("~"))
    # Everything lies in the home folder of some containers.
    is_private = Path(path).is_relative_to(home) and home != Path(home.anchor)
    if is_private and not any(one.is_relative_to(other) for one, other in ((here, home), (Path(path), here))):
        return Path("~", Path(path).relative_to(home)).as_posix()
    try:
        return Path(os.path.relpath(path, here)).as_posix()
    except ValueError:  # on another drive of Windows
        return path


def _shown(path: str) -> str:
    if PureWindowsPath(path).is_absolute() and os.name != "nt":
        return PureWindowsPath(path).name
    if not (os.path.isabs(path) or path.startswith("~") or os.path.normpath(path).startswith("..")):
        return path
    home = os.path.expanduser(path)
    if home.startswith("~"):  # of a user whom this machine does not know
        return Path(path).name
    whole = Path(os.path.abspath(home))
    return whole.relative_to(Path.cwd()).as_posix() if whole.is_relative_to(Path.cwd()) else whole.name
