"""The files of the served page: each belongs to a session, and none outlives its session, its time or its server."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, current_thread, main_thread

if sys.platform != "win32":
    import fcntl

PREFIX = "lpgnet-serve-"
# How long a file is kept at most: longer than a full queue of the longest recordings takes. docs/predict.md states it.
KEPT_HOURS = 24
# How often that is looked at (seconds).
SWEEP_SECONDS = 60
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class PageFiles:
    """The uploads and results of one server.

    Attributes:
        folder: the server's own folder.
    """

    folder: Path
    _owned: dict[str, set[Path]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def uploads(self) -> Path:
        """Where uploads arrive: each in a folder that is named by its content, so sessions may share one."""
        return self.folder / "uploads"

    @property
    def results(self) -> Path:
        """Where the results of a labelling are, in a folder whose name nobody can guess."""
        return self.folder / "results"

    @property
    def scratch(self) -> Path:
        """Where libraries put their temporary files."""
        return self.folder / "scratch"

    def is_upload(self, path: str) -> bool:
        """Tell whether a path, which a request names, is that of an upload."""
        # Of what is no path at all, such as one with a NUL, the system knows no file.
        with suppress(ValueError):
            file = Path(path)
            inside = file.parent.parent == self.uploads and ".." not in file.parts
            return inside and file.is_file() and not file.is_symlink() and not file.parent.is_symlink()
        return False

    def own(self, session: str, folder: Path) -> None:
        """Note that a folder of uploads or results belongs to a session too."""
        if folder.parent in (self.uploads, self.results):
            with self._lock:
                self._owned.setdefault(session, set()).add(folder)

    def owns(self, session: str, folder: Path) -> bool:
        """Tell whether a folder belongs to a session."""
        with self._lock:
            return folder in self._owned.get(session, ())

    def new_results(self, session: str) -> Path:
        """Make a session's folder for the results of one labelling."""
        folder = self.results / secrets.token_urlsafe(32)
        folder.mkdir()
        self.own(session, folder)
        return folder

    def result(self, token: str, name: str) -> Path | None:
        """Return a file of results, or None if there is no such file."""
        path = self.results / token / name
        inside = path.parent.parent == self.results and ".." not in (token, name)
        return path if inside and path.is_file() and not path.is_symlink() else None

    def disown(self, session: str, *folders: Path) -> None:
        """Remove folders of a session, unless they belong to another one too."""
        with self._lock:
            self._owned[session] = self._owned.get(session, set()) - {*folders}
            for folder in {*folders}.difference(*self._owned.values()):
                shutil.rmtree(folder, ignore_errors=True)

    def end(self, session: str) -> None:
        """Remove what belongs to a session alone."""
        self.disown(session, *self._owned.get(session, ()))
        self._owned.pop(session, None)

    def sweep(self) -> None:
        """Remove what has been here for too long."""
        for entry in [*self.uploads.iterdir(), *self.results.iterdir(), *self.scratch.iterdir()]:
            with suppress(OSError):
                if time.time() - entry.stat().st_mtime > KEPT_HOURS * 3600:
                    _remove(entry)


@contextmanager
def page_files() -> Iterator[PageFiles]:
    """Give a server its folder, which is removed at the end; remove those of servers that were killed.

    Gradio and other libraries put their temporary files there too: call this before Gradio is imported.
    """
    folder, descriptor = _claim()
    before = tempfile.tempdir
    try:
        files = PageFiles(folder)
        for part in (files.uploads, files.results, files.scratch):
            part.mkdir()
        remove_leftovers()
        tempfile.tempdir = str(files.scratch)
        os.environ.update(GRADIO_TEMP_DIR=str(files.uploads), GRADIO_ANALYTICS_ENABLED="False")
        yield files
    finally:
        tempfile.tempdir = before
        with _undisturbed():
            shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_leftovers() -> None:
    """Remove the folders whose server is dead: the kernel drops a dead server's lock.

    On Windows, where a folder has no lock, they stay.
    """
    if sys.platform == "win32":
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Others' folders cannot be locked by us, or are none of our business.
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            descriptor = _lock(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _claim() -> tuple[Path, int]:
    """Make a folder and lock it for as long as this process lives; return it and the lock's descriptor."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        try:
            descriptor = _lock(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # Between creation and lock another server took the folder for a leftover.
        except OSError:
            return folder, os.open(os.devnull, os.O_RDONLY)  # A file system without locks: leftovers stay there.
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """Lock a folder and return the descriptor that holds the lock.

    Raises:
        OSError: another process holds it.
    """
    if sys.platform == "win32":
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no second Ctrl-C or SIGTERM break off the block."""
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
