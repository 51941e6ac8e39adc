from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mdlora.config import METHODS, Phase, RunConfig
from mdlora.data import Dataset, Split
from mdlora.errors import ConfigError, FrozenTensorChanged, RunError
from mdlora.evaluation.scoring import score_rows
from mdlora.metrics import grouped_auc, grouped_log_loss, weighted_auc
from mdlora.model import CTRModel
from mdlora.training.batches import PhaseRows
from mdlora.training.build import build_model
from mdlora.training.optimizers import trained_groups
from mdlora.training.phase import PhaseRunner
from mdlora.training.plan import check_plan, make_plan
from mdlora.training.progress import SilentProgress
from mdlora.types import Batch

TinyConfig = Callable[..., RunConfig]

# What may move in a phase; everything else must not, to the last bit.
MOVES: dict[str, tuple[str, ...]] = {
    "backbone": ("embeddings.", "backbone."),
    "extra": ("embeddings.", "backbone."),
    "finetune": ("backbone.tower.linears.",),
    "experts": ("adapted.banks.",),
    "gate": ("adapted.gates.",),
    "joint": ("embeddings.", "backbone.", "adapted."),
}
FIXED = ("embeddings.offsets", "prior")  # buffers that never learn


def runner_of(
    model: CTRModel, phase: Phase, config: RunConfig, data: Dataset, lines: list[Any] | None = None
) -> PhaseRunner:
    train = data.split("train")
    return PhaseRunner(
        model, phase, config, PhaseRows(train.categories, train.domain, train.label),
        data.split("validation"), record=([] if lines is None else lines).append,
        progress=SilentProgress(), checkpoint=lambda _: None, should_stop=lambda: False,
    )  # fmt: skip


def snapshot(model: CTRModel) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in model.state().items()}


def phases(
    config: RunConfig, data: Dataset, lines: list[Any] | None = None
) -> Iterator[tuple[Phase, CTRModel, PhaseRunner]]:
    """Run a plan phase by phase; yields before each `start`, then runs it."""
    model = build_model(config, data.schema)
    for phase in make_plan(config):
        runner = runner_of(model, phase, config, data, lines)
        yield phase, model, runner
        if not hasattr(runner, "last"):
            runner.start()
            runner.run()


@pytest.mark.parametrize("how", ["dense", "catch_up"])
@pytest.mark.parametrize("method", METHODS)
def test_frozen_tensors_are_bit_identical_between_phases(
    method: str, how: str, tiny_data: Dataset, tiny_config: TinyConfig
):
    config = tiny_config(
        method, adapter={"experts_per_domain": 2}, training={"embedding_optimizer": how, "lr": 0.05}
    )
    for phase, model, runner in phases(config, tiny_data):
        before = snapshot(model)
        runner.start()
        runner.run()
        moved = {name for name, t in runner.last.items() if not torch.equal(t, before[name])}
        after = snapshot(model)
        allowed = MOVES[phase.name]
        for name in before:
            free = name.startswith(allowed) and not name.endswith(FIXED)
            if phase.name == "joint" and method == "mlora-joint":
                assert "gates" not in name
            assert free or torch.equal(before[name], after[name]), name
        assert moved, "nothing learned at all"
        assert all(name.startswith(allowed) for name in moved), moved
        for prefix in allowed:
            assert any(name.startswith(prefix) for name in moved), prefix


def leaves_of(loss: Tensor) -> set[int]:
    """ids of the tensors whose gradients the graph would compute."""
    seen, found, queue = set(), set(), [loss.grad_fn]
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        queue += [following for following, _ in node.next_functions]
    return found


@pytest.mark.parametrize("how", ["dense", "lazy"])
@pytest.mark.parametrize("gate", ["domain", "input"])
@pytest.mark.parametrize("method", METHODS)
def test_no_gradient_of_a_frozen_tensor_is_computed(
    method: str, gate: str, how: str, tiny_data: Dataset, tiny_config: TinyConfig
):
    config = tiny_config(method, adapter={"gate": gate}, training={"embedding_optimizer": how})
    model = build_model(config, tiny_data.schema)
    train = tiny_data.split("train")
    batch = Batch(train.categories[:300], train.domain[:300])
    for phase in make_plan(config):
        runner = runner_of(model, phase, config, tiny_data)
        model.training_mode(trained_groups(phase))
        of_rows = runner.source.rows.expert
        expert = None if of_rows is None else of_rows[:300]
        loss = model(batch, expert).square().sum()
        learns = {id(p) for g in runner.groups for p in model.group(g)}
        assert leaves_of(loss) == learns
        loss.backward()
        for name, p in model.named_parameters():
            assert (p.grad is not None) == (id(p) in learns), name
        model.zero_grad()


