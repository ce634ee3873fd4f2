"""Golden outputs: weights and inputs made by formula, a few numbers of what comes out.

When one of these changes on purpose, raise `ENCODER_VERSION`, so that embeddings made before are not found again.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lpgnet.feature_extractors import TextItem, load_encoder
from lpgnet.feature_extractors.spec import ENCODER_VERSION
from tests.feature_extractors.conftest import AUDIO, TEXT, build, feature_extractor, word_tokenizer


def by_formula(name: str, folder: Path) -> str:
    """A checkpoint whose every weight is a sine of its place; the encoder's name."""
    kind, fields = (AUDIO | TEXT)[name]
    model: Any = build(kind, fields)
    with torch.no_grad():
        for parameter in model.parameters():
            places = torch.arange(parameter.numel(), dtype=torch.float64).reshape(parameter.shape)
            parameter.copy_(0.3 * torch.sin(1.7 * places) + 0.1)
    model.save_pretrained(folder)
    (feature_extractor(name) if name in AUDIO else word_tokenizer()).save_pretrained(folder)
    return f"hf:{folder}"


def tone(samples: int) -> np.ndarray:
    """A gliding tone."""
    time = np.arange(samples) / 16_000
    return (0.2 * np.sin(2 * np.pi * (150 + 30 * time) * time)).astype(np.float32)


GOLDEN: dict[str, tuple[dict[str, Any], Any, list[float]]] = {
    "wav2vec2_group": ({"layers": [1], "max_seconds": 1.0}, tone(40_000), [0.12141, 0.99737, 0.01589, 0.10814]),
    "wav2vec2_bert": ({}, tone(20_000), [0.22546, 0.46304, 0.0037, -0.14195]),
    "whisper": ({"pooling": "mean_std"}, tone(20_000), [0.24358, 0.45476, 0.01106, -0.07118]),
    "roberta": ({}, TextItem("a b c", ("d e", "f")), [0.12686, 0.81547, 0.01785, 0.1135]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_outputs(name: str, tmp_path: Path) -> None:
    settings, item, expected = GOLDEN[name]
    values = load_encoder(by_formula(name, tmp_path), **settings).encode([item])[0].values
    assert ENCODER_VERSION == 1
    np.testing.assert_allclose(values[0, :4], expected, rtol=1e-3, atol=1e-4)
