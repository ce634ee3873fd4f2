"""Ctrl-C and SIGTERM at any moment: one line, the shell's exit code, and nothing lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from tests.e2e.workplace import Workplace

if sys.platform == "win32":
    pytest.skip("Windows sends other signals", allow_module_level=True)

# Sends itself a signal when it looks for its N-th module, and again at the next ones; then does what `lpgnet` does.
COMMAND = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
from lpgnet.pipeline.cli import main

class Interrupt:
    number, first, times = (int(sys.argv.pop(1)) for _ in range(3))
    looked = 0
    def find_spec(self, name, path=None, target=None):
        Interrupt.looked += 1
        if self.first <= Interrupt.looked < self.first + self.times:
            os.kill(os.getpid(), self.number)

sys.meta_path.insert(0, Interrupt())
sys.exit(main())
"""
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def line_of(number: signal.Signals) -> str:
    return f"lpgnet: {WORDS[number]}; finished work is kept, and the same command continues from there\n"


def interrupted_at(
    arguments: Sequence[str], first: int, *, number: signal.Signals = signal.SIGINT, times: int = 1
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, str(int(number)), str(first), str(times), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


# The first modules are the command's own, then come rich, jsonargparse, torch.
@pytest.mark.parametrize("first", [1, 2, 30, 300, 900])
def test_while_it_imports(workplace: Workplace, first: int) -> None:
    done = interrupted_at(workplace.arguments("train"), first)
    assert (done.returncode, done.stderr, done.stdout) == (130, line_of(signal.SIGINT), "")


def test_the_server_keeps_nothing() -> None:
    done = interrupted_at(["serve"], 40)
    assert (done.returncode, done.stderr) == (130, "lpgnet: interrupted\n")


@pytest.mark.parametrize("stage", ["prepare", "features", "evaluate", "crossval", "predict", "export", "cache"])
def test_every_command(stage: str) -> None:
    done = interrupted_at([stage], 40)
    assert (done.returncode, done.stderr) == (130, line_of(signal.SIGINT))


def test_terminated(workplace: Workplace) -> None:
    done = interrupted_at(workplace.arguments("train"), 300, number=signal.SIGTERM)
    assert (done.returncode, done.stderr) == (143, line_of(signal.SIGTERM))


@pytest.mark.parametrize("times", [2, 3])
def test_pressed_again(workplace: Workplace, times: int) -> None:
    done = interrupted_at(workplace.arguments("train"), 300, times=times)
    assert (done.returncode, done.stderr) == (130, line_of(signal.SIGINT))


@pytest.mark.parametrize("number", WORDS)
def test_while_it_trains(workplace: Workplace, number: signal.Signals) -> None:
    options = workplace.arguments("train", "--training.epochs", "4000")
    command = [sys.executable, "-c", COMMAND, "2", "1000000", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    checkpoints = workplace.folder / "work" / "small" / "runs" / "default" / "checkpoints"
    while not list(checkpoints.glob("epoch-0000[2-9].safetensors")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number, errors
    assert errors.endswith(line_of(number)) and errors.count("lpgnet:") == 1
    assert "Traceback" not in errors and "Exception ignored" not in errors
    assert list(checkpoints.glob("epoch-*.safetensors"))


def test_a_background_process_that_ignores_interrupts_goes_on(workplace: Workplace) -> None:
    code = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); from lpgnet.pipeline import cli; "
    code += "cli.STAGES['pause'] = ''; sys.modules['lpgnet.pipeline.pause'] = cli; "
    code += "cli.main = lambda _: os.kill(os.getpid(), signal.SIGINT) or 0; sys.exit(cli.run_stage('pause', []))"
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ)).returncode == 0
