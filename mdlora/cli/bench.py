"""mdlora bench prepare, mdlora bench stream, mdlora bench train."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mdlora.cli.parsing import add_json, make_parser, parse, write_json
from mdlora.config import unknown_name
from mdlora.errors import ConfigError

__all__ = ["run"]

CASES = {
    "prepare": "seconds and peak memory of preparing a long CSV file",
    "stream": "rows per CPU second from Parquet files into shuffled batches; peak memory",
    "train": "rows of training per CPU second, against DeepCTR-Torch; peak memory",
}


def run(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    given = list(arguments)
    if not given or given[0] in ("-h", "--help"):
        lines = [f"  {case:<8} {what}" for case, what in CASES.items()]
        print("usage: mdlora bench CASE ...\n\ncases:\n" + "\n".join(lines))
        if not given:
            raise ConfigError("Say what to measure.")
        return
    if given[0] not in CASES:
        raise ConfigError(unknown_name("benchmark", given[0], CASES))
    _RUNNERS[given[0]](given[1:])


def _train(given: Sequence[str]) -> None:
    parser = make_parser(
        "bench train",
        "[options]",
        "Interleaved runs of the same model on the same rows, one thread each by default.",
        "mdlora bench train --data data/ml-gender --json benchmarks/train.json",
    )
    parser.add_argument(
        "--data", type=str | None, help="a data folder (default: made-up rows of ML-1M's shape)"
    )
    parser.add_argument("--runs", type=int, default=5, help="rounds; medians count")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both sides")
    parser.add_argument("--rows", type=int | None, help="training rows of a run (default: 150,000)")
    add_json(parser)
    options = parse(parser, given)

    from mdlora.bench import bench_table, run_train_bench
    from mdlora.cli.showing import progress_bars, show_table

    with progress_bars(False) as progress:
        result = run_train_bench(
            options.data,
            runs=options.runs,
            threads=options.threads,
            rows=options.rows,
            progress=progress,
        )
    show_table(bench_table(result))
    write_json(options.json, result)


def _prepare(given: Sequence[str]) -> None:
    parser = make_parser(
        "bench prepare",
        "[options]",
        "Make a CSV file of 12 columns, then measure `mdlora prepare table` on it, from start to "
        "end in a fresh process.",
        "mdlora bench prepare --rows 10000000 --json benchmarks/prepare.json",
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the file")
    parser.add_argument("--threads", type=int, default=2, help="threads of Arrow's pool")
    add_json(parser)
    options = parse(parser, given)

    from mdlora.bench import prepare_bench_table, run_prepare_bench
    from mdlora.cli.showing import progress_bars, show_table

    with progress_bars(False) as progress:
        result = run_prepare_bench(rows=options.rows, threads=options.threads, progress=progress)
    show_table(prepare_bench_table(result))
    write_json(options.json, result)


def _stream(given: Sequence[str]) -> None:
    parser = make_parser(
        "bench stream",
        "[options]",
        "Read made-up files, each sorted by domain, into shuffled batches: beside pyarrow.dataset "
        "and a torch DataLoader, each time in a fresh process.",
        "mdlora bench stream --rows 40000000 --json benchmarks/stream.json",
    )
    parser.add_argument("--rows", type=int, default=4_000_000, help="rows of all files together")
    parser.add_argument(
        "--group-rows",
        type=int | None,
        help="rows of a row group (default: 16 groups a file, 131,072 rows at most)",
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds; medians count")
    add_json(parser)
    options = parse(parser, given)

    from mdlora.bench import run_stream_bench, stream_table
    from mdlora.cli.showing import progress_bars, show_table

    with progress_bars(False) as progress:
        result = run_stream_bench(
            rows=options.rows, group_rows=options.group_rows, runs=options.runs, progress=progress
        )
    show_table(stream_table(result))
    write_json(options.json, result)


_RUNNERS: dict[str, Callable[[Sequence[str]], None]] = {
    "prepare": _prepare,
    "stream": _stream,
    "train": _train,
}
