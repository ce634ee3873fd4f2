"""The family in docs/encoders.md, installed from the page's own text, passes the checks and is found by its name."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "encoders.md"
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from lpgnet.feature_extractors import check_encoder, list_encoders
print(list_encoders("peak"))
print(*(result for result in check_encoder("peak:simple")), sep="\\n")
"""


def examples() -> dict[str, str]:
    """The page's files by name."""
    blocks = re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    return dict(blocks)


def test_the_documented_family_works(tmp_path: Path) -> None:
    files = examples()
    (tmp_path / "peak_encoder.py").write_text(files["peak_encoder.py"])
    points = tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]
    installed = tmp_path / "peak-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: peak\nVersion: 1.0\n")
    lines = [f"[{group}]\n{name} = {value}\n" for group, names in points.items() for name, value in names.items()]
    (installed / "entry_points.txt").write_text("".join(lines))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "['peak:simple']" in done.stdout
    assert done.stdout.count("ok    ") == 8 and "FAIL" not in done.stdout, done.stdout
