"""What tuning an encoder takes: seconds and memory of a step, by precision, and with checkpointing.

Run `python benchmarks/tuning.py`; it prints a Markdown table, and `--write` puts it into docs/benchmarks.md. A row is
a process of its own that takes a few steps on utterances of 3 seconds of noise, by the demo's audio encoder and by a
wav2vec2 of base size with random weights. Memory is the process's peak during the steps, less what it held before.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import torch
from page import ROOT, print_table

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
    seconds, before = [], resident()
    for _ in range(steps):
        started = process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            embedded = encoder.embed(items)
        embedded.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(process_time() - started)
    return {"seconds": median(seconds), "memory": peak() - before, "parameters": sum(p.numel() for p in learned)}


def resident() -> float:
    """Return the memory that this process holds (MB)."""
    return _status("VmRSS")


def peak() -> float:
    """Return the most memory that this process has held (MB)."""
    return _status("VmHWM")


def _status(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def table(folder: Path, steps: int) -> Iterator[str]:
    """Yield the table's lines."""
    make_base(folder / "base")
    folders = {"demo": ROOT / "examples" / "demo" / "encoders" / "audio", "base": folder / "base"}
    yield "| encoder | adapters | precision | checkpointing | s a step | memory (MB) |"
    yield "|---|---|---|---|---|---|"
    for (name, size), precision, on in product(ENCODERS.items(), ("fp32", "bf16"), (False, True)):
        options = [str(folders[name]), precision, str(int(on)), str(steps)]
        command = [sys.executable, __file__, "--one", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        adapters = f"{found['parameters'] / 1e6:.2f} M"
        cells = [f"{name}, {size}", adapters, precision, "on" if on else "off"]
        yield f"| {' | '.join(cells)} | {found['seconds']:.2f} | {found['memory']:.0f} |"


def main() -> None:
    """Measure one row where a row is asked for, else print the table."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--one", nargs=4)
    one = parser.parse_known_args()[0].one
    if one is None:
        about = __doc__ or ""
        print_table(table, script="tuning.py", about=about, seeds=f"steps of {BATCH} utterances of {SECONDS} s a row")
        return
    sys.path.insert(0, str(ROOT))
    folder, precision, on, steps = one
    print(json.dumps(measure(Path(folder), precision=precision, checkpointing=on == "1", steps=int(steps))))


if __name__ == "__main__":
    main()
