from __future__ import annotations

import pytest
from rich.console import Console

from mdlora.reports import (
    Table,
    comparison_table,
    comparison_tables,
    control_table,
    domain_tables,
    evaluation_domain_table,
    evaluation_table,
    headline,
    summarise,
)


def test_comparison_table(make_comparison):
    table = comparison_table(make_comparison())
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == ["base", "mlora", "moe", "oracle (ceiling)"]
    # Base seeds are 75.0 to 75.4: sd 0.158114, t(0.975, 4) = 2.776445, half 0.196.
    assert rows["base"]["WAUC %"] == "75.20 ± 0.20"
    assert rows["base"]["verdict"] == "–"
    assert rows["mlora"]["points over base"] == "+1.90"
    assert rows["mlora"]["p"] == "< 0.001"
    assert rows["mlora"]["verdict"] == "better"
    assert rows["mlora"]["log loss"] == "0.3810"
    assert rows["mlora"]["parameters"] == "12,345"
    assert rows["mlora"]["seconds"] == "12.0"
    assert rows["moe"]["verdict"] == "no difference"
    assert rows["oracle (ceiling)"]["WAUC %"] == "85.00"
    without = comparison_table(make_comparison(oracle=None))
    assert len(without.rows) == 3
    assert "gap closed %" not in without.columns
    assert {len(row) for row in (*table.rows, *without.rows)} == {len(table.columns),
                                                                 len(without.columns)}  # fmt: skip


def test_gap_closed(make_comparison):
    def gaps(oracle, **changes):
        table = comparison_table(make_comparison(oracle=oracle, **changes))
        place = table.columns.index("gap closed %")
        return [row[place] for row in table.rows]

    # Base is 75.20: mlora gains 1.90 of the 9.80 points to the oracle, moe 0.006.
    assert gaps(0.85) == ["–", "19.4", "0.1", "–"]
    assert gaps(0.762) == ["–", "190.0", "0.6", "–"]
    assert gaps(0.75) == ["–", "–", "–", "–"]  # an oracle below base says nothing
    assert gaps(0.85, backbones=("mlp", "dcn"))[:6] == ["–", "19.4", "0.1"] * 2


def test_control_table(make_comparison):
    def verdict(baseline, method, difference, p, said):
        return {"baseline": baseline, "backbone": "mlp", "method": method,
                "difference": difference, "p": p, "verdict": said}  # fmt: skip

    result = make_comparison()
    assert [t.columns[1] for t in comparison_tables(result)] == ["WAUC %"]
    result["against_controls"] = [
        verdict("base-extra", "mlora", 0.012, 0.0004, "better"),
        verdict("base-extra", "moe-mlora", -0.004, 0.03, "worse"),
        verdict("base-wide", "mlora", 0.0002, None, "no difference"),
        verdict("base-wide", "moe-mlora", None, None, "no difference"),
    ]
    table = control_table(result)
    assert comparison_tables(result) == [comparison_table(result), table]
    assert table.columns == ("method", "base-extra", "base-wide")
    assert table.rows == (
        ("mlora", "+1.20 (p < 0.001, better)", "+0.02 (one seed, no difference)"),
        ("moe-mlora", "−0.40 (p = 0.030, worse)", "–"),
    )
    assert "Holm-corrected within each control" in table.caption
    two = make_comparison(backbones=("mlp", "dcn"))
    two["against_controls"] = result["against_controls"]
    assert control_table(two).rows[0][:2] == ("mlp", "mlora")


def test_backbone_column_only_where_there_are_several(make_comparison):
    assert comparison_table(make_comparison()).columns[0] == "method"
    several = comparison_table(make_comparison(backbones=("mlp", "dcn")))
    assert several.columns[:2] == ("backbone", "method")
    assert [row[:2] for row in several.rows][3] == ("dcn", "base")
    assert len({len(row) for row in several.rows} | {len(several.columns)}) == 1


def test_domain_tables(make_comparison):
    tables = domain_tables(make_comparison(backbones=("mlp", "dcn"), seeds=1))
    assert ["mlp" in tables[0].caption, "dcn" in tables[1].caption] == [True, True]
    assert tables[0].columns == ("domain", "base", "mlora", "moe")
    assert tables[0].rows[0] == ("US/CA", "70.00", "71.90", "69.99")


def test_a_domain_without_auc_shows_a_dash(make_comparison):
    result = make_comparison(seeds=2)
    for cell in result["cells"]:
        cell["auc"]["US/CA"] = None
    assert domain_tables(result)[0].rows[0] == ("US/CA", "–", "–", "–")
    assert summarise(result)[0].domains["US/CA"] is None


def test_markdown_and_terminal_show_hostile_names_as_text():
    table = Table("By [red]name[/red]", ("name", "n"), (("a|b [bold]c[/bold] <i>", "1"),))
    assert r"| a\|b [bold]c[/bold] \<i\> | 1 |" in table.to_markdown()
    assert "| --- | ---: |" in table.to_markdown()
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(table.to_rich())
    assert "a|b [bold]c[/bold] <i>" in capture.get()
    assert "By [red]name[/red]" in capture.get()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "mlora: +1.90 points over base, better (p = 0.001)"),
        (
            {"difference": -0.008, "p": 0.0004, "verdict": "worse"},
            "mlora: −0.80 points over base, worse (p < 0.001)",
        ),
        (
            {"difference": 0.0002, "p": 0.4, "verdict": "no difference"},
            "mlora: no difference (+0.02 points, p = 0.400)",
        ),
        ({"p": None}, "mlora: +1.90 points over base on one seed: no difference shown"),
        (
            {"p": None, "difference": None},
            "mlora: no difference shown, for want of a base run with the same seed",
        ),
    ],
)
def test_headlines(change, sentence):
    verdict = {
        "method": "mlora",
        "backbone": "dcn",
        "difference": 0.019,
        "p": 0.001,
        "verdict": "better",
    }
    assert headline(verdict | change) == sentence
    assert headline(verdict, with_backbone=True).startswith("mlora on dcn: ")


def test_evaluation_tables():
    result = {
        "wauc": 0.75, "mean_auc": 0.74, "overall_auc": None, "log_loss": 0.5, "rows": 1200,
        "calibration": 1.02, "clicks": 300, "left_out": [], "oracle_wauc": 0.8,
        "domains": [{"name": "a", "rows": 1200, "clicks": 300, "auc": 0.75, "log_loss": 0.5,
                     "calibration": None}],
    }  # fmt: skip
    intervals = {
        "wauc": [0.7, 0.8], "overall_auc": None, "domains": {"a": [0.71, 0.79]}, "unit": "users"
    }  # fmt: skip
    rows = {row[0]: row[1:] for row in evaluation_table(result, intervals).rows}
    assert rows["WAUC"] == ("75.00", "70.00 to 80.00")
    assert rows["overall AUC"] == ("–", "–")
    assert rows["WAUC of the oracle (ceiling)"] == ("80.00", "–")
    domains = evaluation_domain_table(result, intervals)
    assert domains.rows[0] == ("a", "1,200", "300", "0.5000", "–", "75.00", "71.00 to 79.00")
    assert evaluation_domain_table(result).columns[-1] == "AUC %"
