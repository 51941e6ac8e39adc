"""One way of reading, in a process of its own: `python -m mdlora.bench.stream_apart WAY FOLDER`."""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mdlora.bench.apart import run_apart
from mdlora.bench.memory import held_gigabytes, peak_gigabytes
from mdlora.bench.stream_rows import COLUMNS, DOMAIN_SHARES
from mdlora.data.streaming import stream_batches

__all__ = ["BATCH_SIZE", "WAYS", "read_apart", "share_statistic"]

BATCH_SIZE = 16_384

Batches = Iterator[dict[str, Tensor]]


def read_apart(way: str, folder: Path) -> dict[str, float]:
    """Read all files once, in a fresh process with one thread for torch.

    Returns:
        "rows"; "cpu_seconds" of all its threads and processes, "wall_seconds", imports left out;
        "megabytes" (10^6 bytes): peak memory of the process, not of any workers it starts, above
        that after its imports.

    Raises:
        RunError: the process failed.
    """
    return run_apart("mdlora.bench.stream_apart", way, str(folder), what=f"Reading by {way}")


def share_statistic(folder: Path, batches: int) -> tuple[float, int]:
    """Chi-square of the domains in the first batches against the files' shares, summed.

    Returns:
        The sum, and its degrees of freedom: what it is on average for rows drawn at random.
    """
    stream = stream_batches(folder, ["domain"], BATCH_SIZE, seed=1, balance=["domain"])
    total, degrees = 0.0, 0
    shares = torch.tensor(DOMAIN_SHARES, dtype=torch.float64)
    for _, batch in zip(range(batches), stream, strict=False):
        domain = batch["domain"]
        expected = shares * len(domain)
        seen = torch.bincount(domain, minlength=len(shares))
        total += float(((seen - expected) ** 2 / expected).sum())
        degrees += len(shares) - 1
    return total, degrees


def _mdlora(folder: str) -> Batches:
    return iter(stream_batches(folder, COLUMNS, BATCH_SIZE, seed=1, balance=["domain"]))


def _dataset(folder: str) -> Batches:
    """In the files' order; batches may be short at the end of a row group."""
    files = ds.dataset(folder, format="parquet")
    for batch in files.to_batches(columns=list(COLUMNS), batch_size=BATCH_SIZE, use_threads=False):
        yield _tensors(batch)


def _dataset_shuffled(folder: str) -> Batches:
    for batch in _dataset(folder):
        yield _shuffled(batch)


def _loader(folder: str) -> Batches:
    files = sorted(str(path) for path in Path(folder).glob("*.parquet"))
    return iter(DataLoader(_FileBatches(files), batch_size=None, num_workers=2))


class _FileBatches(IterableDataset[dict[str, Tensor]]):
    """Whole batches, shuffled within, from every n-th file for worker n."""

    def __init__(self, files: list[str]) -> None:
        self._files = files

    def __iter__(self) -> Batches:
        worker = get_worker_info()
        assert worker is not None
        torch.set_num_threads(1)
        for path in self._files[worker.id :: worker.num_workers]:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH_SIZE, columns=COLUMNS, use_threads=False):
                    yield _shuffled(_tensors(batch))


def _tensors(batch: Any) -> dict[str, Tensor]:
    return {name: torch.from_numpy(batch.column(name).to_numpy()) for name in COLUMNS}


def _shuffled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    order = torch.randperm(len(batch["domain"]))
    return {name: column.index_select(0, order) for name, column in batch.items()}


WAYS: dict[str, Callable[[str], Batches]] = {
    "mdlora": _mdlora,
    "pyarrow.dataset, no shuffle": _dataset,
    "pyarrow.dataset, shuffled batches": _dataset_shuffled,
    "DataLoader, 2 workers": _loader,
}
"""Each gives the batches of a folder as a dict of int64 tensors."""


def _run(way: str, folder: str) -> None:
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    # Torch warns of Arrow's read-only memory; nobody writes to it here.
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")
    before = held_gigabytes()
    started, cpu = time.perf_counter(), _cpu_seconds()
    rows = 0
    for batch in WAYS[way](folder):
        rows += len(batch["domain"])
    result = {
        "rows": rows,
        "wall_seconds": time.perf_counter() - started,
        "cpu_seconds": _cpu_seconds() - cpu,
        "megabytes": 1000 * (peak_gigabytes() - before),
    }
    sys.stdout.write(json.dumps(result))


def _cpu_seconds() -> float:
    """Of this process, and of its children that have ended."""
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, both))


if __name__ == "__main__":
    _run(*sys.argv[1:])
