"""The process that labels for the served page: whatever a recording does to it, the page goes on answering."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.workers import interrupts_blocked
from lpgnet.pipeline.config import ServeConfig
from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from lpgnet.pipeline.labelling.page_labeller import Labeller

# Is called with the share that is done and the next step.
Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Job:
    """A recording to label.

    Attributes:
        recording: an audio or video file.
        transcript: its transcript, or None.
        target: folder for the results.
    """

    recording: Path
    transcript: Path | None
    target: Path


class LabellingProcess:
    """A process of its own that has loaded the model and labels one recording at a time.

    Args:
        config: names the model and the limits.
        scratch: folder for temporary files.

    Attributes:
        about_model: lines that say what the model is good for.

    Raises:
        PipelineError: the model cannot be loaded.
    """

    def __init__(self, config: ServeConfig, scratch: Path) -> None:
        self._config, self._scratch = config, scratch
        self._lock = Lock()
        self._closed = False
        self._start()

    def label(self, job: Job, tell: Tell) -> list[Path]:
        """Label a recording and return the files of its results.

        Raises:
            PipelineError: it cannot be labelled.
        """
        with self._lock:
            try:
                self._connection.send(job)
                return self._receive(tell)
            except (EOFError, OSError):
                raise PipelineError(self._replace_dead(job)) from None

    def close(self) -> None:
        """End the process at once, also while it labels."""
        self._closed = True
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._process = context.Process(target=_work, args=(far_end, self._config, self._scratch))
        with interrupts_blocked():
            self._process.start()
        # The process alone holds it now, so that its death ends what can be received.
        far_end.close()
        try:
            self.about_model: list[str] = self._receive(lambda share, step: None)
        except EOFError:
            raise PipelineError("the process that labels ended while it loaded the model") from None

    def _receive(self, tell: Tell) -> list[Any]:
        while isinstance(message := self._connection.recv(), tuple):
            tell(*message)
        if isinstance(message, PipelineError):
            raise message
        answer: list[Any] = message
        return answer

    def _replace_dead(self, job: Job) -> str:
        """Start a new process in the place of the one that ended, and return what to tell people."""
        if self._closed:
            return "the server is being stopped"
        self._process.join()
        say(f"the process that labels ended (exit code {self._process.exitcode}) with {job.recording.name}")
        self._start()
        return f"{job.recording.name}: labelling it broke off, perhaps for lack of memory; try a shorter recording"


@contextmanager
def labelling_process(config: ServeConfig, scratch: Path) -> Iterator[LabellingProcess]:
    """Give a process that labels, which ends with the block."""
    process = LabellingProcess(config, scratch)
    try:
        yield process
    finally:
        process.close()


def _work(connection: Connection, config: ServeConfig, scratch: Path) -> None:
    """Load the model and label what is asked for, until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_server, daemon=True).start()
    tempfile.tempdir = str(scratch)
    with suppress(EOFError, OSError):
        labeller = _load(config)
        connection.send(labeller if isinstance(labeller, PipelineError) else list(labeller.pipeline.about_model))
        while not isinstance(labeller, PipelineError):
            connection.send(_label(labeller, connection.recv(), lambda *step: connection.send(step)))


def _end_with_server() -> None:
    # Not `end_with_parent`: on Linux that ends with the thread that started this process, which may be one of a pool.
    server = multiprocessing.parent_process()
    if server is not None:
        wait([server.sentinel])
        os._exit(1)


def _load(config: ServeConfig) -> Labeller | PipelineError:
    # Imported here: the server itself needs no torch.
    from lpgnet.pipeline.labelling.page_labeller import Labeller

    try:
        labeller = Labeller.from_config(config)
        say(f"serve: {labeller.pipeline.places}")
        return labeller
    except Exception as error:
        return error if isinstance(error, PipelineError) else PipelineError(f"{type(error).__name__}: {error}")


def _label(labeller: Labeller, job: Job, tell: Tell) -> list[Path] | PipelineError:
    try:
        return labeller.label(job, tell)
    except PipelineError as error:
        return error
    except Exception as error:
        # Only whoever runs the server is told what it was.
        say(f"unexpected {type(error).__name__}: {error}; please report it")
        return PipelineError("The recording could not be labelled.")
