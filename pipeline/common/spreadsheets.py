"""Cells of CSV and TSV that a spreadsheet would run: written so that it shows them, and read as they were.

A spreadsheet takes a cell that begins with one of `= + - @`, with their wide forms, or with a tab or a line break
before them, for a formula, and a formula can send the other cells away. An apostrophe before it makes it text.

The rule is reversible for every text: a cell that would be run once its leading apostrophes are gone has one more of
them in the file than it means. So `=1` is written `'=1`, `'=1` is written `''=1`, and `'tis` and `-1.5` stay. Of the
cells that others have written, those change that begin with an apostrophe and then a formula, as nobody means them.
"""

from __future__ import annotations

import re

# A signed number is no formula.
_RUN = re.compile(r"'*+(?![+-](?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?\Z)[=+\-@＝＋－＠\t\r\n]")


def harmless(cell: str) -> str:
    """Give a cell as it is written: with an apostrophe before it where a spreadsheet would run it."""
    return f"'{cell}" if _RUN.match(cell) else cell


def meant(cell: str) -> str:
    """Give what `harmless` was given, of a cell as it is written."""
    return cell[1:] if cell.startswith("'") and _RUN.match(cell) else cell
