"""Training on rows that stay on disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mdlora.cli.main import main
from mdlora.config import WINDOW_ROWS, DataConfig, RunConfig
from mdlora.data import Dataset, load_dataset
from mdlora.data.prepare import prepare_synthetic
from mdlora.errors import ConfigError, DataError
from mdlora.experiments import compare
from mdlora.model import CTRModel
from mdlora.training import Run, resume, train, train_config
from mdlora.training.batches import PhaseRows
from mdlora.training.plan import make_plan
from mdlora.training.source import MemorySource, RowRules, Step
from mdlora.training.streamed import RowStream, StreamedSource
from mdlora.training.weights import read_tensors

TinyConfig = Callable[..., RunConfig]
ROWS, VALIDATION = 1799, 599
WINDOW = 500  # 4 windows an epoch
BATCH = 128  # 15 batches, some of them from two windows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 rows of 5 domains, 1,799 of them to train on, in one file."""
    out = tmp_path_factory.mktemp("data") / "whole"
    prepare_synthetic(
        out, rows=3000, domains=5, users=60, items=40, user_fields=2, item_fields=2,
        field_values=5, size_ratio=5.0,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def parts(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows, the training split in a folder of 3 files of 6 row groups."""
    out = tmp_path_factory.mktemp("data") / "parts"
    in_parts(load_dataset(whole), out)
    return out


def in_parts(data: Dataset, out: Path, *, files: int = 3, groups: int = 6) -> None:
    (out / "train").mkdir(parents=True)
    assert data.path is not None
    for path in data.path.iterdir():
        if path.name != "train.parquet":
            (out / path.name).write_bytes(path.read_bytes())
    table = pq.read_table(data.path / "train.parquet")
    each = -(-len(table) // files)
    for number in range(files):
        part = table.slice(number * each, each)
        path = out / "train" / f"part-{number}.parquet"
        pq.write_table(part, path, row_group_size=-(-each // groups))


@pytest.fixture(scope="module")
def streamed(parts: Path, tiny_config: TinyConfig) -> TinyConfig:
    """Makes a configuration that streams the folder of parts."""

    def make(method: str = "moe-mlora", seed: int = 1, **sections: dict[str, Any]) -> RunConfig:
        data = {"path": str(parts), "stream": True, "window_rows": WINDOW}
        sections["data"] = {**data, **sections.get("data", {})}
        return tiny_config(method, seed, **sections)

    return make


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "mdlora-stream"]


def run_of(config: RunConfig, out: Path) -> Run:
    data = load_dataset(str(config.data.path))
    run = train_config(config, data, out)
    assert set(data._splits) == {"validation"}  # the rows to learn from were never loaded
    return run


def figures(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if "seconds" not in k} for line in run.metrics()]


def assert_same(mine: Run, other: Run) -> None:
    """Best weights, last weights and figures, to the last bit."""
    for ours, theirs in (
        (mine.model.state(), other.model.state()),
        *[[read_tensors(run.folder.state_path)[0] for run in (mine, other)]],
    ):
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert figures(mine) == figures(other)


def rules_of(config: RunConfig, data: Dataset, phase: int = 0, **options: Any) -> RowRules:
    known: dict[str, Any] = {"assign": None, "hides": False, "sorts": False}
    return RowRules(
        phase=make_plan(config)[phase], config=config, schema=data.schema,
        device=torch.device("cpu"), dtype=torch.float32, **{**known, **options},
    )  # fmt: skip


def steps_of(source: Any, epoch: int, done: int = 0) -> list[Step]:
    return list(source.epoch(epoch, done).steps())


def rows_of(steps: list[Step]) -> torch.Tensor:
    return torch.cat([step.batch.categories for step in steps if step.batch is not None])


def test_it_learns_as_well_as_from_memory(
    whole: Path, streamed: TinyConfig, tiny_config: TinyConfig, tmp_path: Path
):
    sections = {"plan": {"max_epochs": 5}, "training": {"lr": 0.03}}
    for method in ("base", "mlora"):
        from_disk = run_of(streamed(method, **sections), tmp_path / f"{method}-disk")
        config = tiny_config(method, data={"path": str(whole)}, **sections)
        from_memory = train_config(config, load_dataset(whole), tmp_path / f"{method}-memory")
        before, after = figures(from_disk)[0]["wauc"], from_disk.evaluate().wauc
        assert abs(before - 0.5) < 0.06
        assert after > 0.65
        assert abs(after - from_memory.evaluate().wauc) < 0.03


@pytest.mark.parametrize("method", ["base", "moe-mlora", "moe-mlora-joint"])
def test_one_seed_gives_the_same_weights_and_another_gives_others(
    method: str, streamed: TinyConfig, tmp_path: Path
):
    sections = {"data": {"oov_rate": 0.1}, "plan": {"max_epochs": 1}}
    first = run_of(streamed(method, **sections), tmp_path / "a")
    assert_same(first, run_of(streamed(method, **sections), tmp_path / "b"))
    other = run_of(streamed(method, 2, **sections), tmp_path / "c").model.state()
    assert not torch.equal(first.model.state()["embeddings.table"], other["embeddings.table"])


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(parts: Path, streamed: TinyConfig):
    data = load_dataset(parts)
    config = streamed("mlora")
    orders = []
    for phase, epoch in ((0, 0), (0, 1), (1, 0)):
        rules = rules_of(config, data, phase)
        source = StreamedSource(RowStream(data, WINDOW), rules)
        steps = steps_of(source, epoch)
        assert [step.rows for step in steps] == [BATCH] * 14 + [ROWS - 14 * BATCH]
        orders.append(rows_of(steps))
        again = rows_of(steps_of(source, epoch))
        assert torch.equal(orders[-1], again)
    every = load_dataset(parts).split("train").categories
    for number, order in enumerate(orders):
        assert torch.equal(in_order(order), in_order(every))
        for other in orders[:number]:
            assert (order == other).all(1).float().mean() < 0.05


def in_order(rows: torch.Tensor) -> torch.Tensor:
    """Rows sorted by all their ids."""
    return torch.from_numpy(rows.numpy()[np.lexsort(rows.numpy().T)])


def test_a_position_is_the_number_of_batches_that_are_done(parts: Path, streamed: TinyConfig):
    data = load_dataset(parts)
    rules = rules_of(streamed(data={"oov_rate": 0.3}), data, hides=True, sorts=True)
    source = StreamedSource(RowStream(data, WINDOW), rules)
    steps = steps_of(source, 1)
    for done in range(len(steps) + 1):
        epoch = source.epoch(1, done)
        assert (epoch.num_rows, epoch.num_batches) == (ROWS, len(steps))
        assert epoch.rows_done == sum(step.rows for step in steps[:done])
        for step, wanted in zip(epoch.steps(), steps[done:], strict=True):
            assert step.batch is not None
            assert wanted.batch is not None
            assert torch.equal(step.batch.categories, wanted.batch.categories)
            assert torch.equal(step.batch.label, wanted.batch.label)
            assert bool((step.batch.domain.diff() >= 0).all())  # sorted within the batch
    hidden = (rows_of(steps) == 0).float().mean()
    assert 0.27 < hidden < 0.33
    assert (rows_of(steps_of(source, 2)) == 0).float().mean() != hidden


@pytest.mark.parametrize("method", ["base", "mlora", "moe-mlora", "mlora-joint"])
def test_with_one_batch_an_epoch_the_figures_are_those_from_memory(
    method: str, every_kind: Dataset, tiny_config: TinyConfig, tmp_path: Path
):
    """A batch's loss does not depend on the order of its rows, so disk and memory must agree."""
    in_parts(every_kind, tmp_path / "data", files=2)
    data = load_dataset(tmp_path / "data")
    sections: dict[str, Any] = {
        "backbone": {"dropout": 0.0},
        "training": {"batch_size": 1000},
        "plan": {"max_epochs": 4, "patience": 1, "min_validation": 1},
        "adapter": {"rank": 2},
    }
    lines = []
    for stream in (False, True):
        where = {"path": str(data.path), "stream": stream}
        config = tiny_config(method, data=where, **sections)
        lines.append(figures(train_config(config, load_dataset(data.path), tmp_path / f"{stream}")))
    memory, disk = lines
    assert len(memory) == len(disk) > 4
    for ours, theirs in zip(disk, memory, strict=True):
        for key in ("train_loss", "log_loss", "running", "best_epochs", "epochs"):
            if theirs.get(key) is None:
                assert ours.get(key) is None
            else:
                assert ours[key] == pytest.approx(theirs[key], rel=2e-4), key
    if method == "mlora":
        experts = [
            line["running"] for line in disk if line["phase"] == "experts" and "end" not in line
        ]
        assert experts[-1] < experts[0]  # some had stopped, their rows were left out


def test_rows_of_stopped_experts_are_left_out_and_the_loss_keeps_its_scale(
    parts: Path, streamed: TinyConfig
):
    data = load_dataset(parts)

    def own(domain: torch.Tensor, _: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, torch.where(domain == 2, -1, domain - 1)  # domain 2 as if it were unknown

    rules = rules_of(streamed("mlora"), data, 1, assign=own)
    source = StreamedSource(RowStream(data, WINDOW), rules)
    whole = rules_of(streamed("mlora"), data, 1)
    every = steps_of(StreamedSource(RowStream(data, WINDOW), whole), 0)
    epoch = source.epoch(0, 0)
    stopped = torch.tensor([False, False, True, False, True])
    for number, (step, all_rows) in enumerate(zip(epoch.steps(), every, strict=True)):
        assert step.batch is not None
        assert all_rows.batch is not None
        gone = {2} if number < 5 else {2, 3, 5}
        keep = torch.tensor([int(d) not in gone for d in all_rows.batch.domain])
        assert torch.equal(step.batch.categories, all_rows.batch.categories[keep])
        assert torch.equal(step.expert, step.batch.domain - 1)
        assert (step.rows, step.size) == (all_rows.rows, all_rows.size)
        assert step.learned == int(keep.sum()) < step.rows
        if number == 4:
            epoch.leave_out(stopped)
        elif number == 0:
            epoch.leave_out(torch.zeros(5, dtype=torch.bool))
    epoch = source.epoch(0, 0)
    epoch.leave_out(torch.ones(5, dtype=torch.bool))
    assert [step.batch for step in epoch.steps()] == [None] * 15


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "hidden values": ("moe-mlora", {"data": {"oov_rate": 0.1}}),
    "catch-up, by steps": (
        "mlora-joint",
        {"training": {"embedding_optimizer": "catch_up"}, "plan": {"eval_every_steps": 4}},
    ),
    "stops by step": ("mlora", {"plan": {"eval_every_steps": 3, "patience": 1, "max_epochs": 3}}),
    "clusters": (
        "moe-mlora",
        {"adapter": {"experts_per_domain": 2, "expert_rows": "clusters:user_id"}},
    ),
    "a checkpoint an epoch": ("moe-mlora", {"training": {"checkpoint_seconds": 1e9}}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_killed_run_goes_on_in_the_middle_of_an_epoch(
    name: str, streamed: TinyConfig, tmp_path: Path, kill_at: Any, killed: type[BaseException]
):
    method, sections = VARIANTS[name]
    sections = {**sections, "training": {"checkpoint_seconds": 0, **sections.get("training", {})}}
    config = streamed(method, **sections)
    whole = run_of(config, tmp_path / "whole")
    rng = random.Random(name)
    phases = [phase.name for phase in make_plan(config)]
    kills = [(phases[0], 3), *((phase, rng.randint(2, 6)) for phase in phases)]
    out, middle = tmp_path / "killed", 0
    for number, kill in enumerate(kills):
        progress = kill_at(*kill)
        begin = partial(train_config, config, load_dataset(config.data.path))
        with pytest.raises(killed):
            (resume if number else begin)(out, progress=progress)
        middle += number > 0 and 0 < progress.began[0][1] < ROWS
    assert middle or "an epoch" in name
    assert_same(resume(out), whole)


def test_ctrl_c_saves_and_the_run_goes_on(streamed: TinyConfig, tmp_path: Path, kill_at: Any):
    config = streamed("base", training={"checkpoint_seconds": 1e9})
    whole = run_of(config, tmp_path / "whole")

    class Pressed(kill_at):
        def advance(self, rows: int) -> None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_config(
            config, load_dataset(config.data.path), tmp_path / "run", progress=Pressed("", 7)
        )
    progress = kill_at("", 0)
    assert_same(resume(tmp_path / "run", progress=progress), whole)
    assert progress.began[0] == (ROWS, 7 * BATCH)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_kills(
    streamed: TinyConfig, tmp_path: Path, kill_at: Any, killed: type[BaseException],
    sigkill_script: str,
):  # fmt: skip
    config = streamed("moe-mlora", training={"checkpoint_seconds": 0}, data={"oov_rate": 0.1})
    whole = run_of(config, tmp_path / "whole")
    out = tmp_path / "run"
    with pytest.raises(killed):
        train_config(config, load_dataset(config.data.path), out, progress=kill_at("backbone", 2))
    rng = random.Random(1)
    for phase in ("backbone", "experts", "gate"):
        for _ in range(3):
            arguments = [str(out), phase, str(rng.randint(1, 5)), str(rng.uniform(0, 0.03))]
            done = subprocess.run([sys.executable, "-c", sigkill_script, *arguments])
            assert done.returncode == -signal.SIGKILL, phase
    assert_same(resume(out), whole)


def test_one_file_and_a_folder_of_parts_have_the_same_rows(
    whole: Path, parts: Path, streamed: TinyConfig, tiny_config: TinyConfig, tmp_path: Path
):
    plan = {"max_epochs": 1}
    tables = []
    for number, config in enumerate(
        (
            streamed("mlora", plan=plan),
            streamed("mlora", plan=plan, data={"path": str(whole)}),
            tiny_config("mlora", plan=plan, data={"path": str(whole)}),
        )
    ):
        data = load_dataset(config.data.path)
        run = train_config(config, data, tmp_path / str(number))
        tables.append((run.path / "domains.csv").read_text())
        assert run.folder.read_json("env.json")["rows"] == {"train": ROWS, "validation": VALIDATION}
    assert tables[0] == tables[1] == tables[2]
    lines = [line.split(",") for line in tables[0].splitlines()[1:]]
    split = load_dataset(whole).split("train")
    assert sum(int(line[2]) for line in lines) == ROWS
    assert sum(int(line[3]) for line in lines) == int(split.label.sum())


def test_whether_values_are_unseen_is_known_without_the_rows(
    every_kind: Dataset, tiny_config: TinyConfig
):
    assert every_kind.path is not None
    data = load_dataset(every_kind.path)
    rules = rules_of(tiny_config(), data)
    disk = StreamedSource(RowStream(data, WINDOW_ROWS), rules)
    memory = MemorySource(PhaseRows.with_expert(every_kind.split("train")), rules)
    assert disk.holds_unseen == memory.holds_unseen
    assert len(set(disk.holds_unseen)) == 2
    assert "train" not in data._splits


def test_a_domain_without_training_rows_is_refused(
    whole: Path, streamed: TinyConfig, tmp_path: Path
):
    data = tmp_path / "data"
    in_parts(load_dataset(whole), data)
    domain = load_dataset(whole).schema.domain
    for path in (data / "train").iterdir():
        table = pq.read_table(path)
        keep = pa.compute.not_equal(table[domain.name], domain.values[2])
        pq.write_table(table.filter(keep), path)
    config = streamed(data={"path": str(data)})
    message = rf"train: domain '{domain.values[2]}' of the schema has no training rows"
    with pytest.raises(DataError, match=message):
        train_config(config, load_dataset(data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_row_that_does_not_fit_is_found_before_anything_is_trained(
    whole: Path, streamed: TinyConfig, tmp_path: Path
):
    data = tmp_path / "data"
    in_parts(load_dataset(whole), data)
    path = data / "train" / "part-2.parquet"
    table = pq.read_table(path)
    label = load_dataset(whole).schema.label.name
    values = table[label].to_numpy().copy()
    values[450] = 7
    place = table.column_names.index(label)
    table = table.set_column(place, label, pa.array(values))
    pq.write_table(table, path, row_group_size=100)
    wanted = r"part-2\.parquet, row group 4: Label column .* is 7 in row 450 \(counted from 0\)"
    with pytest.raises(DataError, match=wanted):
        train_config(streamed(data={"path": str(data)}), load_dataset(data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "batches by domain": (
        "mlora",
        {"plan": {"batches": "by_domain"}},
        r"phase 'experts', which needs all .* batches 'by_domain'; choose batches 'mixed'",
    ),
    "held-out rows": (
        "moe-mlora",
        {"plan": {"rows": "held_out:0.2"}},
        r"phase 'backbone', .* rows 'seen'; choose rows 'all'",
    ),
    "recent rows": (
        "base-finetuned",
        {"plan": {"rows": "recent:3"}},
        r"phase 'finetune', .* rows 'recent:3'; choose rows 'all', or leave data\.stream out",
    ),
    "a random share": (
        "moe-mlora",
        {"adapter": {"experts_per_domain": 2}},
        r"phase 'experts', .* adapter\.expert_rows='random' with 2 experts a domain; choose",
    ),
    "a bootstrap": (
        "moe-mlora",
        {"adapter": {"experts_per_domain": 3, "expert_rows": "bootstrap"}},
        r"adapter\.expert_rows='bootstrap' with 3 experts a domain; choose 'clusters:COLUMN'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_all_rows_at_once_is_refused_at_once(
    name: str, parts: Path, streamed: TinyConfig, tmp_path: Path
):
    method, sections, message = REFUSED[name]
    config = streamed(method, **sections)
    data = load_dataset(parts)
    with pytest.raises(ConfigError, match=message):
        train_config(config, data, tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        compare(
            str(parts), out=tmp_path / "compared", config=config, backbones=["mlp"],
            methods=["base", method],
        )  # fmt: skip
    assert not data._splits
    assert not list(tmp_path.iterdir())


def test_other_settings_that_cannot_be(streamed: TinyConfig, tiny_data: Dataset, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.stream reads a data folder from disk, but"):
        train_config(streamed(), tiny_data, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"window_rows=9 has no effect on rows in memory"):
        DataConfig(window_rows=9)
    with pytest.raises(ConfigError, match=r"data\.window_rows=0 is out of range"):
        DataConfig(window_rows=0, stream=True)
    with pytest.raises(ConfigError, match=r"data\.stream='no' is neither true nor false"):
        DataConfig(stream="no")  # type: ignore[arg-type]


def test_a_run_does_not_begin_with_one_of_other_windows(streamed: TinyConfig, tmp_path: Path):
    plan = {"max_epochs": 1}
    base = run_of(streamed("base", plan=plan), tmp_path / "base")
    whole = run_of(streamed("mlora", plan=plan), tmp_path / "whole")
    config = streamed("mlora", plan=plan)
    data = load_dataset(config.data.path)
    run = train_config(config, data, tmp_path / "after", start_from=base.path)
    state = run.model.state()
    assert [n for n, t in whole.model.state().items() if not torch.equal(t, state[n])] == []
    other = streamed("mlora", plan=plan, data={"window_rows": 501})
    with pytest.raises(Exception, match="is not the beginning of this run"):
        train_config(other, data, tmp_path / "other", start_from=base.path)


def test_the_command_and_the_library(
    parts: Path, streamed: TinyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    encode = Dataset._encode

    def refuse(self: Dataset, name: str) -> Any:
        assert name != "train", "the training split was loaded"
        return encode(self, name)

    monkeypatch.setattr(Dataset, "_encode", refuse)
    options = (
        f"--data.stream true --data.window_rows {WINDOW} --method mlora --backbone.embed_dim 4 "
        "--backbone.hidden 8,6 --adapter.temperature 4 --plan.max_epochs 1 --quiet "
        "--plan.min_validation 10 --training.batch_size 128 --training.lr 0.01 --device cpu"
    ).split()
    assert main(["train", str(parts), "--out", str(tmp_path / "a"), *options]) == 0
    assert "Run folder" in capsys.readouterr().out
    config = streamed("mlora", plan={"max_epochs": 1})
    data = load_dataset(parts)
    model = CTRModel(data.schema, config.backbone, config.adapter.as_mlora(), seed=1)
    run = train(
        model, data, out=tmp_path / "b", plan=config.plan, training=config.training,
        reading=DataConfig(stream=True, window_rows=WINDOW),
    )  # fmt: skip
    told = read_tensors(tmp_path / "a" / "backbone.safetensors")[0]
    state = run.model.state()
    assert all(torch.equal(tensor, state[name]) for name, tensor in told.items())
    result = compare(
        str(parts), out=tmp_path / "c", config=config, backbones=["mlp"],
        methods=["base", "mlora"], seeds=[1, 2],
    )  # fmt: skip
    assert len(result["cells"]) == 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_rows(tmp_path: Path):
    """Megabytes above those after imports: 4 million rows of 10 columns, 320 MB as ids."""
    rows, columns = 4_000_000, 10
    peaks = {}
    plain = {**os.environ, "MDLORA_NUMBA": "0"}  # a compiler's memory is not the rows'
    for name in ("make", "true", "false"):
        command = [sys.executable, "-c", _MEMORY, name, str(tmp_path), str(rows), str(columns)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
        peaks[name] = float(done.stdout or 0)
    ids = rows * columns * 8 / 1e6
    assert peaks["true"] < 0.8 * ids  # 0.6 of it, by far the most of it whatever the rows
    assert peaks["false"] > 1.5 * ids


_MEMORY = """
import sys
from pathlib import Path

what, folder, rows, columns = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mdlora.config import (
    BackboneConfig, DataConfig, PlanConfig, RunConfig, TrainingConfig,
)
from mdlora.data import load_dataset
from mdlora.schema import Categorical, Domain, Label, Schema
from mdlora.training import train_config


def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1e3


if what == "make":
    data = folder / "data"
    (data / "train").mkdir(parents=True)
    rng = np.random.default_rng(1)

    def table(n):
        found = {f"c{i}": rng.integers(0, 1000, n) for i in range(columns - 1)}
        found |= {"domain": rng.integers(0, 4, n), "label": rng.integers(0, 2, n)}
        return pa.table(found)

    names = [f"c{i}" for i in range(columns - 1)]
    first = table(100_000)
    schema = Schema.fit(first, [*map(Categorical, names), Domain("domain"), Label("label")])
    (data / "schema.json").write_text(schema.to_json())
    for name in ("validation", "test"):
        pq.write_table(table(1000), data / f"{name}.parquet")
    for part in range(8):
        path = data / "train" / f"part-{part}.parquet"
        pq.write_table(table(rows // 8), path, row_group_size=65_536)
    sys.exit()
stream = what == "true"
config = RunConfig(
    method="base",
    data=DataConfig(
        path=str(folder / "data"), stream=stream, **({"window_rows": 65_536} if stream else {})
    ),
    backbone=BackboneConfig(name="mlp", embed_dim=2, hidden=(4,)),
    plan=PlanConfig(max_epochs=1),
    training=TrainingConfig(batch_size=16_384, device="cpu"),
)
data = load_dataset(folder / "data")
before = peak()
train_config(config, data, folder / what)
print(peak() - before)
"""
