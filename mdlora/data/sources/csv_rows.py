"""Rows of a CSV file with types that are known, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.csv as pa_csv

from mdlora.data.sources.csv_blame import blame, refuse_open_quote
from mdlora.data.sources.csv_form import CsvForm, open_csv
from mdlora.data.sources.files import SourceFile
from mdlora.errors import DataError

__all__ = ["read_csv"]

_BLOCK_BYTES = 4 << 20  # also the longest row


def read_csv(
    file: SourceFile, form: CsvForm, types: Mapping[str, pa.DataType]
) -> Iterator[pa.Table]:
    """The columns named in `types`, in that order, a block of the file at a time.

    Integers are read as integers, never by way of floats. Empty cells are null.

    Raises:
        DataError: the file is cut short or damaged, a row has too few or too many cells, or a cell
            is not of its column's type; the message names line, column and value.
    """
    if not form.rows:
        return
    watched = form.names[-1]  # the end of a file in an open quote is seen in its last cell
    kinds = {watched: pa.string(), **types}
    rows, last = 0, None
    try:
        with open_csv(file) as raw:
            reader = pa_csv.open_csv(
                raw,
                # One thread: otherwise errors do not say in which row they are.
                read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                parse_options=pa_csv.ParseOptions(
                    delimiter=form.separator, newlines_in_values=True
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=kinds,
                    include_columns=list(kinds),
                    null_values=list(form.nulls),
                    strings_can_be_null=True,
                ),
            )
            for batch in reader:
                table = pa.Table.from_batches([batch])
                yield table.select(list(types))
                if table.num_rows:
                    rows, last = rows + table.num_rows, table.column(watched)[-1].as_py()
    except (OSError, pa.ArrowException, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise blame(file, form, types, error) from error
    if isinstance(last, str) and "\n" in last:
        refuse_open_quote(file, form, rows)
