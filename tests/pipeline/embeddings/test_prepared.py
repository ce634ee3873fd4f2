"""What an encoder of an experiment is, before anything is embedded."""

from pathlib import Path
from typing import Literal

import pytest
import torch

from lpgnet.pipeline.config import Config, FeaturesConfig
from lpgnet.pipeline.embeddings.prepared import _precision
from lpgnet.pipeline.errors import UsageError


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU to look at")
@pytest.mark.parametrize(
    ("engine", "message"),
    [("ray", r"encoders.audio.precision: auto looks at this machine.*say bf16 or fp32"), ("local", "no such GPU here")],
)
def test_the_precision_of_gpus_that_are_elsewhere_is_the_users_to_say(
    engine: Literal["ray", "local"], message: str, tmp_path: Path
) -> None:
    config = Config(work=str(tmp_path), engine=engine, features=FeaturesConfig(device="cuda"))
    with pytest.raises(UsageError, match=message):
        _precision(config, "audio")
    config.encoders.audio.precision = "bf16"
    assert _precision(config, "audio") == "bf16"