def figures(model: CTRModel, split: Split) -> tuple[float, Tensor, Tensor]:
    logits = score_rows(model, split)
    grouped = grouped_auc(logits, split.label, split.domain, 4)
    return (
        weighted_auc(grouped),
        grouped.auc[1:],
        grouped_log_loss(logits, split.label, split.domain, 4)[1:],
    )


@pytest.mark.parametrize("lr", [0.01, 3.0])
@pytest.mark.parametrize("method", METHODS)
def test_no_phase_ends_worse_on_validation_than_it_began(
    method: str, lr: float, tiny_data: Dataset, tiny_config: TinyConfig
):
    # Domains have 190 to 60 validation rows: min_validation sets some by AUC, some by log loss.
    validation = tiny_data.split("validation")
    assert not any(validation.unseen.values())  # no out-of-vocabulary row is filled in at the end
    config = tiny_config(
        method, training={"lr": lr}, plan={"max_epochs": 3, "min_validation": 25, "patience": 2}
    )
    got_worse = False
    lines: list[Any] = []
    for phase, model, runner in phases(config, tiny_data, lines):
        if phase.name == "gate":
            model.adapted.route_mode = "own"
        before = figures(model, validation)
        model.adapted and runner._set_route(phase.route)
        runner.start()
        runner.run()
        after = figures(model, validation)
        if phase.stop == "together":
            assert after[0] >= before[0]
        else:
            end = lines[-1]
            by_loss = [n in end["judged_by_log_loss"] for n in tiny_data.schema.domain_names]
            assert any(by_loss)
            assert not all(by_loss)
            for d, loss in enumerate(by_loss):
                if loss:
                    assert after[2][d] <= before[2][d] + 1e-9
                else:
                    assert after[1][d] >= before[1][d]
        model.load_tensors(runner.last)
        last = figures(model, validation)
        model.load_tensors(runner.best)
        got_worse |= last[0] < after[0]
    assert got_worse or lr < 1  # at a wild learning rate the last weights are not the best


def test_the_state_before_the_gate_is_a_candidate(tiny_data: Dataset, tiny_config: TinyConfig):
    """Own routes and the fresh gate are both scored as epoch 0, and the better one is kept."""
    config = tiny_config("moe-mlora", adapter={"gate_init": "uniform"}, plan={"max_epochs": 0})
    model = build_model(config, tiny_data.schema)
    kept = set()
    for seed in range(8):
        make = torch.Generator().manual_seed(seed)
        for p in model.group("experts"):
            p.data = torch.randn(p.shape, generator=make)
        lines: list[Any] = []
        runner = runner_of(model, make_plan(config)[2], config, tiny_data, lines)
        wauc = {}
        for route in ("own", "gate"):
            model.adapted.route_mode = route
            wauc[route] = figures(model, tiny_data.split("validation"))[0]
        runner.start()
        runner.run()
        own, gate, end = lines
        assert (own["route"], own["wauc"]) == ("own", wauc["own"])
        assert (gate["route"], gate["wauc"]) == ("gate", wauc["gate"])
        best = "gate" if wauc["gate"] > wauc["own"] else "own"
        assert model.adapted.route_mode == end["route"] == best
        assert end["wauc"] == max(wauc.values())
        kept.add(best)
    assert kept == {"own", "gate"}


def test_a_gate_worse_than_own_routes_at_the_start_still_learns(
    tiny_data: Dataset, tiny_config: TinyConfig
):
    """The two figures of epoch 0 must not use up the patience."""
    config = tiny_config("moe-mlora", adapter={"gate_init": "uniform"}, plan={"patience": 1})
    model = build_model(config, tiny_data.schema)
    lines: list[Any] = []
    runner = runner_of(model, make_plan(config)[2], config, tiny_data, lines)
    scores = iter([0.9, 0.6, 0.7, 0.8])  # own, gate, then epochs 1 and 2
    score = runner.judge._score

    def told(which: int | None) -> Any:
        figures, known = score(which)
        return {**figures, "wauc": next(scores, 0.5)}, known

    runner.judge._score = told
    runner.start()
    assert not bool(runner.stopper.stopped.any())
    runner.run()
    assert [line["epoch"] for line in lines if "end" not in line] == [0, 0, 1]
    assert model.adapted.route_mode == "own"


