"""One phase: steps, evaluations, the stop, the best state, and the proof of what was frozen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mdlora.config import MoEMLoRA, Phase, RunConfig
from mdlora.data import Split
from mdlora.evaluation.statistics import finite
from mdlora.layers import ReLUDropout
from mdlora.model import CTRModel
from mdlora.seeds import derive_seed
from mdlora.training.batches import (
    PhaseRows,
    can_be_unseen,
    epoch_bounds,
    epoch_order,
    hide_values,
    sort_within,
)
from mdlora.training.expert_rows import assign_rows, clusters_of
from mdlora.training.frozen import check_frozen, digest
from mdlora.training.judging import Judge
from mdlora.training.optimizers import PhaseOptimizer, trained_groups
from mdlora.training.progress import Progress
from mdlora.training.stopping import Stopper

__all__ = ["PhaseRunner", "Position"]


@dataclass
class Position:
    """Where in a phase training is: `batch` batches of epoch `epoch` are done."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_rows: float = 0
    """Rows behind `loss_sum`, or the sum of their weights."""
    best_route: str = ""
    frozen: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class PhaseRunner:
    """Runs one phase of a plan on a model.

    Args:
        model: on its device; left with the phase's best weights.
        phase: what to do.
        config: of the run.
        train: the phase's training rows, on the CPU.
        validation: the rows that decide.
        record: takes each line of metrics.
        progress: told of steps.
        checkpoint: called after a step (`force` False, at its own leisure) and after an epoch
            (`force` True).
        should_stop: asked after each step; True ends the phase early with KeyboardInterrupt.
    """

    def __init__(
        self,
        model: CTRModel,
        phase: Phase,
        config: RunConfig,
        train: PhaseRows,
        validation: Split,
        *,
        record: Callable[[dict[str, Any]], None],
        progress: Progress,
        checkpoint: Callable[[bool], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.model, self.phase, self.config = model, phase, config
        self.record, self.progress = record, progress
        self.checkpoint, self.should_stop = checkpoint, should_stop
        self.device = model.embeddings.table.device
        self.dtype = model.embeddings.table.dtype
        self.groups = trained_groups(phase)
        model.train_only(*self.groups)
        self._set_route(phase.route)
        self.alone = phase.route == "own" and phase.train == "experts"
        moe = model.adapter_config if isinstance(model.adapter_config, MoEMLoRA) else None
        self.per_domain = moe.experts_per_domain if moe is not None else 1
        self.clusters = clusters_of(model, moe, config.seed) if moe and self.alone else None
        self.train = self._with_experts(train, moe)
        self.judge = Judge(
            model,
            validation,
            config.training.eval_batch_size,
            config.plan.min_validation,
            self.per_domain if self.alone else None,
            self.clusters,
            f"phase {phase.name!r}, training.lr={phase.lr or config.training.lr:g}",
        )
        self.sorts = (
            "experts" in self.groups
            and phase.route == "own"
            and (self.alone or self.per_domain == 1)
            and self.device.type == "cpu"
        )
        self.by_domain = phase.stop == "by_domain"
        self.num_units = self._num_experts if self.by_domain else 1
        self.optimizer = PhaseOptimizer(model, phase, config.training)
        self.stopper = Stopper(self.num_units, phase.patience)
        self.generator = torch.Generator(device=self.device)
        self.position = Position()
        state = model.state()
        moving = {name for name, p in model.named_parameters() if p.requires_grad}
        if "backbone" in self.groups:
            moving |= {name for name, _ in model.backbone.named_buffers(prefix="backbone")}
        self.moving = sorted(moving)
        self.best = {name: state[name].clone() for name in self.moving}

    @property
    def _num_experts(self) -> int:
        return self.model.adapted.num_experts if self.model.adapted is not None else 0

    def _with_experts(self, train: PhaseRows, moe: MoEMLoRA | None) -> PhaseRows:
        train = replace(train, time=None)  # it has chosen the rows, and is of no more use
        if self.alone:
            places, expert = assign_rows(
                train.domain,
                train.categories,
                moe,
                self.clusters,
                num_domains=self.model.schema.num_domains,
                seed=self.config.seed,
            )
            train = replace(train if places is None else train.pick(places), expert=expert)
        rows = train.to(self.device)
        weight = None if rows.weight is None else rows.weight.to(self.dtype)
        return replace(rows, label=rows.label.to(self.dtype), weight=weight)

    def _set_route(self, route: str) -> None:
        if self.model.adapted is not None:
            self.model.adapted.route_mode = route  # type: ignore[assignment]

    def start(self) -> None:
        """Score the starting state as epoch 0 and note what is frozen."""
        self.position.best_route = self.phase.route
        state = self.model.state()
        self.position.frozen = {n: digest(t) for n, t in state.items() if n not in self.best}
        if self.phase.train == "gate":  # the state before the gate is a candidate too
            self._set_route("own")
            self._evaluate(0, "own")
            self._set_route("gate")
        self._evaluate(0, self.phase.route)
        self.stopper.bad.zero_()  # candidates of epoch 0 use up no patience
        self.checkpoint(True)

    def run(self) -> None:
        """Train until the stop; the model ends with the best weights."""
        every = self.config.plan.eval_every_steps
        dropouts = [m for m in self.model.modules() if isinstance(m, ReLUDropout)]
        for module in dropouts:
            module.generator = self.generator
        try:
            while self.position.epoch < self.phase.max_epochs and not self._all_stopped:
                self._epoch(every)
        finally:
            for module in dropouts:
                module.generator = None
        self._finish()

    @property
    def _all_stopped(self) -> bool:
        return bool(self.stopper.stopped.all())

    def _seed(self, what: str) -> int:
        return derive_seed(self.config.seed, what, self.phase.name, self.position.epoch)

    def _epoch(self, every: int | None) -> None:
        position = self.position
        order, bounds = epoch_bounds(
            self.train.domain.cpu(),
            epoch_order(len(self.train.domain), self._seed("order")),
            self.config.training.batch_size,
            by_domain=self.phase.batches == "by_domain",
            seed=self._seed("batches"),
        )
        rows = self._sorted(self._hide(self.train.pick(order.to(self.device))), bounds)
        if position.batch == 0:
            self.generator.manual_seed(self._seed("dropout"))
            position.loss_sum, position.loss_rows = 0.0, 0
        self.progress.phase(
            self.phase.name,
            position.epoch + 1,
            len(order),
            sum(e - s for s, e in bounds[: position.batch]),
        )
        kept = self._running_rows(rows, bounds)
        self.model.training_mode(self.groups)
        started = time.perf_counter()
        for start, end in bounds[position.batch :]:
            self._step(rows, kept, start, end)
            position.batch += 1
            position.step += 1
            self.progress.advance(end - start)
            if every and position.step % every == 0:
                position.seconds += time.perf_counter() - started
                self._evaluate(position.epoch + position.batch / len(bounds), self.phase.route)
                started = time.perf_counter()
                if self._all_stopped:
                    break
                kept = self._running_rows(rows, bounds)
                self.model.training_mode(self.groups)
            self._after_step()
        position.seconds += time.perf_counter() - started
        position.epoch, position.batch = position.epoch + 1, 0
        last = position.epoch == self.phase.max_epochs
        scored = every is not None and position.step % every == 0
        if not every or (last and not scored and not self._all_stopped):
            self._evaluate(position.epoch, self.phase.route)
        self.checkpoint(True)

    def _after_step(self) -> None:
        if self.should_stop():
            self.checkpoint(True)
            raise KeyboardInterrupt
        self.checkpoint(False)

    def _hide(self, rows: PhaseRows) -> PhaseRows:
        """Hide a share of values, so that the out-of-vocabulary rows learn."""
        rate = self.config.data.oov_rate
        if not rate or "embeddings" not in self.groups:
            return rows
        return hide_values(rows, self.model.schema, rate, self._seed("oov"))

    def _sorted(self, rows: PhaseRows, bounds: Sequence[tuple[int, int]]) -> PhaseRows:
        """Each batch's rows sorted by what routes them, where experts learn on their own routes.

        A batch's loss does not depend on the order of its rows, but adapters are faster on runs.
        """
        if not self.sorts:
            return rows
        key = rows.domain if rows.expert is None else rows.expert
        return rows.pick(sort_within(key, bounds))

    def _running_rows(self, rows: PhaseRows, bounds: Any) -> tuple[PhaseRows, Tensor] | None:
        """The rows whose expert still learns, and the number of them before each row.

        Rows of unknown domains and of stopped experts are skipped; batches keep their bounds and
        their loss scale, so that an expert's steps do not depend on when others stop.
        """
        if rows.expert is None:
            return None
        running = rows.expert >= 0
        if self.by_domain:
            stopped = self.stopper.stopped.to(self.device)
            running &= ~stopped[rows.expert.clamp(min=0)]
        if bool(running.all()):
            return None
        before = torch.zeros(len(running) + 1, dtype=torch.int64)
        before[1:] = running.cumsum(0).cpu()
        return rows.pick(running.nonzero().squeeze(1)), before

    def _step(
        self, rows: PhaseRows, kept: tuple[PhaseRows, Tensor] | None, start: int, end: int
    ) -> None:
        size = _weight_of(rows, start, end) or 1  # rows of no weight have no loss either
        if kept is not None:
            rows, before = kept
            start, end = int(before[start]), int(before[end])
            if start == end:
                return
        batch = rows.batch(start, end)
        expert = None if rows.expert is None else rows.expert[start:end]
        self.optimizer.before_forward(batch)
        logits = self.model(batch, expert, sorted_rows=self.sorts)
        assert batch.label is not None
        loss = F.binary_cross_entropy_with_logits(
            logits, batch.label, weight=batch.weight, reduction="sum"
        )
        self.optimizer.zero_grad()
        torch.autograd.backward(loss / size)
        self.optimizer.step(batch, self._active())
        self.position.loss_sum += float(loss.detach())
        self.position.loss_rows += _weight_of(rows, start, end)

    def _active(self) -> Tensor | None:
        """Which experts have rows in the batch: (K,) bool, or None for all."""
        if "experts" not in self.groups or self.model.adapted is None:
            return None
        return self.model.adapted.experts_used()

    def _evaluate(self, epoch: float, route: str) -> None:
        self.optimizer.settle()
        figures = self.judge.figures()
        first = figures[0][0]
        waucs = [part["wauc"] for part, _ in figures if math.isfinite(part["wauc"])]
        wauc = sum(waucs) / len(waucs) if waucs else None
        if self.by_domain:
            values = self.judge.units(figures).values
        else:
            metric = [[part[self.config.plan.metric] for part, _ in figures]]
            values = torch.tensor(metric, dtype=torch.float64).mean(1)
        better = self.stopper.update(values, math.floor(epoch))
        self._keep_best(better)
        if bool(better.any()):
            self.position.best_route = route
        loss = self.position.loss_sum / self.position.loss_rows if self.position.loss_rows else None
        line = {
            "phase": self.phase.name,
            "epoch": epoch,
            "step": self.position.step,
            "route": route,
            "train_loss": loss,
            "wauc": wauc,
            "mean_auc": finite(first["mean_auc"]),
            "log_loss": finite(first["log_loss"]),
            "improved": int(better.sum()),
            "running": int((~self.stopper.stopped).sum()),
            "seconds": round(self.position.seconds, 3),
            "auc": first["auc"],
        }
        self.record(line)
        trained = "" if loss is None else f", train loss {loss:.4f}"
        mark = " *" if bool(better.any()) else ""
        without = "" if route == self.phase.route else f" (route {route}, before this phase)"
        shown = "–" if wauc is None else f"{100 * wauc:.3f}"
        self.progress.note(
            f"{self.phase.name} epoch {epoch:g}{without}: validation WAUC {shown}{trained}{mark}"
        )

    @torch.no_grad()
    def _keep_best(self, better: Tensor) -> None:
        if not bool(better.any()):
            return
        state = self.model.state()
        for name, kept in self.best.items():
            if self.by_domain:
                index = better.nonzero().squeeze(1).to(kept.device)
                kept.index_copy_(0, index, state[name].index_select(0, index))
            else:
                kept.copy_(state[name])

    def _finish(self) -> None:
        self.optimizer.settle()
        check_frozen(self.position.frozen, self.model.state(), self.phase.name)
        self.last = {name: self.model.state()[name].clone() for name in self.moving}
        self.model.load_tensors(self.best)
        self._set_route(self.position.best_route)
        if "embeddings" in self.groups:
            schema = self.model.schema
            unseen = (self.train.categories == 0).any(0).tolist()
            unseen += [bool((part.values == 0).any()) for part in self.train.lists]
            hidden = [c and self.config.data.oov_rate > 0 for c in can_be_unseen(schema)]
            learned = [u or h for u, h in zip(unseen, hidden, strict=True)]
            self.model.embeddings.fill_unlearned(learned)
        self.model.requires_grad_(False)
        figures = self.judge.figures()
        units = self.judge.units(figures) if self.by_domain else None
        self.record(
            {
                "phase": self.phase.name,
                "end": True,
                "epochs": self.position.epoch,
                "best_epochs": self.stopper.best_epoch.tolist(),
                "route": self.position.best_route,
                "judged_by_log_loss": [] if units is None else self.judge.names(units.by_log_loss),
                "judged_by_mean": [] if units is None else self.judge.names(units.by_mean),
                "seconds": round(self.position.seconds, 3),
                **self.judge.whole(figures),
            }
        )


def _weight_of(rows: PhaseRows, start: int, end: int) -> float:
    """How many rows a slice holds, or the sum of their weights."""
    return end - start if rows.weight is None else float(rows.weight[start:end].sum())
