"""mdlora bench train."""

from __future__ import annotations

from collections.abc import Sequence

from mdlora.cli.parsing import add_json, make_parser, parse, write_json
from mdlora.config import unknown_name
from mdlora.errors import ConfigError

__all__ = ["run"]

CASES = {"train": "rows of training per CPU second, against DeepCTR-Torch; peak memory"}


def run(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    given = list(arguments)
    if not given or given[0] in ("-h", "--help"):
        lines = [f"  {case:<6} {what}" for case, what in CASES.items()]
        print("usage: mdlora bench CASE ...\n\ncases:\n" + "\n".join(lines))
        if not given:
            raise ConfigError("Say what to measure.")
        return
    if given[0] not in CASES:
        raise ConfigError(unknown_name("benchmark", given[0], CASES))
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
    options = parse(parser, given[1:])

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
