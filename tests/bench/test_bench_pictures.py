from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from mdlora.bench import curve_figure, draw_pictures
from mdlora.bench.sweep import curves_of
from mdlora.cli.main import main
from mdlora.errors import DataError


def step(median: float) -> dict[str, float]:
    return {"median": median, "min": median / 2, "max": 2 * median}


def curves(picture: str = "tables") -> dict[str, Any]:
    steps = {
        100: {"mdlora": step(1.0), "them": step(4.0)},
        1_000_000: {"mdlora": step(2.0)},
    }
    return curves_of(picture, "rows of the table", "CPU ms", steps)


def test_a_sweep_becomes_lines() -> None:
    ours, theirs = curves()["lines"]
    assert ours == {"name": "mdlora", "points": [[100, 1, 0.5, 2], [1_000_000, 2, 1, 4]]}
    assert theirs == {"name": "them", "points": [[100, 4, 2, 8]]}


def test_a_picture_shows_names_axes_and_sizes() -> None:
    figure = curve_figure(curves())
    root = ET.fromstring(figure)
    words = {element.text for element in root.iter() if element.tag.endswith("text")}
    assert {"mdlora", "them", "rows of the table", "CPU ms", "100", "1 million"} <= words
    assert "CPU ms against rows of the table, for mdlora, them" in figure
    assert figure == curve_figure(curves())


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(DataError, match="no points"):
        curve_figure({**curves(), "lines": []})


def test_the_command_draws_single_results_and_whole_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, every = tmp_path / "one.json", tmp_path / "all.json"
    one.write_text(json.dumps({"cases": [], "curves": curves("columns")}))
    parts = {"train": {"cases": []}, "tables": {"cases": [], "curves": curves()}}
    every.write_text(json.dumps({"cases": [], "results": parts}))
    out = tmp_path / "new" / "images"
    assert main(["bench", "pictures", str(one), str(every), "--out", str(out)]) == 0
    names = ["speed-columns.svg", "speed-tables.svg"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert capsys.readouterr().out.splitlines() == [str(out / name) for name in names]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (None, "cannot be read"),
        ("[1]", "is not a result of mdlora bench"),
        ("{", "is not a result of mdlora bench"),
        ('{"cases": []}', "No sweep stands in"),
    ],
)
def test_files_without_a_sweep_are_refused(text: str | None, phrase: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=phrase):
        draw_pictures([path], tmp_path / "images")
    assert not (tmp_path / "images").exists()
