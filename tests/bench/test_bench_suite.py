"""All cases in turn, their options, and what the command prints and writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mdlora.bench import BenchCase, bars_table, load_case, run_suite
from mdlora.bench.results import cases_table, make_case
from mdlora.cli import bench as cli
from mdlora.cli.main import main
from mdlora.errors import DataError
from mdlora.reports import Table


def run_fake(
    data: str | None = None,
    *,
    runs: int = 5,
    sizes: tuple[int, ...] = (10, 20),
    threads: int = 1,
    progress: Any = None,
) -> dict[str, Any]:
    if data == "broken":
        raise DataError("broken cannot be read.")
    case = make_case("speed", 5.0, "them", 1.0, "rows", bar=("at_least", 4.0))
    given = {"data": data, "runs": runs, "sizes": list(sizes), "threads": threads}
    return {"cases": [{**case, "threads": threads}], "versions": {"them": "1"}, "given": given}


def fake_table(result: Mapping[str, Any]) -> Table:
    return cases_table("Fake", result["cases"])


FAKE = BenchCase(
    about="Measure nothing.",
    example="mdlora bench fake",
    run=run_fake,
    table=fake_table,
    options={
        "data": "a folder (default: none)",
        "runs": "rounds",
        "sizes": "what is swept",
        "threads": "CPU threads",
    },
    lines=({}, {"threads": 2}),
    small={"sizes": (1,)},
)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """One case, which measures nothing, in place of all others."""
    cases = {"fake": "nothing"}
    monkeypatch.setattr(cli, "CASES", cases)
    monkeypatch.setattr(cli, "EVERY", {**cases, "all": "every case"})
    for module in ("mdlora.bench.suite", "mdlora.bench"):
        monkeypatch.setattr(f"{module}.load_case", {"fake": FAKE}.__getitem__)


@pytest.mark.usefixtures("fake")
def test_every_line_of_a_case_is_run(tmp_path: Path) -> None:
    kept: list[int] = []
    result = run_suite(
        ["fake"], given={"runs": 2, "rows": 7}, keep=lambda r: kept.append(len(r["cases"]))
    )
    assert kept == [1, 2]
    assert list(result["results"]) == ["fake", "fake --threads 2"]
    first, second = (part["given"] for part in result["results"].values())
    assert first == {"data": None, "runs": 2, "sizes": [10, 20], "threads": 1}
    assert second == {**first, "threads": 2}
    assert [case["bench"] for case in result["cases"]] == ["fake", "fake --threads 2"]
    assert result["versions"]["them"] == "1"
    assert result["failed"] == {}
    table = bars_table(result)
    assert table.caption.startswith("2 of 2 bars are met")
    assert table.rows[0][:4] == ("fake", "speed", "at least 4 ×", "5")


@pytest.mark.usefixtures("fake")
def test_small_sizes_are_taken_where_asked() -> None:
    result = run_suite(["fake"], small=True)
    assert result["results"]["fake"]["given"]["sizes"] == [1]


@pytest.mark.usefixtures("fake")
def test_the_command_runs_all_and_says_which_bars_are_met(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.json"
    assert main(["bench", "all", "--runs", "3", "--json", str(path)]) == 0
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["results"]["fake"]["given"]["runs"] == 3
    assert {"machine", "date", "versions", "cases", "failed"} <= set(written)
    printed = capsys.readouterr().out
    assert printed.count("Fake\n") == 2
    assert "2 of 2 bars are met" in printed


@pytest.mark.usefixtures("fake")
def test_a_case_that_fails_is_told_and_the_rest_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.json"
    assert main(["bench", "all", "--data", "broken", "--json", str(path)]) == 1
    assert "fake --threads 2: broken cannot be read." in capsys.readouterr().err
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["failed"]["fake"] == "broken cannot be read."
    assert written["results"] == {}


@pytest.mark.usefixtures("fake")
def test_options_are_those_of_the_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fake.json"
    arguments = ["--sizes", "3,4", "--threads", "2", "--json", str(path)]
    assert main(["bench", "fake", *arguments]) == 0
    given = json.loads(path.read_text(encoding="utf-8"))["given"]
    assert given == {"data": None, "runs": 5, "sizes": [3, 4], "threads": 2}
    capsys.readouterr()
    assert main(["bench", "fake", "--help"]) == 0
    said = capsys.readouterr().out
    assert "Measure nothing." in said
    assert "rounds (type: int, default: 5)" in said
    assert "what is swept (default: 10,20)" in said


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["all", "--only", "fkae"], "Did you mean 'fake'?"),
        (["fkae"], "Did you mean 'fake'?"),
        (["fake", "--sizes", "3,x"], "--sizes='3,x' is not a list of whole numbers"),
        (["fake", "--rusn", "3"], "Did you mean '--runs'?"),
        ([], "Say what to measure."),
    ],
)
def test_wrong_use(arguments: list[str], phrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert phrase in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.CASES)
def test_every_case_says_what_a_command_needs(name: str) -> None:
    case = load_case(name)
    settings = case.settings()
    assert set(case.small) | {key for line in case.lines for key in line} <= set(settings)
    assert case.example.startswith(f"mdlora bench {name}")
    kinds = (int, str, str | None, int | None, str | Path | None, tuple[int, ...])
    assert all(setting.kind in kinds for setting in settings.values())
