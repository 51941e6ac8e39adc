"""The benchmark cases behind `mdlora bench`."""

from mdlora.bench.prepare import prepare_bench_table, run_prepare_bench
from mdlora.bench.stream import run_stream_bench, stream_table
from mdlora.bench.train import bench_table, run_train_bench

__all__ = [
    "bench_table",
    "prepare_bench_table",
    "run_prepare_bench",
    "run_stream_bench",
    "run_train_bench",
    "stream_table",
]
