"""No cell that is written is run by a spreadsheet, and every cell is read as it was."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lpgnet.pipeline.common.spreadsheets import harmless, meant
from lpgnet.pipeline.corpora.text import named_rows

FORMULAS = ("=1+1", "+1-1", "-1*2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "=", "-", "- well", "-1.5.2", "-1,5")
NUMBERS = ("-1.5", "+2", "-.5", "-1.", "-1e-9", "0", "3.25")
# Texts of what matters here, besides any other.
TEXTS = st.text("'=+-@\t\r\n1.e\" a", max_size=6) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize("cell", FORMULAS)
def test_formulas_become_text(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"
    assert harmless(f"'{cell}") == f"''{cell}"


@pytest.mark.parametrize("cell", [*NUMBERS, "", "'", "'tis", "''", "'-1.5", "well - no", " =1"])
def test_all_else_stays(cell: str) -> None:
    assert harmless(cell) == meant(cell) == cell


@given(TEXTS)
def test_what_is_written_is_not_run(text: str) -> None:
    written = harmless(text)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r")) or float(written) == float(text)


@given(TEXTS)
@example("''=1")
@example("'-1.5")
def test_what_is_written_is_read(text: str) -> None:
    assert meant(harmless(text)) == text


@given(st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from([(".csv", ","), (".csv", ";"), (".tsv", "\t")]))
def test_tables_are_read_as_they_were_meant(texts: list[str], form: tuple[str, str]) -> None:
    suffix, delimiter = form
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["id", "text"], *(["a", harmless(text)] for text in texts)])
    assert [row["text"] for _, row in named_rows(file.getvalue(), Path(f"a{suffix}"))] == texts
