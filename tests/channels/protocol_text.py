"""PROTOCOL.md as a test reads it: chapters, sections, and the tables in them."""

import re
from pathlib import Path

import channels

TEXT = (Path(channels.__file__).parent / "PROTOCOL.md").read_text("utf-8")

Row = dict[str, str]
"""The cells of a table's row by the headings of their columns, as they stand there."""


def chapter(title: str) -> str:
    """What stands below a heading of the second level, whole."""
    return _below(TEXT, 2, title)


def section(title: str, of: str) -> str:
    """What stands below a heading of the third level, in a chapter."""
    return _below(of, 3, title)


def _below(text: str, level: int, title: str) -> str:
    mark = "#" * level
    found = re.search(rf"^{mark} {re.escape(title)}\n(.*?)(?=^#{{2,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"PROTOCOL.md has no heading {mark} {title}"
    return found[1]


def titles(level: int, of: str = TEXT) -> list[str]:
    """The headings of a level, in order."""
    return re.findall(rf"^{'#' * level} (.+)$", of, re.MULTILINE)


def tables(heading: str, of: str = TEXT) -> list[list[Row]]:
    """The rows of each table whose first column has that heading."""
    blocks = re.findall(r"^\| .*\n(?:\|.*(?:\n|\Z))+", of, re.MULTILINE)
    return [rows for rows in map(_rows, blocks) if heading in rows[0] and next(iter(rows[0])) == heading]


def table(heading: str, of: str = TEXT) -> list[Row]:
    """The rows of the one table whose first column has that heading."""
    found = tables(heading, of)
    assert len(found) == 1, f"{len(found)} tables begin with the column {heading!r}"
    return found[0]


def _rows(block: str) -> list[Row]:
    head, rule, *rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
    assert all(set(cell) == {"-"} for cell in rule), f"no table: {head}"
    assert all(len(row) == len(head) for row in rows), f"a row of the table {head} has too few or too many cells"
    return [dict(zip(head, row, strict=True)) for row in rows]


def codes(cell: str) -> list[str]:
    """What stands in backticks, in order."""
    return re.findall(r"`([^`]+)`", cell)


def code(cell: str) -> str:
    """The one thing in a cell that stands in backticks; a dash is nothing."""
    if cell == "–":
        return ""
    (only,) = codes(cell)
    return only


def refusals(of: str) -> list[str]:
    """The reasons of a section's list of refusals, in order, each where it stands first."""
    listed = of.partition("\nRefusals:\n\n")[2].partition("\n\n")[0]
    return list(dict.fromkeys(re.findall(r"^\d+\. `([A-Za-z_]+)`", listed, re.MULTILINE)))
