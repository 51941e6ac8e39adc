"""`evaluate` and `predict` on a finished run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mdlora.data import load_dataset, read_rows
from mdlora.training import Run, load
from mdlora.types import Batch

Call = Callable[..., tuple[int, str, str]]


def _logits(run: Path, rows: Path, which: str = "best") -> torch.Tensor:
    """Logits (N,) of the rows, straight from the model."""
    model = load(run, which).eval()  # type: ignore[arg-type]
    _, encoded = read_rows(rows, model.schema)
    with torch.no_grad():
        batch = Batch(torch.from_numpy(encoded.categories), torch.from_numpy(encoded.domain))
        logits: torch.Tensor = model(batch)
    return logits


def test_predict_keeps_rows_and_columns(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call
) -> None:
    table = pq.read_table(folder / "test.parquet")
    order = np.random.default_rng(3).permutation(table.num_rows)
    table = table.take(order).append_column("note", pa.array([f"row {i}" for i in order]))
    table = table.select(["note", *reversed(table.column_names[:-1])])
    rows, out = tmp_path / "rows.parquet", tmp_path / "new" / "scores.parquet"
    pq.write_table(table, rows)
    code, said, _ = mdlora("predict", trained, rows, "--out", out)
    assert code == 0
    assert f"{table.num_rows:,} rows scored: {out}" in said
    scored = pq.read_table(out)
    assert scored.column_names == [*table.column_names, "score"]
    assert scored.drop_columns(["score"]).equals(table)
    assert scored.schema.field("score").type == pa.float32()
    score = scored.column("score").to_numpy()
    want = torch.sigmoid(_logits(trained, rows)).numpy()
    np.testing.assert_allclose(score, want, rtol=1e-6)
    assert len(np.unique(score)) > 100


def test_predict_last(trained: Path, folder: Path, tmp_path: Path, mdlora: Call) -> None:
    rows, out = folder / "test.parquet", tmp_path / "scores.parquet"
    assert mdlora("predict", trained, rows, "--out", out, "--which", "last")[0] == 0
    score = pq.read_table(out).column("score").to_numpy()
    want = torch.sigmoid(_logits(trained, rows, "last")).numpy()
    np.testing.assert_allclose(score, want, rtol=1e-6)


def test_scores_that_are_there_are_not_replaced(folder: Path, tmp_path: Path, mdlora: Call) -> None:
    """That is found out before anything is read: there is no such run."""
    (tmp_path / "scores.parquet").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("scores.parquet", "link"):
        out = tmp_path / name
        code, said, err = mdlora("predict", "none", folder / "test.parquet", "--out", out)
        wanted = (
            f"mdlora predict: --out={out} is there already, and is never overwritten. Choose "
            "another file, or remove this one first.\nSee: mdlora predict --help\n"
        )
        assert (code, said, err) == (2, "", wanted)
    assert (tmp_path / "scores.parquet").read_text() == "mine"


def test_predict_needs_no_label(trained: Path, folder: Path, tmp_path: Path, mdlora: Call) -> None:
    table = pq.read_table(folder / "test.parquet")
    pq.write_table(table.drop_columns(["click"]), tmp_path / "rows.parquet")
    assert mdlora("predict", trained, tmp_path / "rows.parquet", "--out", tmp_path / "s")[0] == 0
    assert pq.read_table(tmp_path / "s").num_rows == table.num_rows


def test_predict_with_unseen_values(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call
) -> None:
    table = pq.read_table(folder / "test.parquet").slice(0, 50)
    users = table.column("user_id").to_pylist()
    unseen = type(users[0])(10**9)
    users[3] = users[8] = unseen
    domains = table.column("domain").to_pylist()
    domains[5] = domains[6] = domains[7] = "nowhere"
    for name, values in (("user_id", users), ("domain", domains)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    rows, out = tmp_path / "rows.parquet", tmp_path / "scores.parquet"
    pq.write_table(table, rows)
    code, said, _ = mdlora("predict", trained, rows, "--out", out)
    assert code == 0
    assert "2 rows have a user_id that training never saw." in said
    assert "3 rows have a domain that training never saw." in said
    assert "item_id" not in said
    score = pq.read_table(out).column("score").to_numpy()

    model = load(trained).eval()
    assert model.adapted is not None
    model.adapted.route_mode = "none"  # the backbone alone
    _, encoded = read_rows(rows, model.schema)
    with torch.no_grad():
        categories, domain = torch.from_numpy(encoded.categories), torch.from_numpy(encoded.domain)
        alone = torch.sigmoid(model(Batch(categories, domain))).numpy()
    np.testing.assert_allclose(score[5:8], alone[5:8], rtol=1e-6)
    others = np.delete(np.arange(50), [5, 6, 7])
    assert (score[others] != alone[others]).mean() > 0.2  # some experts keep their start


@pytest.mark.parametrize("missing", ["user_id", "domain"])
def test_predict_without_a_column(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call, missing: str
) -> None:
    rows = tmp_path / "rows.parquet"
    pq.write_table(pq.read_table(folder / "test.parquet").drop_columns([missing]), rows)
    code, _, err = mdlora("predict", trained, rows, "--out", tmp_path / "scores.parquet")
    assert (code, f"{rows}: column {missing!r} is missing" in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_predict_refuses_a_score_column(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call
) -> None:
    rows = tmp_path / "rows.parquet"
    table = pq.read_table(folder / "test.parquet")
    pq.write_table(table.append_column("score", pa.array([0.0] * table.num_rows)), rows)
    code, _, err = mdlora("predict", trained, rows, "--out", tmp_path / "scores.parquet")
    assert (code, f"{rows} has a column `score` already" in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize("which", ["best", "last"])
def test_evaluate_agrees_with_scikit_learn(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call, which: str
) -> None:
    file = tmp_path / "figures.json"
    code, _, _ = mdlora("evaluate", trained, "--which", which, "--replicates", 30, "--json", file)
    assert code == 0
    figures = json.loads(file.read_text(encoding="utf-8"))
    rows = load_dataset(folder).split("test")
    logits = _logits(trained, folder / "test.parquet", which)
    total = 0.0
    for index, domain in enumerate(figures["domains"], 1):
        mine = rows.domain == index
        auc = roc_auc_score(rows.label[mine], logits[mine])
        assert domain["auc"] == pytest.approx(auc, abs=1e-9)
        total += auc * int(mine.sum()) / len(rows)
    assert figures["wauc"] == pytest.approx(total, abs=1e-9)
    low, high = figures["intervals"]["wauc"]
    assert low < figures["wauc"] < high
    assert figures["which"] == which


def test_evaluate_splits_and_files(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call
) -> None:
    def wauc(*options: object) -> float:
        file = tmp_path / "figures.json"
        assert mdlora("evaluate", trained, "--replicates", 0, "--json", file, *options)[0] == 0
        return float(json.loads(file.read_text(encoding="utf-8"))["wauc"])

    assert wauc("--split", "test") == wauc("--data", folder) == wauc()
    assert wauc("--data", folder / "validation.parquet") == wauc("--split", "validation")
    assert wauc("--split", "train") != wauc()


def test_evaluate_names_the_bad_row(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call
) -> None:
    table = pq.read_table(folder / "test.parquet")
    labels = table.column("click").to_pylist()
    labels[4] = 3
    rows = tmp_path / "rows.parquet"
    pq.write_table(
        table.set_column(table.column_names.index("click"), "click", pa.array(labels)), rows
    )
    code, _, err = mdlora("evaluate", trained, "--data", rows)
    assert (code, f"{rows}: Label column 'click' is 3 in row 4" in err) == (1, True)


def _with_one_class_and_strangers(folder: Path, out: Path) -> dict[str, int]:
    """Test rows where domain_02 was never clicked; returns the rows with unseen users, items."""
    table = pq.read_table(folder / "test.parquet")
    columns = {name: table.column(name).to_pylist() for name in ("domain", "click", "user_id")}
    mine = [name == "domain_02" for name in columns["domain"]]
    assert any(mine)
    clicks = [0 if m else c for m, c in zip(mine, columns["click"], strict=True)]
    users = columns["user_id"]
    users[0] = users[1] = users[2] = type(users[0])(10**9)
    for name, values in (("click", clicks), ("user_id", users)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, out)
    known = set(pq.read_table(folder / "train.parquet").column("user_id").to_pylist())
    return {"user_id": sum(user not in known for user in users)}


def test_evaluate_tells_of_left_out_domains_and_unseen_values(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call
) -> None:
    rows, file = tmp_path / "rows.parquet", tmp_path / "figures.json"
    unseen = _with_one_class_and_strangers(folder, rows)
    code, said, _ = mdlora("evaluate", trained, "--data", rows, "--replicates", 0, "--json", file)
    assert code == 0
    assert "Left out of WAUC, for want of clicks or non-clicks: domain_02." in said
    assert f"{unseen['user_id']:,} rows have a user_id that training never saw." in said
    assert "a domain that training never saw" not in said
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert figures["left_out"] == ["domain_02"]
    assert figures["unseen"] == {**dict.fromkeys(figures["unseen"], 0), **unseen}


def test_train_tells_of_left_out_domains_and_unseen_values(
    folder: Path, tmp_path: Path, mdlora: Call, tiny_options: list[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    unseen = _with_one_class_and_strangers(folder, data / "test.parquet")
    options = [*tiny_options, "--plan.max_epochs=0", "--quiet", "--method=base"]
    code, said, _ = mdlora("train", data, "--out", tmp_path / "run", *options)
    assert code == 0
    assert "Left out of WAUC, for want of clicks or non-clicks: domain_02." in said
    assert f"{unseen['user_id']:,} rows have a user_id that training never saw." in said


def test_nothing_to_tell(trained: Path, folder: Path, mdlora: Call) -> None:
    _, said, _ = mdlora("evaluate", trained, "--split", "train", "--replicates", 0)
    assert "Left out" not in said
    assert "never saw" not in said


def test_evaluate_refuses_a_split_of_one_file(trained: Path, folder: Path, mdlora: Call) -> None:
    rows = folder / "test.parquet"
    for split in (["--split", "train"], ["--split=test"]):
        code, _, err = mdlora("evaluate", trained, "--data", rows, *split)
        assert code == 2
        assert f"--data {rows} is one file" in err
        assert "leave out --split" in err


@pytest.mark.parametrize("labels", [[None], [7], ["yes"]])
def test_predict_does_not_read_the_label(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call, labels: list[object]
) -> None:
    table = pq.read_table(folder / "test.parquet")
    place = table.column_names.index("click")
    odd = table.set_column(place, "click", pa.array(labels * table.num_rows))
    scores = []
    for name, rows in (("plain", table), ("odd", odd)):
        pq.write_table(rows, tmp_path / f"{name}.parquet")
        out = tmp_path / f"{name}-scores.parquet"
        code, _, err = mdlora("predict", trained, tmp_path / f"{name}.parquet", "--out", out)
        assert code == 0, err
        scores.append(pq.read_table(out).column("score"))
    assert scores[0].equals(scores[1])


def test_where_to_score(
    trained: Path, folder: Path, tmp_path: Path, mdlora: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was trained on one CPU thread."""
    seen: list[tuple[str, int]] = []

    def spy(self: Run, *rows: torch.Tensor) -> torch.Tensor:
        seen.append((self.config.training.device, torch.get_num_threads()))
        return score(self, *rows)

    score = Run._score
    monkeypatch.setattr(Run, "_score", spy)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows, out = folder / "test.parquet", tmp_path / "scores.parquet"
    before = torch.get_num_threads()
    for options in ([], ["--threads", 2], ["--device", "auto"]):
        assert mdlora("evaluate", trained, "--replicates", 0, *options)[0] == 0
        assert mdlora("predict", trained, rows, "--out", out, *options)[0] == 0
        out.unlink()
    assert seen == [("cpu", 1)] * 2 + [("cpu", 2)] * 2 + [("auto", 1)] * 2
    assert torch.get_num_threads() == before
    for verb in (["evaluate", trained], ["predict", trained, rows, "--out", tmp_path / "none"]):
        code, _, err = mdlora(*verb, "--device", "cuda")
        assert (code, "torch sees no CUDA device" in err) == (2, True)
    assert not (tmp_path / "none").exists()
