"""The benchmark cases behind `mdlora bench`."""

from mdlora.bench.auc import auc_table, run_auc_bench
from mdlora.bench.batches import batches_table, run_batches_bench
from mdlora.bench.case import BenchCase, load_case
from mdlora.bench.columns import columns_table, run_columns_bench
from mdlora.bench.domains import domains_table, run_domains_bench
from mdlora.bench.experts import experts_table, run_experts_bench
from mdlora.bench.peft import peft_table, run_peft_bench
from mdlora.bench.pictures import curve_figure, draw_pictures
from mdlora.bench.prepare import prepare_bench_table, run_prepare_bench
from mdlora.bench.score import run_score_bench, score_table
from mdlora.bench.start import run_start_bench, start_table
from mdlora.bench.stream import run_stream_bench, stream_table
from mdlora.bench.suite import bars_table, run_suite
from mdlora.bench.tables import run_tables_bench, tables_table
from mdlora.bench.train import bench_table, run_train_bench

__all__ = [
    "BenchCase",
    "auc_table",
    "bars_table",
    "batches_table",
    "bench_table",
    "columns_table",
    "curve_figure",
    "domains_table",
    "draw_pictures",
    "experts_table",
    "load_case",
    "peft_table",
    "prepare_bench_table",
    "run_auc_bench",
    "run_batches_bench",
    "run_columns_bench",
    "run_domains_bench",
    "run_experts_bench",
    "run_peft_bench",
    "run_prepare_bench",
    "run_score_bench",
    "run_start_bench",
    "run_stream_bench",
    "run_suite",
    "run_tables_bench",
    "run_train_bench",
    "score_table",
    "start_table",
    "stream_table",
    "tables_table",
]
