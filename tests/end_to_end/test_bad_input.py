"""Every wrong input ends in one clear sentence and an exit code, and leaves nothing behind."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdlora.cli.parsing import check_can_write

Call = Callable[..., tuple[int, str, str]]
FAILED, USED_WRONGLY = 1, 2


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data, to be spoiled."""
    return Path(shutil.copytree(folder, tmp_path / "data"))


@pytest.fixture
def refused(mdlora: Call, tiny_options: list[str], tmp_path: Path) -> Callable[..., None]:
    """refused(data, code, *phrases, options=[...]): training says this and makes no run."""

    def check(data: Path, code: int, *phrases: str, options: tuple[str, ...] = ()) -> None:
        run = tmp_path / "run"
        got, out, err = mdlora("train", data, "--out", run, *tiny_options, *options)
        assert got == code, err
        assert out == ""
        for phrase in phrases:
            assert phrase in err
        assert "Traceback" not in err
        assert not run.exists()
        assert list(tmp_path.rglob(".*")) == []

    return check


def _spoil(path: Path, column: str, row: int, value: Any) -> None:
    """Put a value into a Parquet file."""
    table = pq.read_table(path)
    values = table.column(column).to_pylist()
    values[row] = value
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), path)


def test_data_folder_is_missing(refused: Callable[..., None], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    refused(gone, FAILED, f"The data folder {gone} is not there", "mdlora prepare")


def test_not_a_data_folder(refused: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", FAILED, "has no schema.json", "mdlora prepare")


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_split_file_is_missing(refused: Callable[..., None], copied: Path, name: str) -> None:
    (copied / f"{name}.parquet").unlink()
    refused(copied, FAILED, f"has no {name}.parquet")


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_split_is_empty(refused: Callable[..., None], copied: Path, name: str) -> None:
    path = copied / f"{name}.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    refused(copied, FAILED, f"{path} has no rows")


def test_split_is_cut_short(refused: Callable[..., None], copied: Path) -> None:
    path = copied / "validation.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    refused(copied, FAILED, str(path), "cut short or damaged")


def test_split_is_no_parquet(refused: Callable[..., None], copied: Path) -> None:
    path = copied / "train.parquet"
    path.write_text("user_id,item_id\n1,2\n", encoding="utf-8")
    refused(copied, FAILED, str(path), "not a Parquet file")


def test_column_is_missing(refused: Callable[..., None], copied: Path) -> None:
    path = copied / "train.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["item_id"]), path)
    refused(copied, FAILED, f"{path}: column 'item_id' is missing", "user_id")


@pytest.mark.parametrize("name", ["train", "validation"])
@pytest.mark.parametrize(("value", "shown"), [(2, "2"), (None, "null"), (0.5, "0.5")])
def test_label_is_not_0_or_1(
    refused: Callable[..., None], copied: Path, name: str, value: Any, shown: str
) -> None:
    path = copied / f"{name}.parquet"
    label = pq.read_table(path).column("click").to_pylist()
    label[7] = value
    if isinstance(value, float):
        label = [float(one) for one in label]
    table = pq.read_table(path)
    place = table.column_names.index("click")
    pq.write_table(table.set_column(place, "click", pa.array(label)), path)
    refused(copied, FAILED, f"{path}: Label column 'click' is {shown} in row 7")


def test_category_is_null(refused: Callable[..., None], copied: Path) -> None:
    path = copied / "train.parquet"
    _spoil(path, "user_id", 11, None)
    refused(copied, FAILED, f"{path}: Column 'user_id' is null in row 11")


def test_domain_without_training_rows(refused: Callable[..., None], copied: Path) -> None:
    path = copied / "train.parquet"
    table = pq.read_table(path)
    kept = [name != "domain_02" for name in table.column("domain").to_pylist()]
    pq.write_table(table.filter(pa.array(kept)), path)
    refused(copied, FAILED, f"{path}: domain 'domain_02'", "no training rows")


def test_schema_is_damaged(refused: Callable[..., None], copied: Path) -> None:
    (copied / "schema.json").write_text("{", encoding="utf-8")
    refused(copied, FAILED, f"{copied / 'schema.json'}: The schema is not valid JSON")


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--plan.max_epoch=3"], "No option '--plan.max_epoch'. Did you mean '--plan.max_epochs'?"),
        (["--data=x"], "No option '--data'."),
        (["--plan.max_epochs=-1"], "plan.max_epochs=-1 is out of range"),
        (["--plan.max_epochs=many"], "--plan.max_epochs: Expected int. Got value: many"),
        (["--backbone.dropout=1"], "backbone.dropout=1 is out of range; choose a number in [0, 1)"),
        (["--training.lr=.nan"], "training.lr=nan is not a finite number"),
        (["--training.device=gpu"], "--training.device: Expected one of 'auto', 'cpu', 'cuda'"),
        (["--plan.rows=held_out:2"], "plan.rows='held_out:2' is not known"),
        (["--seed=x"], "--seed: Expected int. Got value: x"),
        (["--adapter.rank=x"], "--adapter.rank: Expected int or none. Got value: x"),
        (["--seed=-1"], "seed=-1 is out of range"),
        (["--backbone=deepfn"], "No backbone 'deepfn'. Did you mean 'deepfm'?"),
        (["--method=mlra"], "No method 'mlra'. Did you mean 'mlora'?"),
        (["--config=none.yaml"], "Cannot read the configuration none.yaml"),
    ],
)
def test_wrong_option(
    refused: Callable[..., None], folder: Path, options: list[str], phrase: str
) -> None:
    refused(folder, USED_WRONGLY, phrase, "See: mdlora train --help", options=tuple(options))


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("plan: {max_epoch: 3}", "No setting of plan 'max_epoch'. Did you mean 'max_epochs'?"),
        ("plam: {max_epochs: 3}", "No setting 'plam'. Did you mean 'plan'?"),
        ("plan: {max_epochs: soon}", "max_epochs"),
        ("plan: 3", "give a mapping of its settings"),
        ("[1, 2]", "must hold a mapping of settings"),
        ("plan: [", "is not YAML"),
        ("backbone: {hidden: []}", "backbone.hidden is empty"),
    ],
)
def test_wrong_config_file(
    refused: Callable[..., None], folder: Path, tmp_path: Path, text: str, phrase: str
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    refused(folder, USED_WRONGLY, phrase, options=("--config", str(file)))


def test_targets_that_match_nothing(refused: Callable[..., None], folder: Path) -> None:
    refused(folder, FAILED, "tower.99", options=("--adapter.targets=tower.99",))


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["trian"], "No verb 'trian'. Did you mean 'train'?"),
        (["train"], "Give DATA and --out, or --resume RUN."),
        (["prepare"], "Say what to prepare."),
        (["prepare", "movilens"], "Did you mean 'movielens'?"),
        (["evaluate"], "Give RUN."),
        (["predict", "run"], "Give ROWS and --out."),
        (["compare", "data"], "Give --out."),
        (["demo", "--jobs", "0"], "--jobs=0 is out of range"),
        (["demo", "--seeds", "1,x"], "--seeds='1,x' is not a list of whole numbers"),
        (["bench", "tain"], "Did you mean 'train'?"),
        (["evaluate", "run", "--which", "lats"], "--which: Expected one of 'best', 'last'"),
        (["evaluate", "run", "--seed", "-1"], "--seed=-1 is out of range"),
        (["evaluate", "run", "--replicates", "-5"], "--replicates=-5 is out of range"),
        (["evaluate", "run", "--replicates", "1"], "--replicates=1 gives no interval"),
        (["evaluate", "run", "--replicates", "2.5"], "--replicates: Expected int"),
        (["evaluate", "run", "--threads", "0"], "--threads=0 is out of range"),
        (["predict", "run", "rows", "--out", "o", "--device", "gpu"], "--device: Expected one of"),
    ],
)
def test_wrong_use_of_a_verb(
    mdlora: Call,
    arguments: list[str],
    phrase: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = mdlora(*arguments)
    assert code == USED_WRONGLY
    assert phrase in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "phrase"),
    [("a-file/figures.json", "a-file is a file"), (".", "that is a folder")],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "nothing", "--out", "run"],
        ["evaluate", "nothing"],
        ["compare", "nothing", "--out", "results"],
        ["demo", "--out", "demo"],
        ["prepare", "synthetic", "--out", "data"],
        ["prepare", "movielens", "--by", "age", "--raw", "nothing", "--out", "data"],
        ["bench", "train"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_figures_that_could_not_be_written(
    mdlora: Call,
    arguments: list[str],
    place: str,
    phrase: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Said before anything else is looked at, so before the work."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("mine", encoding="utf-8")
    code, _, err = mdlora(*arguments, "--json", place)
    assert (code, f"--json={place} cannot be written: " in err, phrase in err) == (2, True, True)
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_scores_that_could_not_be_written(mdlora: Call, tmp_path: Path) -> None:
    code, _, err = mdlora("predict", "nothing", "rows.parquet", "--out", tmp_path)
    assert (code, f"--out={tmp_path} cannot be written: that is a folder" in err) == (2, True)


def test_the_root_is_no_place_for_a_file(mdlora: Call) -> None:
    code, _, err = mdlora("predict", "nothing", "rows.parquet", "--out", "/")
    assert (code, "--out=/ cannot be written: that is a folder" in err) == (2, True)


def test_figures_go_into_a_new_folder(tmp_path: Path) -> None:
    check_can_write("--json", str(tmp_path / "new" / "newer" / "figures.json"))
    check_can_write("--json", None)
    assert list(tmp_path.iterdir()) == []


def test_a_defect_is_told_whole(mdlora: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> None:
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr("mdlora.cli.demo.run", broken)
    code, out, err = mdlora("demo")
    assert (code, out) == (FAILED, "")
    lines = err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2] == "ZeroDivisionError: nobody thought of it"
    assert lines[-1].startswith("mdlora demo: a defect of mdlora. Please report it")


def test_out_that_is_no_run_is_not_to_be_resumed(
    mdlora: Call, copied: Path, tiny_options: list[str]
) -> None:
    before = {path: path.read_bytes() for path in copied.iterdir()}
    code, _, err = mdlora("train", copied, "--out", copied, *tiny_options)
    assert code == FAILED
    assert str(copied) in err
    assert "--resume" not in err
    assert {path: path.read_bytes() for path in copied.iterdir()} == before


class TestMovieLens:
    """`prepare movielens` on broken raw files."""

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "ml-1m"
        raw.mkdir()
        users = "".join(f"{u}::{'FM'[u % 2]}::25::4::02139\n" for u in range(1, 9))
        (raw / "users.dat").write_text(users, encoding="latin-1")
        (raw / "movies.dat").write_text("1::A (1995)::Drama\n2::B (1996)::War\n", "latin-1")
        ratings = [f"{u}::{m}::{5 if (u // 2 + m) % 2 else 3}::97" for u in range(1, 9)
                   for m in (1, 2)]  # fmt: skip
        (raw / "ratings.dat").write_text("\n".join(ratings) + "\n", "latin-1")
        return raw

    def _refused(self, mdlora: Call, raw: Path, out: Path, *phrases: str) -> None:
        code, _, err = mdlora("prepare", "movielens", "--raw", raw, "--by", "gender", "--out", out)
        assert code == FAILED
        for phrase in phrases:
            assert phrase in err
        assert not out.exists()

    def test_missing(self, mdlora: Call, tmp_path: Path) -> None:
        self._refused(mdlora, tmp_path / "x.zip", tmp_path / "d", f"There is no {tmp_path}/x.zip")

    def test_not_a_zip(self, mdlora: Call, tmp_path: Path) -> None:
        file = tmp_path / "ml-1m.zip"
        file.write_text("hello", encoding="utf-8")
        self._refused(mdlora, file, tmp_path / "d", f"{file} is not a zip file")

    def test_truncated_zip(self, mdlora: Call, raw: Path, tmp_path: Path) -> None:
        file = tmp_path / "ml-1m.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in raw.iterdir():
                archive.write(path, f"ml-1m/{path.name}")
        file.write_bytes(file.read_bytes()[:-60])
        self._refused(mdlora, file, tmp_path / "d", f"{file} is a zip that was cut short")

    def test_wrong_separator(self, mdlora: Call, raw: Path, tmp_path: Path) -> None:
        text = (raw / "ratings.dat").read_text("latin-1").splitlines()
        text[4] = text[4].replace("::", ",")
        (raw / "ratings.dat").write_text("\n".join(text) + "\n", "latin-1")
        self._refused(mdlora, raw, tmp_path / "d", "ratings.dat, line 5", text[4], "'::'")

    def test_file_is_missing(self, mdlora: Call, raw: Path, tmp_path: Path) -> None:
        (raw / "users.dat").unlink()
        self._refused(mdlora, raw, tmp_path / "d", f"{raw} holds no users.dat", "movies.dat")

    def test_out_is_there(self, mdlora: Call, raw: Path, tmp_path: Path) -> None:
        out = tmp_path / "d"
        out.mkdir()
        (out / "precious.txt").write_text("mine", encoding="utf-8")
        code, _, err = mdlora("prepare", "movielens", "--raw", raw, "--by", "gender", "--out", out)
        assert (code, "is there already" in err) == (FAILED, True)
        assert [path.name for path in out.iterdir()] == ["precious.txt"]