def test_each_experts_best_weights_are_kept_each_on_its_own(
    tiny_data: Dataset, tiny_config: TinyConfig
):
    config = tiny_config("mlora", plan={"max_epochs": 3, "patience": 3, "min_validation": 1})
    model = build_model(config, tiny_data.schema)
    runner = runner_of(model, make_plan(config)[1], config, tiny_data)
    told = iter([[0.5, 0.5, 0.5], [0.6, 0.4, 0.5], [0.5, 0.9, 0.4], [0.7, 0.8, 0.4]])
    saved = []
    score = runner.judge._score

    def scripted(which: int | None) -> Any:
        figures, (auc, *rest) = score(which)
        values = next(told, None)
        saved.append(snapshot(model))
        return figures, (auc if values is None else torch.tensor(values), *rest)

    runner.judge._score = scripted
    runner.start()
    runner.run()
    # Best epochs by hand: domain 1 at epoch 3, domain 2 at epoch 2, domain 3 at epoch 0.
    assert runner.stopper.best_epoch.tolist() == [3, 2, 0]
    state = snapshot(model)
    for name in runner.moving:
        for k, epoch in enumerate((3, 2, 0)):
            assert torch.equal(state[name][k], saved[epoch][name][k])
        assert not torch.equal(saved[3][name][1], saved[2][name][1])


def test_an_expert_that_has_stopped_stands_still(tiny_data: Dataset, tiny_config: TinyConfig):
    config = tiny_config("mlora", plan={"max_epochs": 4, "patience": 1, "min_validation": 1})
    model = build_model(config, tiny_data.schema)
    runner = runner_of(model, make_plan(config)[1], config, tiny_data)
    told = iter([[0.5] * 3, [0.6, 0.4, 0.6], [0.7, 0.9, 0.5], [0.8, 0.9, 0.9], [0.9, 0.9, 0.9]])
    saved = []
    score = runner.judge._score

    def scripted(which: int | None) -> Any:
        figures, (auc, *rest) = score(which)
        values = next(told, None)
        saved.append((snapshot(model), runner.optimizer.bank.steps.clone()))
        return figures, (auc if values is None else torch.tensor(values), *rest)

    runner.judge._score = scripted
    runner.start()
    runner.run()
    for name in runner.moving:
        weights = [state[name] for state, _ in saved]
        assert torch.equal(weights[1][1], weights[4][1])  # domain 2 stopped after epoch 1
        assert torch.equal(weights[2][2], weights[4][2])  # domain 3 after epoch 2
        for epoch in range(4):
            assert not torch.equal(weights[epoch][0], weights[epoch + 1][0])
    steps = saved[4][1]
    assert steps[0] > steps[2] > steps[1] > 0


def test_an_experts_steps_do_not_depend_on_when_others_stop(
    tiny_data: Dataset, tiny_config: TinyConfig
):
    config = tiny_config(
        "mlora",
        backbone={"dropout": 0.0},
        plan={"max_epochs": 3, "patience": 1, "min_validation": 1},
    )
    ends = []
    for others in (0.1, 0.9):  # domains 2 and 3 stop after the first epoch, or not at all
        model = build_model(config, tiny_data.schema).double()
        runner = runner_of(model, make_plan(config)[1], config, tiny_data)
        told = iter([[0.5] * 3, [0.6, others, others], [0.7, others + 0.01, others + 0.01]])
        score = runner.judge._score

        def scripted(which: int | None, score: Any = score, told: Any = told) -> Any:
            figures, (auc, *rest) = score(which)
            values = next(told, None)
            return figures, (auc if values is None else torch.tensor(values), *rest)

        runner.judge._score = scripted
        runner.start()
        runner.run()
        ends.append((runner.last, runner.optimizer.bank.steps.tolist()))
    (stopped, few), (running, many) = ends
    assert few[0] == many[0]
    assert few[1] < many[1]
    for name in stopped:
        torch.testing.assert_close(stopped[name][0], running[name][0], rtol=1e-11, atol=1e-13)


