"""Ctrl-C and SIGTERM: the first stops the work as an error does, so that all is tidied up; a second ends at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from threading import current_thread, main_thread
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
# A progress bar hides the cursor and shows it again when it ends.
SHOW_CURSOR = b"\x1b[?25h\n"


class Stop:
    """Whether the command was asked to stop.

    Libraries may turn the exception that a signal raises into another one, or drop it: the signal itself is kept.

    Args:
        keeps_work: whether what the command finished is there for the next one.

    Attributes:
        signal_number: the first signal that came; 0 before.
    """

    def __init__(self, *, keeps_work: bool = True) -> None:
        self.signal_number = 0
        self._comfort = "; finished work is kept, and the same command continues from there" if keeps_work else ""
        self._earlier = {number: signal.getsignal(number) for number in WORDS}
        self._hook = sys.unraisablehook

    def watch(self) -> None:
        """Handle the signals, except those that this process was told to ignore; only the main thread can."""
        if current_thread() is not main_thread():
            return
        sys.unraisablehook = self._receive_unraisable
        for number, handler in self._earlier.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, signal_number: int, frame: FrameType | None) -> NoReturn:
        if self.signal_number:
            self._end_at_once()
        self.signal_number = signal_number
        raise KeyboardInterrupt

    def _receive_unraisable(self, unraisable: UnraisableHookArgs) -> None:
        """End where the exception was dropped, as in a destructor: the work would go on."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._end_at_once()
        self._hook(unraisable)

    def _end_at_once(self) -> NoReturn:
        if os.isatty(2):
            os.write(2, SHOW_CURSOR)
        os._exit(self.conclude())

    def unwatch(self) -> None:
        """Put back the handlers that were there before, unless a signal came: one more must not break the exit."""
        if self.signal_number or current_thread() is not main_thread():
            return
        sys.unraisablehook = self._hook
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def conclude(self) -> int:
        """Say in one line that the command was stopped and return its exit code; from now on a signal says nothing."""
        # Also where code raised KeyboardInterrupt without a signal.
        self.signal_number = self.signal_number or signal.SIGINT
        code = 128 + self.signal_number
        for number in WORDS:
            signal.signal(number, lambda *_: os._exit(code))
        word = WORDS[signal.Signals(self.signal_number)]
        line = f"lpgnet: {word}{self._comfort}\n"
        # One process of a launch speaks for all. Not by sys.stderr, which the signal may have come in the midst of.
        if os.environ.get("RANK", "0") == "0":
            with suppress(OSError):
                os.write(2, line.encode())
        return code
