"""Every benchmark in turn, and the bars that are met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mdlora.bench.case import BenchCase, load_case
from mdlora.bench.results import bar_words, describe_run, met_words, number_words, ratio_words
from mdlora.errors import MdloraError
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress

__all__ = ["bars_table", "run_suite"]


def run_suite(
    names: Iterable[str],
    *,
    small: bool = False,
    given: Mapping[str, Any] | None = None,
    keep: Callable[[dict[str, Any]], None] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run cases one after another, each as its `lines` say. One that fails does not stop others.

    Args:
        names: of the cases.
        small: with their small sizes, which show that all works and whose figures say nothing.
        given: options for all cases that have them, such as "runs"; they go before the rest.
        keep: called with the result so far after each run.
        progress: told of each measurement.

    Returns:
        {"cases": [...], "machine", "date", "versions", "results", "failed"}. "results" has each
        run's own result by its name, a case's name and the options of its line; a case of "cases"
        also has this name as "bench". "failed" has what runs say that could not be done.
    """
    progress = progress or SilentProgress()
    whole: dict[str, Any] = {"cases": [], **describe_run(1), "results": {}, "failed": {}}
    for label, case, settings in _runs(names, small, given or {}):
        progress.note(f"bench {label}")
        try:
            result = case.run(**settings, progress=progress)
        except MdloraError as error:
            whole["failed"][label] = str(error)
        else:
            whole["results"][label] = result
            whole["cases"] += [{"bench": label, **measured} for measured in result["cases"]]
            whole["versions"] |= result["versions"]
        if keep is not None:
            keep(whole)
    return whole


def bars_table(result: Mapping[str, Any]) -> Table:
    """The bars of a suite's cases: what was measured, and the competitor's figure beside it."""
    rows = tuple(
        (
            case["bench"],
            case["case"],
            bar_words(case),
            number_words(case["ours"]),
            "–" if case["competitor"] == "bar" else case["competitor"],
            "–" if case["competitor"] == "bar" else number_words(case["competitor_value"]),
            case["unit"],
            "–" if case["competitor"] == "bar" else ratio_words(case),
            met_words(case),
        )
        for case in result["cases"]
        if "bar" in case
    )
    met = sum(case["met"] for case in result["cases"] if "bar" in case)
    caption = f"{met} of {len(rows)} bars are met ({result['machine']}, {result['date']})"
    heads = ("bench", "case", "bar", "ours", "against", "its value", "unit", "ratio", "met")
    return Table(caption, heads, rows, num_text=3)


def _runs(
    names: Iterable[str], small: bool, given: Mapping[str, Any]
) -> Iterator[tuple[str, BenchCase, dict[str, Any]]]:
    """Each run: what it is called, the case, and keywords for its `run`."""
    for name in names:
        case = load_case(name)
        fitting = {key: value for key, value in given.items() if key in case.options}
        for line in case.lines:
            words = [f"--{key.replace('_', '-')} {value}" for key, value in line.items()]
            sizes = case.small if small else {}
            yield " ".join([name, *words]), case, {**line, **sizes, **fitting}