def test_a_frozen_tensor_that_moves_is_caught_and_named(
    tiny_data: Dataset, tiny_config: TinyConfig
):
    config = tiny_config("mlora")
    model = build_model(config, tiny_data.schema)
    runner = runner_of(model, make_plan(config)[1], config, tiny_data)
    runner.start()
    with torch.no_grad():
        bias = model.backbone.head.bias
        bias.copy_(torch.nextafter(bias, bias + 1))  # one bit
    with pytest.raises(
        FrozenTensorChanged, match=r"Phase 'experts' had frozen backbone\.head\.bias"
    ):
        runner.run()


def test_running_statistics_of_a_frozen_backbone_are_watched_too(
    tiny_data: Dataset, tiny_config: TinyConfig
):
    config = tiny_config("mlora")
    model = build_model(config, tiny_data.schema)
    model.backbone.tower.activations[0] = nn.Sequential(nn.BatchNorm1d(8), nn.ReLU())
    start = snapshot(model)
    runner = runner_of(model, make_plan(config)[1], config, tiny_data)
    runner.start()
    runner.run()  # the phase itself leaves them alone
    name = "backbone.tower.activations.0.0.running_mean"
    assert torch.equal(snapshot(model)[name], start[name])
    runner = runner_of(model, make_plan(config)[1], config, tiny_data)
    runner.start()
    model.state()[name].add_(1)
    with pytest.raises(FrozenTensorChanged, match="running_mean"):
        runner.run()
    # In the backbone's own phase they learn.
    runner = runner_of(model, make_plan(config)[0], config, tiny_data)
    runner.start()
    runner.run()
    assert not torch.equal(runner.last[name], start[name])


@contextmanager
def same_generators() -> Iterator[None]:
    import numpy as np

    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def test_training_leaves_the_processes_generators_alone(
    tiny_data: Dataset, tiny_config: TinyConfig
):
    config = tiny_config(
        "moe-mlora", data={"oov_rate": 0.1}, backbone={"dropout": 0.5},
        adapter={"experts_per_domain": 2, "expert_rows": "clusters:item_id"},
    )  # fmt: skip
    with same_generators():
        for _ in phases(config, tiny_data):
            pass


def test_training_that_diverges_says_so(tiny_data: Dataset, tiny_config: TinyConfig):
    config = tiny_config("base")
    model = build_model(config, tiny_data.schema)
    runner = runner_of(model, make_plan(config)[0], config, tiny_data)
    runner.start()
    with torch.no_grad():
        model.backbone.head.bias.fill_(float("nan"))
    with pytest.raises(RunError, match=r"diverged in phase 'backbone'.*training\.lr=0\.01"):
        runner.run()


def test_a_route_without_adapters_is_refused(tiny_data: Dataset, tiny_config: TinyConfig):
    model = build_model(tiny_config("base"), tiny_data.schema)
    own = Phase(name="x", train="backbone", route="own")
    with pytest.raises(ConfigError, match="route 'own' but the model has no adapters"):
        check_plan([own], model)
    gate = Phase(name="x", train="gate", route="gate")
    with pytest.raises(ConfigError, match="route 'gate' but the model has no gate"):
        check_plan([gate], build_model(tiny_config("mlora"), tiny_data.schema))


@pytest.mark.parametrize("rows", ["random", "bootstrap", "clusters:user_id"])
def test_every_way_of_sharing_rows_trains_every_expert(
    rows: str, tiny_data: Dataset, tiny_config: TinyConfig
):
    config = tiny_config("moe-mlora", adapter={"experts_per_domain": 2, "expert_rows": rows})
    model = build_model(config, tiny_data.schema)
    before = snapshot(model)
    runner = runner_of(model, make_plan(config)[1], config, tiny_data)
    runner.start()
    runner.run()
    for name in runner.moving:
        for k in range(6):
            assert not torch.equal(runner.last[name][k], before[name][k])


def test_by_domain_batches_take_more_and_smaller_steps(tiny_data: Dataset, tiny_config: TinyConfig):
    steps = {}
    for how in ("mixed", "by_domain"):
        config = tiny_config("mlora", plan={"batches": how, "max_epochs": 1})
        model = build_model(config, tiny_data.schema)
        runner = runner_of(model, make_plan(config)[1], config, tiny_data)
        runner.start()
        runner.run()
        steps[how] = (runner.position.step, runner.optimizer.bank.steps.tolist())
    sizes = torch.bincount(tiny_data.split("train").domain)[1:].tolist()
    total = sum(sizes)
    assert steps["mixed"][0] == -(-total // 128)
    assert steps["by_domain"] == (
        sum(-(-size // 128) for size in sizes),
        [-(-size // 128) for size in sizes],
    )
