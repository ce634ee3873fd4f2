"""How long `lpgnet features` takes when everything is cached: a synthetic corpus of IEMOCAP's size.

10,039 utterances in 151 dialogues, one short wav each; the rows of both encoders are zeros put into the store under
the real keys, so that nothing is left to extract. Prints the wall time of whole commands, Python's start included.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import soundfile

from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.corpora.manifest import read_manifest
from lpgnet.pipeline.embeddings.prepared import encoded_modalities, prepare_modality

UTTERANCES, DIALOGUES = 10_039, 151
ROUNDS = 5


def make_corpus(root: Path) -> None:
    """Write a table, and a wav file of different noise for each utterance."""
    (root / "wav").mkdir(parents=True)
    noise = np.random.default_rng(0)
    rows = ["dialogue_id,utterance_id,audio,text,speaker,session,label"]
    for index in range(UTTERANCES):
        dialogue = index * DIALOGUES // UTTERANCES
        name = f"d{dialogue:03}_u{index:05}"
        soundfile.write(root / "wav" / f"{name}.wav", noise.integers(-999, 999, 1600, dtype=np.int16), 16000)
        rows.append(
            f"d{dialogue:03},{name},wav/{name}.wav,words of utterance {index},s{dialogue % 10},{dialogue % 5},a"
        )
    (root / "table.csv").write_text("\n".join(rows) + "\n")


def fill_store(arguments: list[str]) -> None:
    """Write rows of zeros under every key that the corpus needs."""
    config = parse_config("features", arguments, Config)
    manifest = read_manifest(config.folder)
    for modality in encoded_modalities(config.encoders):
        prepared = prepare_modality(config, manifest, modality)
        with prepared.stored.own.writer(prepared.spec.to_dict()) as writer:
            for request in prepared.plan.requests:
                writer.add(request.key, np.zeros((1, 768), np.float32), n_frames=1)


def seconds_of(command: list[str]) -> float:
    """Run a command and return the seconds it took."""
    started = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return perf_counter() - started


def main() -> None:
    """Make the corpus, fill the store and time the stages that have nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_corpus(work / "corpus")
        config = work / "x.yaml"
        encoders = {m: {"name": f"hf:examples/demo/encoders/{m}", "precision": "fp32"} for m in ("audio", "text")}
        values = {
            "name": "big",
            "work": folder,
            "corpus": {"root": str(work / "corpus"), "options": {"table": "table.csv"}},
            "encoders": encoders,
            "features": {"store": str(work / "store")},
        }
        config.write_text(json.dumps(values))
        arguments = ["--config", str(config)]
        stages = {
            name: [sys.executable, "-m", f"lpgnet.pipeline.{name}", *arguments] for name in ("prepare", "features")
        }
        seconds_of(stages["prepare"])
        fill_store(arguments)
        for name, command in stages.items():
            times = [seconds_of(command) for _ in range(ROUNDS)]
            print(f"{name} with nothing to do, {UTTERANCES:,} utterances: median {statistics.median(times):.2f} s")


if __name__ == "__main__":
    main()
