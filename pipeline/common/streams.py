"""Standard output and error, which may be closed, full, ASCII, or a pipe whose reader has gone."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from lpgnet.pipeline.errors import PipelineError


def prepare_streams() -> None:
    """Open what is closed, so that no file gets its number; show a character that cannot be encoded as an escape."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (open until the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Stream:
    """Standard output or error as it is at the time: a failure to write never breaks off the work.

    A reader that has gone (`| head`) wants no more: the rest is dropped. So are messages that cannot be written.

    Args:
        name: stdout or stderr.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def stream(self) -> TextIO | None:
        """The stream; None in a process that was started without it."""
        stream: TextIO | None = getattr(sys, self.name)
        return stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.stream is not None and self.stream.isatty()

    def write(self, text: str) -> None:
        """Write text.

        Raises:
            PipelineError: standard output cannot be written.
        """
        if self.stream is None:
            return
        try:
            self.stream.write(text)
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        """Write out what is held back.

        Raises:
            PipelineError: standard output cannot be written.
        """
        if self.stream is None:
            return
        try:
            self.stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stream.fileno() if self.stream else null)
            os.close(null)
        if self.name == "stdout" and not isinstance(error, BrokenPipeError):
            raise PipelineError(f"standard output: cannot be written ({error.strerror}); the work itself is done")


OUTPUT, MESSAGES = Stream("stdout"), Stream("stderr")
