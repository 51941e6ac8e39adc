"""Columns of large CSV files of ids and texts, block by block, with or without a header line."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from mdlora.config.checks import counted
from mdlora.data.sources import SourceFile
from mdlora.data.sources.csv_blame import line_of_row
from mdlora.data.sources.csv_form import CsvForm
from mdlora.errors import DataError
from mdlora.schema.places import Source, in_row

__all__ = ["read_columns"]

_BLOCK_BYTES = 1 << 24
_WHOLE = re.compile(r"-?\d+")


def read_columns(
    path: Path, wanted: Mapping[str, pa.DataType], published: tuple[str, ...]
) -> Iterator[tuple[Source, pa.RecordBatch]]:
    """The wanted columns of a CSV file in blocks of about 16 MiB, each with how to name its rows.

    Args:
        path: a plain or gzipped file (`.gz`). Its first line is a header if it opens with something
            else than a whole number.
        wanted: names and types of the columns to read, without nulls.
        published: all columns in their order where there is no header. With two of them, a key and
            a vector, columns go by their place, and a header need only open with the key's name.

    Raises:
        DataError: the file cannot be read, has no rows, lacks a column, or a value is missing or of
            another type; the message names the line.
    """
    names, header = _names(path, tuple(wanted), published)
    line_of = partial(_line_of, path, header)
    start = 0
    try:
        with pa_csv.open_csv(
            path,
            read_options=pa_csv.ReadOptions(
                column_names=names,
                skip_rows=int(header),
                block_size=_BLOCK_BYTES,
                use_threads=False,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict(wanted), include_columns=list(wanted)
            ),
        ) as reader:
            for batch in reader:
                source = Source(str(path), first=start, line_of=line_of)
                _refuse_nulls(batch, source)
                yield source, batch
                start += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        if "Empty CSV file" not in str(error):
            source = Source(str(path), first=-1 - header, line_of=line_of)
            raise DataError(f"{path}{_what_is_wrong(error, names, source)}") from error
    if not start:
        raise DataError(f"{path} has no rows.")


def _names(
    path: Path, wanted: tuple[str, ...], published: tuple[str, ...]
) -> tuple[list[str], bool]:
    """Names of all columns of the file, and whether its first line is a header."""
    cells = [cell.strip() for cell in next(csv.reader([_first_line(path)]), [])]
    form = ",".join(published)
    if not cells or not any(cells):
        raise DataError(f"{path} is empty or opens with an empty line. Expected columns: {form}.")
    header = not _WHOLE.fullmatch(cells[0])
    by_place = len(published) == 2
    if by_place:
        good = len(cells) == 2 and (not header or cells[0] == published[0])
        names = list(published)
    else:
        more = [f"column {place}" for place in range(len(published), len(cells))]
        names = cells if header else [*published, *more][: len(cells)]
        good = set(wanted) <= set(names) and len(set(names)) == len(names)
    if not good:
        raise DataError(
            f"{path}: the first line has {counted(len(cells), 'column')}: "
            f"{', '.join(cells):.80}. "
            f"Expected {form}, a vector being one quoted field."
            if by_place
            else f"{path}: the first line is {','.join(cells)!r:.120}. Expected columns "
            f"{', '.join(wanted)} by name, or, without a header, in the order {form}."
        )
    return names, header


def _first_line(path: Path) -> str:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            return file.readline(1 << 20).rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Download it again.") from error


def _line_of(path: Path, header: bool, row: int) -> int:
    form = CsvForm(",", (), ("",))
    return line_of_row(SourceFile(str(path), "csv"), form, row - (not header))


def _refuse_nulls(batch: pa.RecordBatch, source: Source) -> None:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py()
            raise DataError(f"{source}: {in_row(source, row)} has no {name}. Each row needs one.")


def _what_is_wrong(error: BaseException, names: list[str], source: Source) -> str:
    """The rest of a sentence that begins with the file's name; `source` counts as `error` does."""
    text = str(error)
    value = re.search(r"column #(\d+): Row #(\d+): .*invalid value '(.*)'", text, re.DOTALL)
    if value:
        return (
            f": {names[int(value[1])]} is {value[3]!r:.60} in {in_row(source, int(value[2]))}, "
            "expected a whole number below 2^63."
        )
    shape = re.search(r"Row #(\d+): (Expected \d+ columns, got \d+)", text)
    if shape:
        return f", {in_row(source, int(shape[1]))}: {shape[2]}. Quote fields that hold commas."
    return f" cannot be read ({text.splitlines()[0]:.120}). Download it again."
