"""What tuning an encoder takes: seconds and memory of a step, by precision, and with checkpointing.

Run `python benchmarks/tuning.py`; it prints a Markdown table, and `--write` puts it into docs/benchmarks.md. A row is
a process of its own that takes a few steps on utterances of 3 seconds of noise, by the demo's audio encoder and by a
wav2vec2 of base size with random weights. Memory is the process's peak during the steps, less what it held before.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
from page import ROOT, make_parser, publish
from processes import in_a_process, memory, peak_memory

# isort: split
import torch

BATCH, SECONDS, RATE = 4, 3, 16_000
ENCODERS = {"demo": "0.6 M", "base": "94 M"}


def make_base(folder: Path) -> None:
    """Write a wav2vec2 of base size with random weights."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)


def measure(folder: Path, *, precision: str, checkpointing: bool, steps: int) -> dict[str, float]:
    """Take some steps, and return the median seconds of processor time and the memory (MB) of one."""
    from lpgnet.feature_extractors import load_encoder
    from lpgnet.pipeline.config import TuneConfig
    from lpgnet.pipeline.tuning.lora import add_adapters, checkpoint_blocks, set_dropout

    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = load_encoder(f"hf:{folder}", layers="all")
    rng = np.random.default_rng(0)
    items = [rng.normal(0, 0.1, SECONDS * RATE).astype(np.float32) for _ in range(BATCH)]
    add_adapters(encoder, TuneConfig(), items[0])
    set_dropout(encoder, on=True)
    if checkpointing:
        checkpoint_blocks(encoder)
    learned = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, 1e-4)
    seconds, before = [], memory()
    for _ in range(steps):
        started = process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            embedded = encoder.embed(items)
        embedded.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(process_time() - started)
    return {"seconds": median(seconds), "memory": peak_memory() - before, "parameters": sum(p.numel() for p in learned)}


def table(folder: Path, steps: int) -> Iterator[str]:
    """Yield the table's lines."""
    make_base(folder / "base")
    folders = {"demo": ROOT / "examples" / "demo" / "encoders" / "audio", "base": folder / "base"}
    yield "| encoder | adapters | precision | checkpointing | s a step | memory (MB) |"
    yield "|---|---|---|---|---|---|"
    for (name, size), precision, on in product(ENCODERS.items(), ("fp32", "bf16"), (False, True)):
        found = in_a_process(__file__, "--measure", folders[name], precision, int(on), steps)
        adapters = f"{found['parameters'] / 1e6:.2f} M"
        cells = [f"{name}, {size}", adapters, precision, "on" if on else "off"]
        yield f"| {' | '.join(cells)} | {found['seconds']:.2f} | {found['memory']:.0f} |"


def main() -> None:
    """Measure one row where a row is asked for, else print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=2, help="of a row (default: 2)")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        folder, precision, on, steps = options.measure
        print(json.dumps(measure(Path(folder), precision=precision, checkpointing=on == "1", steps=int(steps))))
        return
    how = f"{options.steps} steps of {BATCH} utterances of {SECONDS} s a row"
    with tempfile.TemporaryDirectory() as folder:
        publish(table(Path(folder), options.steps), script="tuning.py", write=options.write, how=how)


if __name__ == "__main__":
    main()
