"""mdlora bench NAME: one benchmark; all of them; pictures of their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from mdlora.cli.parsing import add_json, make_parser, parse, split_list, switch, write_json
from mdlora.config import unknown_name
from mdlora.errors import ConfigError, RunError

if TYPE_CHECKING:
    from mdlora.bench import BenchCase

__all__ = ["CASES", "EVERY", "run"]

CASES = {
    "auc": "CPU seconds of the AUC of every domain, beside scikit-learn",
    "batches": "step time by batch size, 256 to 65,536 rows, beside other libraries",
    "columns": "training with 26 columns of ids and 13 of numbers, and with 3 to 100",
    "domains": "steps with adapters and gates beside one without, 2 to 10,000 domains",
    "experts": "the expert phase with a stop for each expert, beside a run for each",
    "peft": "scoring rows of mixed domains by their own adapters, beside PEFT",
    "prepare": "seconds and peak memory of preparing a long CSV file",
    "score": "milliseconds to score a few rows, rows of a file per CPU second, beside others",
    "start": "seconds from `mdlora train` to its first step",
    "stream": "rows per CPU second from Parquet files into shuffled batches; peak memory",
    "tables": "step time and memory as a table grows to 20 million rows",
    "train": "rows of training per CPU second, beside other libraries; peak memory",
}
"""Each is a module `mdlora.bench.NAME`, whose `CASE` says the rest."""

EVERY = {
    **CASES,
    "all": "every case in turn, and which bars are met",
    "pictures": "draw what sweeps have measured",
}


def run(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    given = list(arguments)
    if not given or given[0] in ("-h", "--help"):
        width = max(map(len, EVERY))
        lines = [f"  {case:<{width}}  {what}" for case, what in EVERY.items()]
        print("usage: mdlora bench CASE ...\n\ncases:\n" + "\n".join(lines))
        if not given:
            raise ConfigError("Say what to measure.")
        return
    name, rest = given[0], given[1:]
    if name not in EVERY:
        raise ConfigError(unknown_name("benchmark", name, EVERY))
    if name in CASES:
        _case(name, rest)
    else:
        _OTHERS[name](rest)


def _case(name: str, given: Sequence[str]) -> None:
    from mdlora.bench import load_case
    from mdlora.cli.showing import progress_bars, show_table

    case = load_case(name)
    parser = make_parser(f"bench {name}", "[options]", case.about, case.example)
    _add_settings(parser, case)
    add_json(parser)
    options = parse(parser, given)
    with progress_bars(False) as progress:
        result = case.run(**_read_settings(case, options), progress=progress)
    show_table(case.table(result))
    write_json(options.json, result)


def _add_settings(parser: ArgumentParser, case: BenchCase) -> None:
    for name, setting in case.settings().items():
        kind, default = setting.kind, setting.default
        if kind == tuple[int, ...]:
            kind, default = str, ",".join(map(str, default))
        parser.add_argument(_option(name), type=kind, default=default, help=setting.help)


def _read_settings(case: BenchCase, options: Namespace) -> dict[str, Any]:
    found = {}
    for name, setting in case.settings().items():
        value = options[name]
        whole = setting.kind == tuple[int, ...]
        found[name] = tuple(split_list(value, _option(name), int)) if whole else value
    return found


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _all(given: Sequence[str]) -> None:
    parser = make_parser(
        "bench all",
        "[options]",
        "Run every case, one after another, and say which bars are met. What is done is written "
        "after each case. It takes half an hour or more; with --small, minutes.",
        "mdlora bench all --json benchmarks/all.json",
    )
    parser.add_argument(
        "--only", type=str | None, help="run these cases, commas between (default: all)"
    )
    parser.add_argument(
        "--data", type=str | None, help="a data folder for cases that take one (default: none)"
    )
    parser.add_argument("--runs", type=int | None, help="rounds (default: each case's own)")
    switch(parser, "--small", "small sizes, to see that all works: their figures say nothing")
    add_json(parser)
    options = parse(parser, given)
    names = list(CASES) if options.only is None else split_list(options.only, "--only")
    for name in names:
        if name not in CASES:
            raise ConfigError(unknown_name("benchmark", name, CASES))

    from mdlora.bench import bars_table, load_case, run_suite
    from mdlora.cli.showing import progress_bars, show_table

    chosen = {"data": options.data, "runs": options.runs}
    with progress_bars(False) as progress:
        result = run_suite(
            names,
            small=options.small,
            given={name: value for name, value in chosen.items() if value is not None},
            keep=lambda so_far: write_json(options.json, so_far),
            progress=progress,
        )
    for label, part in result["results"].items():
        show_table(load_case(label.split()[0]).table(part))
    show_table(bars_table(result))
    if result["failed"]:
        told = "\n".join(f"  {label}: {why}" for label, why in result["failed"].items())
        raise RunError(f"These cases could not be measured:\n{told}")


def _pictures(given: Sequence[str]) -> None:
    parser = make_parser(
        "bench pictures",
        "RESULTS ... --out FOLDER",
        "Draw step time against what was swept, one picture a case, from files that --json wrote.",
        "mdlora bench pictures benchmarks/all.json --out docs/images",
    )
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="files of results")
    parser.add_argument("--out", required=True, help="a folder for speed-NAME.svg")
    options = parse(parser, given)

    from mdlora.bench import draw_pictures

    for path in draw_pictures(options.results, options.out):
        print(path)


_OTHERS: dict[str, Callable[[Sequence[str]], None]] = {"all": _all, "pictures": _pictures}
