"""What users of the served page are told."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lpgnet.pipeline.labelling.page_labeller import name_of, without_folders


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/tmp/lpgnet-serve-x/uploads/abc/my call.wav: is empty", "my call.wav: is empty"),
        ("words: by hf:/home/me/models/whisper", "words: by hf:whisper"),
        ("see https://example.org/a/b and ./a/b or a/b/c", "see https://example.org/a/b and ./a/b or a/b/c"),
        ("'/a/b/c'", "'c'"),
        ("/a//b/c", "c"),
    ],
)
def test_folders_are_left_out(line: str, expected: str) -> None:
    assert without_folders(line) == expected


@given(st.text("/a .:", max_size=200))
@example("/://a/")
def test_no_path_from_the_root_keeps_its_folder(line: str) -> None:
    assert all(not word.startswith("/a/") or "//" in word for word in without_folders(line).split())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("call.wav", "call"), (".wav", "wav"), ("a.b.wav", "a.b"), ("...", "recording"), (" .wav", "recording")],
)
def test_results_have_a_name(name: str, expected: str) -> None:
    assert name_of(Path("/x") / name) == expected
