"""What threads cost and gain: OpenMP as it is, threads that sleep while they wait, and one thread alone.

Run `python benchmarks/threads.py [--write]` on Linux; it takes four minutes on two free cores. All is measured twice:
with the cores free, and with one of them kept busy by a loop of another process. Figures are by the clock and, in
brackets, of processor time, over all threads.

The first table runs whole commands on the demo, in "before" with what OpenMP does when nobody tells it anything: as
many threads as cores, which spin while they wait. In the second one process for each setting computes the same pieces
of work; the settings take turns, and a figure is the median of the rounds. Sounds, words and weights are random.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, NamedTuple

from page import ROOT, make_parser, publish

from lpgnet.pipeline.common.threads import COUNT, WAITING

if TYPE_CHECKING:
    from torch import nn

CORES = len(os.sched_getaffinity(0))
# What GNU's OpenMP does where nothing is set; set, commands leave it.
UNTOLD = {"OMP_NUM_THREADS": str(CORES), "GOMP_SPINCOUNT": "300000"}
SLEEPING, ALONE = "sleeping", "one thread"
SETTINGS = {"spinning": UNTOLD, SLEEPING: {"OMP_WAIT_POLICY": "PASSIVE"}, ALONE: {"OMP_NUM_THREADS": "1"}}
# A piece of work is repeated for at least so long (seconds).
LEAST = 0.4
RATE = 16_000


class Seconds(NamedTuple):
    """Seconds by the clock, and processor seconds of all threads."""

    clock: float
    processor: float


class Work(NamedTuple):
    """A piece of work, and the network that it is the work of."""

    network: nn.Module
    run: Callable[[], object]


def demo_encoder(modality: str) -> Work:
    """Embed six utterances of one to four seconds, or thirty of up to eight words."""
    import numpy as np

    from lpgnet.feature_extractors import load_encoder
    from lpgnet.pipeline.common.console import quiet_transformers

    quiet_transformers()
    encoder: Any = load_encoder(f"hf:{ROOT}/examples/demo/encoders/{modality}", layers="all", precision="fp32")
    noise = np.random.default_rng(0)
    sounds = [noise.normal(0, 0.1, int(RATE * seconds)).astype(np.float32) for seconds in (1, 1.5, 2, 2.5, 3, 4)]
    items = {"audio": sounds, "text": ["no", "I am so happy that you are here", "what do you mean"] * 10}
    return Work(encoder, partial(encoder.encode, items[modality]))


def base_audio() -> Work:
    """Run a wav2vec2 of base size over two seconds."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return _inferring(Wav2Vec2Model(Wav2Vec2Config()), torch.randn(1, 2 * RATE))


def base_text() -> Work:
    """Run a RoBERTa of base size over eight texts of 24 tokens."""
    import torch
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(vocab_size=1000, max_position_embeddings=514, type_vocab_size=1)
    return _inferring(RobertaModel(config, add_pooling_layer=False), torch.randint(5, 1000, (8, 24)))


def _inferring(model: nn.Module, inputs: Any) -> Work:
    import torch

    return Work(model.eval(), torch.inference_mode()(partial(model, inputs)))


def writing() -> Work:
    """Write ten tokens, one after another, by a Whisper of base size."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()
    sizes = {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048}
    heads = {"encoder_attention_heads": 8, "decoder_attention_heads": 8}
    model = WhisperForConditionalGeneration(WhisperConfig(**sizes, **heads)).eval()
    heard = BaseModelOutput(torch.randn(1, 1500, 512))
    return Work(model, lambda: model.generate(encoder_outputs=heard, max_new_tokens=10, min_new_tokens=10))


def training(model_type: str, width: int) -> Work:
    """Take a step over four dialogues of 66 turns, with inputs of the sizes that base-size encoders give."""
    import torch

    from lpgnet.model import build_model

    sizes = {"text": [1, 768], "audio": [13, 768]}
    model = build_model(model_type, input_sizes=sizes, hidden_size=width).train()
    optimizer = torch.optim.AdamW(model.parameters())
    turns = (4, 66)
    inputs = {name: torch.randn(*turns, *size) for name, size in sizes.items()}
    mask = torch.ones(turns, dtype=torch.bool)
    batch = {"speakers": torch.arange(66).expand(turns) % 2, "labels": torch.randint(4, turns)}

    def step() -> None:
        model(inputs, dict.fromkeys(sizes, mask), mask, **batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return Work(model, step)


def voice_activity() -> Work:
    """Look for speech in a minute; the function that the commands call would take one thread here too."""
    import numpy as np

    from lpgnet.pipeline.corpora.voice_activity import load_network, speech_probabilities

    sound = np.random.default_rng(0).normal(0, 0.1, 60 * RATE).astype(np.float32)
    return Work(load_network(), partial(speech_probabilities.__wrapped__, [sound]))  # type: ignore[attr-defined]


WORKS: dict[str, Callable[[], Work]] = {
    "the demo's audio encoder": partial(demo_encoder, "audio"),
    "the demo's text encoder": partial(demo_encoder, "text"),
    "wav2vec2, base size": base_audio,
    "RoBERTa, base size": base_text,
    "Whisper writing, base size": writing,
    "LPGNet, a training step": partial(training, "lpgnet", 256),
    "LPGNet at d = 128, the same": partial(training, "lpgnet", 128),
    "SDT at d = 1024, the same": partial(training, "sdt", 1024),
    "voice activity": voice_activity,
}


def compute(connection: Connection) -> None:
    """Do the work that is asked for, and answer what one piece of it took, until nobody asks."""
    import torch

    from lpgnet.pipeline.common.threads import threads_for

    made: dict[str, Work] = {}
    while name := connection.recv():
        if name not in made:
            made[name] = WORKS[name]()
            made[name].run()
        network, run = made[name]
        with threads_for(network):
            chosen = torch.get_num_threads()
        connection.send((timed(run), sum(p.numel() for p in network.parameters()), chosen))


def timed(run: Callable[[], object]) -> Seconds:
    """Repeat work and return the time of one piece of it."""
    count, clock, processor = 0, perf_counter(), process_time()
    while perf_counter() - clock < LEAST:
        run()
        count += 1
    return Seconds((perf_counter() - clock) / count, (process_time() - processor) / count)


@contextmanager
def computing(settings: Mapping[str, str]) -> Iterator[Connection]:
    """Give a process that computes, started with what OpenMP is told."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=compute, args=(theirs,))
    # It inherits the environment, from which `main` took what OpenMP would read.
    os.environ.update(settings)
    process.start()
    for name in settings:
        del os.environ[name]
    try:
        yield ours
    finally:
        ours.send(None)
        process.join()


