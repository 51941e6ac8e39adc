"""One phase: steps, evaluations, the stop, the best state, and the proof of what was frozen."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mdlora.compiled import has_numba
from mdlora.config import MoEMLoRA, Phase, RunConfig
from mdlora.data import Split
from mdlora.evaluation.statistics import finite
from mdlora.layers import Dropout
from mdlora.model import CTRModel
from mdlora.training.batches import PhaseRows, can_be_unseen
from mdlora.training.expert_rows import assign_rows, clusters_of
from mdlora.training.frozen import check_frozen, digest
from mdlora.training.judging import Judge
from mdlora.training.optimizers import PhaseOptimizer, trained_groups
from mdlora.training.position import Position, clocks
from mdlora.training.progress import Progress
from mdlora.training.source import Assign, RowRules, Step
from mdlora.training.stopping import Stopper
from mdlora.training.streamed import RowStream, open_source

__all__ = ["PhaseRunner"]

_SORTED_FROM = 2_048
"""Rows of a batch from which compiled kernels gain more by sorted rows than sorting takes.

They bring the rows of an adapter together by themselves, but then cannot take a batch in parts.
"""


class PhaseRunner:
    """Runs one phase of a plan on a model.

    Args:
        model: on its device; left with the phase's best weights.
        phase: what to do.
        config: of the run.
        train: the phase's training rows, on the CPU, or a stream of them from disk.
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
        train: PhaseRows | RowStream,
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
            and (config.training.batch_size >= _SORTED_FROM or not has_numba())
        )
        rules = RowRules(
            phase=phase,
            config=config,
            schema=model.schema,
            device=self.device,
            dtype=self.dtype,
            assign=self._assign(moe) if self.alone else None,
            hides=config.data.oov_rate > 0 and "embeddings" in self.groups,
            sorts=self.sorts,
        )
        self.source = open_source(train, rules)
        self.seed = rules.seed
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

    def _assign(self, moe: MoEMLoRA | None) -> Assign:
        return partial(
            assign_rows,
            config=moe,
            clusters=self.clusters,
            num_domains=self.model.schema.num_domains,
            seed=self.config.seed,
        )

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
        dropouts = [m for m in self.model.modules() if isinstance(m, Dropout)]
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

    def _epoch(self, every: int | None) -> None:
        position = self.position
        epoch = self.source.epoch(position.epoch, position.batch)
        if position.batch == 0:
            self.generator.manual_seed(self.seed("dropout", position.epoch))
            position.loss_sum, position.loss_rows = 0.0, 0
        self.progress.phase(self.phase.name, position.epoch + 1, epoch.num_rows, epoch.rows_done)
        epoch.leave_out(self._stopped_experts)
        self.model.training_mode(self.groups)
        started = clocks()
        with closing(epoch.steps()) as steps:
            for step in steps:
                self._step(step)
                position.batch += 1
                position.step += 1
                self.progress.advance(step.rows)
                if every and position.step % every == 0:
                    position.count_time(started)
                    self._evaluate(
                        position.epoch + position.batch / epoch.num_batches, self.phase.route
                    )
                    started = clocks()
                    if self._all_stopped:
                        break
                    epoch.leave_out(self._stopped_experts)
                    self.model.training_mode(self.groups)
                self._after_step()
        position.count_time(started)
        position.epoch, position.batch = position.epoch + 1, 0
        last = position.epoch == self.phase.max_epochs
        scored = every is not None and position.step % every == 0
        if not every or (last and not scored and not self._all_stopped):
            self._evaluate(position.epoch, self.phase.route)
        self.checkpoint(True)

    @property
    def _stopped_experts(self) -> Tensor | None:
        return self.stopper.stopped if self.by_domain else None

    def _after_step(self) -> None:
        if self.should_stop():
            self.checkpoint(True)
            raise KeyboardInterrupt
        self.checkpoint(False)

    def _step(self, step: Step) -> None:
        batch = step.batch
        if batch is None:
            return
        self.optimizer.before_forward(batch)
        logits = self.model(batch, step.expert, sorted_rows=self.sorts)
        assert batch.label is not None
        loss = F.binary_cross_entropy_with_logits(
            logits, batch.label, weight=batch.weight, reduction="sum"
        )
        self.optimizer.zero_grad()
        extra = self.model.backbone.extra_loss()
        torch.autograd.backward(loss / step.size if extra is None else loss / step.size + extra)
        self.optimizer.step(batch, self._active())
        self.position.loss_sum += float(loss.detach())
        self.position.loss_rows += step.learned

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
            **self.position.times(),
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
            can_be = can_be_unseen(self.model.schema)
            hidden = [can and self.config.data.oov_rate > 0 for can in can_be]
            learned = [u or h for u, h in zip(self.source.holds_unseen, hidden, strict=True)]
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
                **self.position.times(),
                **self.judge.whole(figures),
            }
        )
