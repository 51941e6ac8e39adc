"""One measured preparation: `python -m mdlora.bench.prepare_apart CSV OUT THREADS`."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pyarrow as pa

from mdlora.bench.memory import peak_gigabytes
from mdlora.bench.prepare_rows import COLUMNS
from mdlora.data.prepare import prepare_table

__all__: list[str] = []


def _run(source: str, out: str, threads: str) -> None:
    pa.set_cpu_count(int(threads))
    prepare_table(source, COLUMNS, out=Path(out))
    used = resource.getrusage(resource.RUSAGE_SELF)
    measured = {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_gigabytes": peak_gigabytes(),
    }
    sys.stdout.write(json.dumps(measured))


if __name__ == "__main__":
    _run(*sys.argv[1:])
