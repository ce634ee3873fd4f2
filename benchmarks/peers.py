"""How other packages embed: each by its own code, from the same files and checkpoints as this project's extraction.

None of them is a dependency. They are looked for in a folder of their own, as is h5py by store.py, behind the project's
environment, so that torch, transformers and all else that both have are the project's:

    pip list --format freeze | sed 's/==.*/ ; python_version < "3"/' > have.txt
    uv pip install --target build/peers --overrides have.txt nkululeko speechbrain sentence-transformers \
        onnxruntime onnx onnxscript h5py
"""

import configparser
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, RobertaModel, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from lpgnet.pipeline.embeddings.plan import Request

RATE = 16_000
# Gives one vector an utterance, (utterances, width).
Embed = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Peer:
    """A package: its distribution, how it goes through utterances, and what makes its loop of a checkpoint."""

    package: str
    how: str
    make: Callable[[Path, str, Sequence[Any]], Embed]
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def version(self) -> str | None:
        """The version that is installed, if any is."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


def nkululeko(checkpoint: Path, device: str, requests: Sequence[Request]) -> Embed:
    """Its `get_embeddings`; the files are read by soundfile, as its own reader needs torchcodec."""
    context = import_module("nkululeko.experiment_context")
    config = configparser.ConfigParser()
    experiment = {"root": f"{checkpoint.parent}", "name": "nkululeko"}
    model = {"MODEL": {"device": device}, "FEATS": {"wav2vec2.model": f"{checkpoint}"}}
    config.read_dict({"EXP": experiment, "DATA": {}, **model})
    with context.use_context(context.ExperimentContext(config=config)):
        extractor = import_module("nkululeko.feat_extract.feats_wav2vec2").Wav2vec2("bench", None, "wav2vec2")
        extractor.init_model()

    def embed(file: str) -> np.ndarray:
        signal = torch.from_numpy(soundfile.read(file, dtype="float32")[0]).unsqueeze(0)
        return np.asarray(extractor.get_embeddings(signal, RATE, file))

    return lambda: np.stack([embed(file) for file in _files(requests)])


def speechbrain(checkpoint: Path, device: str, requests: Sequence[Request]) -> Embed:
    """Its `Wav2Vec2`, frozen, over files read by its `read_audio`."""
    read = import_module("speechbrain.dataio.dataio").read_audio
    kind = import_module("speechbrain.integrations.huggingface.wav2vec2").Wav2Vec2
    model = kind(f"{checkpoint}", f"{checkpoint.parent}", freeze=True).to(device)

    def embed(file: str) -> np.ndarray:
        return np.asarray(model(read(file).unsqueeze(0).to(device))[0].mean(0).cpu())

    return lambda: np.stack([embed(file) for file in _files(requests)])


def sentence_transformers(checkpoint: Path, device: str, requests: Sequence[Request]) -> Embed:
    """Its `encode`, which sorts by length; its mean is over the special tokens too."""
    kind = import_module("sentence_transformers").SentenceTransformer
    model = kind(f"{checkpoint}", device=device, model_kwargs={"add_pooling_layer": False})
    return lambda: np.asarray(model.encode(_texts(requests), show_progress_bar=False))


def onnx_audio(checkpoint: Path, _: str, requests: Sequence[Request]) -> Embed:
    """The model exported by torch, one waveform at a time."""
    run = _session(Wav2Vec2Model.from_pretrained(checkpoint), torch.zeros(1, RATE))
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)

    def embed(file: str) -> np.ndarray:
        waveform = soundfile.read(file, dtype="float32")[0]
        return run(extractor(waveform, sampling_rate=RATE, return_tensors="np")["input_values"]).mean(0)

    return lambda: np.stack([embed(file) for file in _files(requests)])


def onnx_text(checkpoint: Path, _: str, requests: Sequence[Request]) -> Embed:
    """The model exported by torch, one text at a time."""
    run = _session(RobertaModel.from_pretrained(checkpoint, add_pooling_layer=False), torch.tensor([[0, 4, 5, 6, 2]]))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint)

    def embed(text: str) -> np.ndarray:
        return run(tokenizer(text, return_tensors="np")["input_ids"])[1:-1].mean(0)

    return lambda: np.stack([embed(text) for text in _texts(requests)])


PEERS = {
    "audio": (
        Peer("nkululeko", "one at a time", nkululeko),
        Peer("speechbrain", "one at a time", speechbrain),
        Peer("onnxruntime", "one at a time", onnx_audio, ("cpu",)),
    ),
    "text": (
        Peer("sentence-transformers", "batches of 32 by length", sentence_transformers),
        Peer("onnxruntime", "one at a time", onnx_text, ("cpu",)),
    ),
}


class _LastState(nn.Module):
    """A model that gives its last hidden state alone, as what is exported needs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, values: Tensor) -> Tensor:
        states: Tensor = self.model(values).last_hidden_state
        return states


def _session(model: nn.Module, example: Tensor) -> Callable[[np.ndarray], np.ndarray]:
    """Export a model for inputs `(1, any length)`, and return what runs it: `(1, length)` -> `(T, d)`."""
    runtime = import_module("onnxruntime")
    with redirect_stdout(sys.stderr):
        program = torch.onnx.export(
            _LastState(model).eval(), (example,), dynamic_shapes=({1: torch.export.Dim.DYNAMIC},), verbose=False
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait in a loop would slow whoever has the next turn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda values: np.asarray(session.run(None, {name: values})[0][0])


def _files(requests: Sequence[Any]) -> list[str]:
    return [request.source.file for request in requests]


def _texts(requests: Sequence[Any]) -> list[str]:
    return [request.source.text for request in requests]
