from __future__ import annotations

import pytest

from mdlora.bench.results import (
    bar_words,
    cases_table,
    compare_spreads,
    make_case,
    number_words,
    spread_of,
)

PLAIN = {"case", "ours", "competitor", "competitor_value", "unit", "ratio"}


def test_a_case_without_a_bar_has_only_its_figures() -> None:
    case = make_case("train", 300.0, "them", 100.0, "rows")
    assert set(case) == PLAIN
    assert case["ratio"] == 3
    assert bar_words(case) == "–"


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (("at_least", 3.0), True),
        (("at_least", 3.1), False),
        (("at_most", 3.0), True),
        (("at_most", 2.9), False),
    ],
)
def test_a_bar_is_of_the_ratio(bar: tuple[str, float], met: bool) -> None:
    case = make_case("train", 300.0, "them", 100.0, "rows", bar=bar)  # type: ignore[arg-type]
    assert set(case) == PLAIN | {"bar", "met"}
    assert case["met"] is met
    assert bar_words(case) == f"{bar[0].replace('_', ' ')} {bar[1]:g} ×"


def test_a_bar_of_the_figure_itself_is_told_in_its_unit() -> None:
    case = make_case("memory", 250.0, "bar", 300.0, "MB", bar=("at_most", 1.0))
    assert case["met"]
    assert bar_words(case) == "at most 300"


def test_ratios_of_rounds_stand_beside_that_of_the_medians() -> None:
    # Medians 4 and 2; by round 4/1, 2/2, 6/2.
    case = compare_spreads("x", spread_of([4, 2, 6]), "them", spread_of([1, 2, 2]), "rows")
    assert case["ratio"] == 2
    assert case["ratio_range"] == [1, 4]
    table = cases_table("Caption", [case])
    assert table.rows == (("x", "4", "them", "2", "rows", "2.00 (1.00 to 4.00)"),)
    assert len(table.columns) == 6


def test_a_table_says_what_is_met_where_any_case_has_a_bar() -> None:
    met = make_case("fast", 5000.0, "them", 1000.0, "rows", bar=("at_least", 4.0))
    missed = make_case("slow", 3000.0, "them", 1000.0, "rows", bar=("at_least", 4.0))
    table = cases_table("Caption", [met, missed, make_case("plain", 1.0, "them", 1.0, "rows")])
    assert table.columns[-2:] == ("bar", "met")
    ends = [row[-2:] for row in table.rows]
    assert ends == [("at least 4 ×", "yes"), ("at least 4 ×", "no"), ("–", "–")]


def test_numbers_have_four_digits_or_none_after_the_point() -> None:
    assert [number_words(n) for n in (0.123456, 12.3456, 999.94, 1234567.8)] == [
        "0.1235",
        "12.35",
        "999.9",
        "1,234,568",
    ]
