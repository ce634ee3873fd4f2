"""What may come of a hostile input: it is read, or refused in words that name its file, soon and in little memory."""

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import lpgnet
from lpgnet.cache import StoreError
from lpgnet.feature_extractors.errors import EncoderError
from lpgnet.model.errors import ModelError
from lpgnet.pipeline.errors import PipelineError
from tests.hostile.readers import Reader

FOR_PEOPLE = (PipelineError, StoreError, EncoderError, ModelError)
# Valid inputs of this size take milliseconds and a few megabytes, so neither depends on the machine.
CPU_SECONDS = 2.0
MEMORY_BYTES = 500 * 2**20
_ROOT = Path(lpgnet.__file__).parents[1]
_ROOMS = {
    file.parent
    for room in ("pipeline", "cache", "model", "feature_extractors")
    for file in (_ROOT / room).rglob("*.py")
}


class Slow(BaseException):
    """The reader has used up its time; no `except Exception` may take it for an error of the input."""


def complaint(reader: Reader, folder: Path, data: bytes) -> str | None:
    """Read hostile bytes and tell what is wrong with what came of it.

    Args:
        reader: what reads them.
        folder: where the reader's other files are (`Reader.lay`).
        data: the input.

    Returns:
        What is wrong and where, the same for inputs that fail alike; None where nothing is.
    """
    path = folder / reader.file
    path.write_bytes(data)
    try:
        with limits():
            reader.read(path)
    except FOR_PEOPLE as error:
        return None if _names(str(error), path) else f"a message that does not name its file, raised in {_place(error)}"
    except (Exception, Slow) as error:
        return f"{type(error).__name__}, raised in {_place(error)}"
    return None


def _names(message: str, path: Path) -> bool:
    return path.name in message or str(path.parent) in message


@contextmanager
def limits() -> Iterator[None]:
    """Stop what takes more time of the processor, or more memory, than any input may cost (where the system can)."""
    with _little_time(), _little_memory():
        yield


@contextmanager
def _little_time() -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise Slow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def _little_memory() -> Iterator[None]:
    """Let an allocation beyond the limit fail, as a MemoryError."""
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _place(error: BaseException) -> str:
    """The innermost function of the project that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).parent in _ROOMS] or frames
    return f"{ours[-1].name} of {Path(ours[-1].filename).name}"
