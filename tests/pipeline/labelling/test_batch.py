"""Labelling many recordings: what is looked at to see whether one has changed."""

import os
from pathlib import Path

from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.labelling.batch import _digests


def test_a_recording_that_is_too_large_is_not_read_for_its_digest(tmp_path: Path) -> None:
    large, small = tmp_path / "large.wav", tmp_path / "small.wav"
    for path, size in ((large, 20 * 10**9), (small, 1000)):
        path.touch()
        os.truncate(path, size)
    digests = _digests([large, small], PredictionConfig(out=str(tmp_path / "out")))
    assert digests[str(large)] is None
    assert digests[str(small)] is not None
