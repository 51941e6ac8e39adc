"""The benchmark cases behind `mdlora bench`."""

from mdlora.bench.train import bench_table, run_train_bench

__all__ = ["bench_table", "run_train_bench"]
