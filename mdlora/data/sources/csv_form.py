"""The form of a CSV file: its compression, its separator and the names in its first line."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from mdlora.data.sources.csv_options import CsvOptions
from mdlora.data.sources.files import SourceFile
from mdlora.errors import DataError

__all__ = ["CsvForm", "open_csv", "read_form"]

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
_OPENING_BYTES = 1 << 20
_ROWS_LOOKED_AT = 20
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class CsvForm:
    """What must be known to read a CSV file."""

    separator: str
    names: tuple[str, ...]
    """The columns, in the file's order."""

    nulls: tuple[str, ...]
    """Cells without a value; the empty one is among them."""

    rows: bool = True
    """Whether anything follows the first line."""


def open_csv(file: SourceFile) -> pa.NativeFile:
    """The bytes of a file, unpacked if they are gzip's, whatever the name says.

    Raises:
        OSError: it cannot be opened.
    """
    with file.open() as raw:
        packed = raw.read(2) == _GZIP
    raw = file.open()
    return pa.CompressedInputStream(raw, "gzip") if packed else raw


def read_form(file: SourceFile, options: CsvOptions) -> CsvForm:
    """Look at the opening of a file.

    Raises:
        DataError: it cannot be read, is empty, is not UTF-8, has no line of column names, or its
            separator is not clear.
    """
    text, cut = _opening(file)
    found = {
        mark: _rows(text, mark)
        for mark in ([options.separator] if options.separator else _SEPARATORS)
    }
    widths = {mark: [len(row) for row in rows] for mark, rows in found.items()}
    if not next(iter(widths.values())):
        raise DataError(f"{file.name} is empty. A CSV file begins with a line of column names.")
    even = {mark: w for mark, w in widths.items() if w[0] > 1 and set(w) == {w[0]}}
    most = max(w[0] for w in (even or widths).values())
    best = [mark for mark, w in (even or widths).items() if w[0] == most]
    if len(best) > 1 and most > 1:
        raise DataError(
            f"{file.name}: the separator may be {' or '.join(_SEPARATORS[m] for m in best)}. "
            "Say which one it is."
        )
    names = found[best[0]][0]
    _check_header(file, names, best[0])
    more = cut or "\n" in text.strip()
    return CsvForm(best[0], tuple(names), ("", *options.nulls), more)


def _opening(file: SourceFile) -> tuple[str, bool]:
    """The first MiB as text, and whether there is more; then without the last, cut line."""
    try:
        with open_csv(file) as raw:
            data = raw.read(_OPENING_BYTES)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{file.name} cannot be read ({error}). Check it, or copy it again."
        ) from error
    cut = len(data) == _OPENING_BYTES
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=not cut)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file.name}, line {line}: byte {data[error.start]:#04x} is not UTF-8 text. "
            "Store the file as UTF-8."
        ) from error
    if "\0" in text:
        raise DataError(f"{file.name} holds zero bytes: it is not a text file. Store CSV as UTF-8.")
    return (text[: text.rfind("\n") + 1] if cut and "\n" in text else text), cut


def _rows(text: str, separator: str) -> list[list[str]]:
    """The first rows that are not blank."""
    found: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if row:
                found.append(row)
            if len(found) == _ROWS_LOOKED_AT:
                break
    except csv.Error:  # an open quote: reading the rows says where
        pass
    return found


def _check_header(file: SourceFile, names: list[str], separator: str) -> None:
    line = f"{file.name}, line 1 ({_SEPARATORS.get(separator, repr(separator))} between cells)"
    advice = "The first line must name the columns."
    if all(_is_number(name) for name in names):
        raise DataError(f"{line}: {separator.join(names)!r:.80} holds values, no names. {advice}")
    empty = [place for place, name in enumerate(names) if not name.strip()]
    if empty:
        raise DataError(
            f"{line}: column {empty[0]} (counted from 0) has no name. {advice} "
            "(pandas writes its index so: use to_csv(index=False).)"
        )
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{line}: {count} columns are called {name!r}. Their names must differ.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
