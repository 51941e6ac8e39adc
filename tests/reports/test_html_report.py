from __future__ import annotations

from html.parser import HTMLParser

import pytest
import torch

from mdlora.errors import RunError
from mdlora.evaluation import evaluate_scores
from mdlora.reports import (
    ComparisonReport,
    RunReport,
    comparison_html,
    write_report,
    write_run_report,
)

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.text, self.open = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [v for k, v in attrs if k == "id"]
        self.links += [v for k, v in attrs if k in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def report(make_comparison, make_curves, make_gate, **changes):
    parts = {
        "title": "A <b>bold</b> & hostile title",
        "result": make_comparison(3, ("mlp", "dcn")),
        "curves": [*make_curves(), *make_curves("dcn")],
        "gates": [make_gate(), make_gate()],
        "notes": ["Domain <img src=x onerror=alert(1)> was stopped by log loss."],
        "environment": {"torch <x>": "2.13", "commit": None},
    }
    return ComparisonReport(**parts | changes)


def test_the_page_is_self_contained_and_escaped(tmp_path, make_comparison, make_curves, make_gate):
    path = tmp_path / "report.html"
    write_report(path, report(make_comparison, make_curves, make_gate))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "img", "link", "b", "iframe"} & set(page.tags)
    assert "http" not in text.replace("http-equiv", "")
    assert all(link.startswith("#") for link in page.links)
    shown = "".join(page.text)
    assert "A <b>bold</b> & hostile title" in shown
    assert "<script>alert('x')</script>" in shown
    assert "<img src=x onerror=alert(1)>" in shown
    assert "mlora on dcn: +1.90 points over base, better (p < 0.001)." in shown
    assert "moe on mlp: no difference" in shown
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_page_has_heads_captions_and_alt_texts(make_comparison, make_curves, make_gate):
    text = comparison_html(report(make_comparison, make_curves, make_gate))
    page = Page(text)
    count = page.tags.count
    assert count("table") == count("thead") == count("caption") == 4
    # Two backbones: a domain figure and curves for each; one gate figure a layer, here two.
    assert count("svg") == count("figure") == count("figcaption") == 6
    assert text.count('role="img" aria-label="') == 6
    assert "oracle (ceiling)" in text
    assert "prefers-color-scheme: dark" in text
    assert '<html lang="en">' in text


def test_parts_without_data_are_left_out(make_comparison):
    bare = comparison_html(ComparisonReport(title="t", result=make_comparison(2, oracle=None)))
    assert "Learning curves" not in bare
    assert "Environment" not in bare
    assert "oracle" not in bare
    result = make_comparison(1, seeds=1)
    for cell in result["cells"]:
        cell["auc"], cell["wauc"] = {"US/CA": None}, None
    none = comparison_html(ComparisonReport(title="t", result=result | {"verdicts": []}))
    assert "No domain has both clicks and non-clicks" in none


def test_run_report(tmp_path, make_curves, make_gate):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(300, generator=random)
    labels = (torch.rand(300, generator=random) < logits.sigmoid()).float()
    domains = torch.randint(0, 3, (300,), generator=random)
    names = ["US/CA", "<script>", "empty"]
    result = evaluate_scores(logits, labels, domains, names, oracle=logits.sigmoid())
    path = tmp_path / "run.html"
    given = RunReport(
        title="run", result=result.to_json(), curves=make_curves(), gates=[make_gate()],
        notes=["Domains empty: left out"], environment={"a": 1, "config": "seed: 1\nplan: <b>\n"},
    )  # fmt: skip
    write_run_report(path, given)
    page = Page(path.read_text(encoding="utf-8"))
    shown = "".join(page.text)
    assert f"WAUC {100 * result.wauc:.2f} % on 300 rows; the best possible is" in shown
    assert shown.count("Domains empty: left out") == 1
    assert "seed: 1\nplan: <b>\n" in shown
    assert page.tags.count("pre") == 1
    assert page.tags.count("svg") == 3
    assert "script" not in page.tags


def test_a_failed_write_leaves_the_old_report(tmp_path, make_comparison):
    folder = tmp_path / "report.html"
    folder.mkdir()
    with pytest.raises(RunError):
        write_report(folder, ComparisonReport(title="t", result=make_comparison(2)))
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_points_over_the_controls_stand_below_the_methods(make_comparison):
    result = make_comparison(2)
    cells = [c | {"method": {"moe": "base-wide"}.get(c["method"], c["method"])}
             for c in result["cells"]]  # fmt: skip
    against = [{"baseline": "base-wide", "method": "mlora", "backbone": "mlp",
                "difference": 0.0189, "p": 0.0123, "verdict": "better"}]  # fmt: skip
    full = {"cells": cells, "verdicts": [], "oracle": None, "against_controls": against}
    shown = "".join(Page(comparison_html(ComparisonReport(title="t", result=full))).text)
    assert "+1.89 (p = 0.012, better)" in shown
    without = comparison_html(ComparisonReport(title="t", result=full | {"against_controls": []}))
    assert "over the controls" not in without
