"""Open one row group of a Parquet file, and say which one it was when that fails."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mdlora.errors import DataError

__all__ = ["Footers", "batches_of", "blame"]

_BUFFER_BYTES = 16 * 1024  # a column of a group is read in such pieces, not whole
_BATCH_ROWS = 4096  # a lane keeps what is left of one
_MOST_FOOTERS = 64


class Footers:
    """The footers of the files that were opened last: reading one of many groups takes long."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int, int], Any] = OrderedDict()

    def open(self, path: str) -> Any:
        """The file, as a `pyarrow.parquet.ParquetFile` that the caller closes."""
        status = Path(path).stat()
        state = (path, status.st_size, status.st_mtime_ns)
        file = pq.ParquetFile(
            path,
            metadata=self._known.get(state),
            buffer_size=_BUFFER_BYTES,
            page_checksum_verification=True,
        )
        self._known[state] = file.metadata
        self._known.move_to_end(state)
        if len(self._known) > _MOST_FOOTERS:
            self._known.popitem(last=False)
        return file


def batches_of(file: Any, group: int, columns: Sequence[str]) -> Iterator[Any]:
    """Record batches of one row group from its start, in one thread and in bounded memory."""
    batches: Iterator[Any] = file.iter_batches(
        _BATCH_ROWS, row_groups=[group], columns=list(columns), use_threads=False
    )
    return batches


@contextmanager
def blame(path: str, group: int) -> Iterator[None]:
    """Turn errors of reading a row group into one that names it.

    Raises:
        DataError: the block failed to open or to decode the file.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(
            f"{path}, row group {group}: the file is gone. It was there when the files were "
            "listed; put it back, or list the files again."
        ) from error
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"{path}, row group {group}: cannot be read, the file is damaged or was changed "
            f"after it was listed ({reason}). Copy or prepare it again."
        ) from error
