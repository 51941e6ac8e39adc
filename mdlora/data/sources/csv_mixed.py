"""Columns of integers that a few other cells make columns of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mdlora.data.sources.csv_blame import NO_VALUE, line_of_row
from mdlora.data.sources.csv_form import CsvForm
from mdlora.data.sources.files import SourceFile

__all__ = ["Cells", "MixedColumn", "count_integers"]

_INTEGER = r"^-?(0|[1-9][0-9]{0,18})$"
_LARGEST = str(2**63 - 1)
_LOWEST = str(-(2**63))


@dataclass(frozen=True)
class MixedColumn:
    """A column that is read as text, though most of the cells that were looked at are integers."""

    name: str
    """What it is called."""

    file: str
    """Where a cell is no integer."""

    line: int
    """The line of that cell, counted from 1."""

    cell: str
    """What it holds."""

    def to_json(self) -> dict[str, Any]:
        """The cell, as plain values: `file`, `line` and `cell`."""
        return {"file": self.file, "line": self.line, "cell": self.cell}

    def __str__(self) -> str:
        return self.describe("its first cells", NO_VALUE)

    def describe(self, cells: str, advice: str) -> str:
        """The cell in words; `cells` is what was looked at, `advice` says what to do."""
        return (
            f"{self.name} is read as text: most of {cells} are integers, but {self.cell!r:.80} in "
            f"{self.file}, line {self.line}, is none. {advice}"
        )


@dataclass(frozen=True)
class Cells:
    """How many cells of a column are integers, among those of a file that were looked at."""

    file: SourceFile
    form: CsvForm
    filled: int
    integers: int
    row: int
    """The row of the file where the first other cell stands; -1 where there is none."""
    cell: str

    def blame(self, column: str) -> MixedColumn:
        """The column, with that other cell."""
        line = line_of_row(self.file, self.form, self.row)
        return MixedColumn(column, self.file.name, line, self.cell)


def count_integers(texts: pa.ChunkedArray, start: int, file: SourceFile, form: CsvForm) -> Cells:
    """Look at cells, the first of which is of row `start` of the file."""
    whole = _are_integers(pc.utf8_trim_whitespace(texts))
    row = pc.index(whole, False).as_py()
    return Cells(
        file,
        form,
        len(texts) - texts.null_count,
        pc.sum(whole).as_py() or 0,
        start + row if row >= 0 else -1,
        texts[row].as_py() if row >= 0 else "",
    )


def _are_integers(texts: Any) -> Any:
    """For each text whether it is a 64-bit integer as programs write it; null for null."""
    long = pc.utf8_length(texts)  # of equal length, texts are in the order of the numbers
    above = pc.and_(pc.equal(long, len(_LARGEST)), pc.greater(texts, _LARGEST))
    below = pc.and_(pc.equal(long, len(_LOWEST)), pc.greater(texts, _LOWEST))
    return pc.and_not(pc.match_substring_regex(texts, _INTEGER), pc.or_(above, below))