@contextmanager
def beside(busy: bool) -> Iterator[None]:
    """Keep a core busy meanwhile, if it is to be."""
    if not busy:
        yield
        return
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


def measure_works(rounds: int) -> Iterator[str]:
    """Let the settings take turns at every piece of work, and yield the table."""
    columns = [*SETTINGS, *(f"{name}, a core busy" for name in SETTINGS)]
    yield f"| milliseconds for | million parameters | {' | '.join(columns)} |"
    yield f"|---|---:|{'---:|' * 2 * len(SETTINGS)}"
    with ExitStack() as stack:
        processes = {name: stack.enter_context(computing(settings)) for name, settings in SETTINGS.items()}
        for work in WORKS:
            yield from _row(work, processes, rounds)
            print(f"{work} done", file=sys.stderr)


def _row(work: str, processes: Mapping[str, Connection], rounds: int) -> Iterator[str]:
    cells: list[str] = []
    for process in processes.values():
        _answer(process, work)  # the first time is slower
    for busy in (False, True):
        found: dict[str, list[Seconds]] = {name: [] for name in processes}
        with beside(busy):
            for _ in range(rounds):
                for name, process in processes.items():
                    seconds, parameters, chosen = _answer(process, work)
                    found[name].append(seconds)
                    if name == SLEEPING:
                        taken = name if chosen > 1 else ALONE
        cells += [_cell(found[name], 1000, bold=name == taken) for name in processes]
    yield f"| {work} | {parameters / 1e6:.1f} | {' | '.join(cells)} |"


def _answer(process: Connection, work: str) -> tuple[Seconds, int, int]:
    process.send(work)
    answer: tuple[Seconds, int, int] = process.recv()
    return answer


def _cell(rounds: Sequence[Seconds], factor: float, *, bold: bool = False) -> str:
    clock, processor = (factor * median(values) for values in zip(*rounds, strict=True))
    mark = "**" if bold else ""
    return f"{mark}{clock:.{1 if clock < 20 else 0}f} ({processor:.{1 if processor < 20 else 0}f}){mark}"


def measure_commands(folder: Path, rounds: int) -> Iterator[str]:
    """Run commands on the demo before and now, in turns, and yield the table."""
    config = ["--config", "configs/demo.yaml", "--work", str(folder / "work"), "--features.store"]
    run(["prepare", *config, str(folder / "store")], {})
    run(["features", *config, str(folder / "store")], {})
    run(["train", *config, str(folder / "store")], {})
    yield "| seconds for `lpgnet` | before | now | before, a core busy | now, a core busy |"
    yield "|---|---:|---:|---:|---:|"
    for command in ("features", "train", "predict"):
        found: dict[tuple[bool, bool], list[Seconds]] = {}
        for number in range(rounds):
            for busy in (False, True):
                for now in (False, True):
                    arguments = fresh(command, config, folder / f"{number}-{busy}-{now}")
                    with beside(busy):
                        found.setdefault((busy, now), []).append(run(arguments, {} if now else UNTOLD))
        yield f"| `{command}` | {' | '.join(_cell(times, 1) for times in found.values())} |"
        print(f"{command} done", file=sys.stderr)


def fresh(command: str, config: Sequence[str], folder: Path) -> list[str]:
    """Return the arguments of a command that finds nothing done."""
    store = str(folder.parent / "store")
    return {
        "features": ["features", *config, str(folder / "store")],
        "train": ["train", *config, store, "--run", folder.name, "--training.epochs", "20"],
        "predict": [
            *("predict", "examples/demo/recording/recording.flac", "--out", str(folder / "timelines")),
            *("--model", str(folder.parent / "work" / "demo" / "runs" / "default")),
        ],
    }[command]


def run(arguments: Sequence[str], settings: Mapping[str, str]) -> Seconds:
    """Run a command, and return what it took with its children."""
    before, clock = getrusage(RUSAGE_CHILDREN), perf_counter()
    subprocess.run(
        [sys.executable, "-m", "lpgnet", *arguments],
        cwd=ROOT,
        env={**os.environ, **settings},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = getrusage(RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(perf_counter() - clock, processor)


def tables(rounds: int) -> Iterator[str]:
    """Measure, and yield both tables."""
    with tempfile.TemporaryDirectory() as folder:
        yield "**Whole commands on the demo**"
        yield ""
        yield from measure_commands(Path(folder), max(1, rounds // 2))
    yield ""
    yield "**Pieces of work**: first with all cores free, then with one of them busy; bold is what commands do"
    yield ""
    yield from measure_works(rounds)


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=3, help="of the pieces of work; half as many of commands")
    options = parser.parse_args()
    for name in (COUNT, *WAITING):
        os.environ.pop(name, None)
    publish(tables(options.rounds), script="threads.py", write=options.write, how=f"{options.rounds} rounds")


if __name__ == "__main__":
    main()
