"""Training: a plan's phases one after another, saved so that any stop can be resumed."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from mdlora.config import (
    DataConfig,
    DomainAdapters,
    MLoRA,
    Phase,
    PlanConfig,
    RunConfig,
    held_out_share,
)
from mdlora.data import Dataset, RowCounts
from mdlora.errors import RunError
from mdlora.model import CTRModel
from mdlora.training.batches import PhaseRows, phase_rows
from mdlora.training.environment import describe_environment, pick_device, use_threads
from mdlora.training.interrupts import catch_interrupts
from mdlora.training.judging import check_validation
from mdlora.training.phase import PhaseRunner
from mdlora.training.plan import check_plan, make_plan
from mdlora.training.position import Position
from mdlora.training.progress import Progress, SilentProgress
from mdlora.training.run import Run, load_run
from mdlora.training.run_folder import RunFolder
from mdlora.training.streamed import RowStream, check_streaming
from mdlora.training.weights import read_tensors, save_weights, write_tensors

__all__ = ["Trainer"]


class Trainer:
    """One run: its model, data, folder, and where it is in the plan."""

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        folder: RunFolder,
        model: CTRModel,
        progress: Progress | None,
    ) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.progress = progress or SilentProgress()
        check_streaming(config, data)
        self.device = pick_device(config.training.device)
        self.made_with = describe_environment(config.training.threads, self.device)
        self.model = model.to(self.device)
        self.plan = make_plan(config)
        self.index = 0
        self.runner: PhaseRunner | None = None
        self.saved_at = time.monotonic()

    def start(self, start_from: str | Path | None) -> Run:
        """Train from the beginning, or from where another run ended (see `train_config`)."""
        about = dict(self.made_with)
        about["data"] = self.data.fingerprint()
        if self.config.data.stream:
            self.progress.note("counting the training rows, which stay on disk")
        train = self._train_counts().total
        about["rows"] = {"train": train, "validation": len(self.data.split("validation"))}
        about["parameters"] = {
            name: self.model.num_parameters(name)
            for name in ("embeddings", "backbone", "experts", "gates")
        }
        if self.model.adapted is not None:
            about["ranks"] = {n: r._asdict() for n, r in self.model.adapted.ranks.items()}
        check_plan(self.plan, self.model)
        check_validation(self.data.split("validation"), repr(self.data))
        earlier = None if start_from is None else self._beginning(load_run(start_from))
        self.folder.create(self.config, self.data.schema, self.plan, about)
        if earlier is not None:
            self._take_over(earlier)
        self._save_state(between=True)
        return self._go(None)

    def resume(self, inexact: bool) -> Run:
        """Go on where the run's folder says (see `mdlora.training.resume`)."""
        self.folder.remove_leftovers()
        if not self.folder.state_path.exists():  # stopped before the first checkpoint
            self.folder.truncate_metrics(0)
            return self._go(None)
        tensors, about = read_tensors(self.folder.state_path)
        before, now = about["made_with"], self.made_with
        what = ("mdlora", "torch", "numba", "device", "processor")
        changed = [k for k in what if before.get(k) != now[k]]
        if changed and not inexact:
            was = ", ".join(f"{k} {before.get(k)} (now {now[k]})" for k in changed)
            raise RunError(
                f"{self.folder.path} was running with {was}, so it cannot go on bit for bit. "
                "Restore that, or accept close results with --inexact."
            )
        if about["finished"]:
            return load_run(self.folder.path)
        self.folder.truncate_metrics(about["metrics_size"])
        self.model.load_tensors(_part(tensors, "model."))
        if self.model.adapted is not None:
            self.model.adapted.route_mode = about["route"]
        self.index = about["phase"]
        self.progress.note(f"resuming in phase {self.index + 1} of {len(self.plan)}")
        return self._go(None if about["between"] else (tensors, about))

    def _beginning(self, earlier: Run) -> Run:
        """Refuse a run that is not the first phases of this one."""
        mine, other = self.config, earlier.config
        done = make_plan(other)
        same = (
            done == self.plan[: len(done)]
            and (mine.seed, mine.training) == (other.seed, other.training)
            and _elsewhere(mine.data) == _elsewhere(other.data)
            and _shared_plan(mine.plan) == _shared_plan(other.plan)
            and isinstance(earlier.model, CTRModel)
            and earlier.model.backbone_config == self.model.backbone_config
            and earlier.folder.read_json("env.json")["data"] == self.data.fingerprint()
            and _same_experts(self.model.adapter_config, earlier.model.adapter_config)
        )
        if not same:
            raise RunError(
                f"{earlier.path} is not the beginning of this run: its plan, seed, backbone, "
                "adapters, training settings or data differ. Train without it."
            )
        return earlier

    def _take_over(self, earlier: Run) -> None:
        """Start with the weights of a run whose phases are the first of this plan."""
        own = self.model.state()
        assert isinstance(earlier.model, CTRModel), "a base or adapter run, as _beginning checks"
        self.model.load_tensors({n: t for n, t in earlier.model.state().items() if n in own})
        for line in earlier.metrics():
            self.folder.append({**line, "taken_over": True})
        self.index = len(make_plan(earlier.config))

    def _go(self, saved: tuple[dict[str, Tensor], dict[str, Any]] | None) -> Run:
        with use_threads(self.config.training.threads), catch_interrupts() as interrupt:
            last: dict[str, Tensor] = {}
            while self.index < len(self.plan):
                if interrupt.asked:
                    raise KeyboardInterrupt
                self.runner = self._runner(self.plan[self.index], interrupt)
                if saved is None:
                    self.runner.start()
                else:
                    self._restore(self.runner, *saved)
                    saved = None
                self.runner.run()
                last, self.runner = self.runner.last, None
                self.index += 1
                if self.index < len(self.plan):
                    self._save_state(between=True)
            save_weights(self.model, self.folder.path)
            self.folder.write_domains(self.model, self._train_counts())
            self._save_state(between=True, last=last)
            if interrupt.asked:  # asked too late to stop a step, but whoever called must hear it
                raise KeyboardInterrupt
        self.model.eval()
        return Run(self.folder, self.config, self.model)

    def _runner(self, phase: Phase, interrupt: Any) -> PhaseRunner:
        return PhaseRunner(
            self.model,
            phase,
            self.config,
            self._rows(phase),
            self.data.split("validation"),
            record=self.folder.append,
            progress=self.progress,
            checkpoint=self._checkpoint,
            should_stop=lambda: interrupt.asked,
        )

    def _rows(self, phase: Phase) -> PhaseRows | RowStream:
        if self.config.data.stream:
            return RowStream(self.data, self.config.data.window_rows)
        train = self.data.split("train")
        share = held_out_share(self.config.plan.rows)
        places = phase_rows(train, phase.rows, share, self.config.seed)
        rows = PhaseRows.with_expert(train)
        return rows if len(places) == len(train) else rows.pick(places)

    def _train_counts(self) -> RowCounts:
        if not self.config.data.stream:
            self.data.split("train")  # every phase will want it: read it once, and count that
        return self.data.train_counts

    def _checkpoint(self, force: bool) -> None:
        late = time.monotonic() - self.saved_at >= self.config.training.checkpoint_seconds
        if force or late:
            self._save_state(between=False)
            self.saved_at = time.monotonic()

    def _save_state(self, *, between: bool, last: dict[str, Tensor] | None = None) -> None:
        """Write last/state.safetensors: all that an exact resume needs, in one atomic file."""
        tensors = _named("model.", self.model.state())
        route = "none" if self.model.adapted is None else self.model.adapted.route_mode
        about: dict[str, Any] = {
            "phase": self.index,
            "between": between,
            "finished": last is not None,
            "route": route,
            "last_route": self.plan[-1].route if last is not None else None,
            "metrics_size": self.folder.metrics_size(),
            "made_with": self.made_with,
        }
        if last is not None:
            tensors |= _named("last.", last)
        runner = self.runner
        if not between and runner is not None:
            tensors |= _named("best.", runner.best)
            tensors |= _named("optimizer.", runner.optimizer.tensors())
            tensors |= _named("stop.", runner.stopper.tensors())
            tensors["generator"] = runner.generator.get_state()
            about["position"] = asdict(runner.position)
        write_tensors(self.folder.state_path, tensors, about)

    def _restore(
        self, runner: PhaseRunner, tensors: dict[str, Tensor], about: dict[str, Any]
    ) -> None:
        runner.position = Position(**about["position"])
        runner.optimizer.load_tensors(_part(tensors, "optimizer."))
        runner.stopper.load_tensors(_part(tensors, "stop."))
        runner.generator.set_state(tensors["generator"])
        for name, tensor in _part(tensors, "best.").items():
            runner.best[name].copy_(tensor)
        self.model.load_tensors(_part(tensors, "model."))


def _elsewhere(data: DataConfig) -> DataConfig:
    """How rows are taken, wherever they are: their fingerprint says which they are."""
    return dataclasses.replace(data, path=None)


def _shared_plan(plan: PlanConfig) -> PlanConfig:
    """A plan's settings without those of base-extra alone."""
    return dataclasses.replace(plan, extra_epochs=0)


def _same_experts(mine: DomainAdapters | None, other: DomainAdapters | None) -> bool:
    if other is None:
        return True
    if mine is None or mine.experts_in_a_domain != other.experts_in_a_domain:
        return False
    if type(mine) is type(other):
        return mine == other
    return (
        isinstance(mine, MLoRA)
        and isinstance(other, MLoRA)
        and all(getattr(mine, f.name) == getattr(other, f.name) for f in dataclasses.fields(MLoRA))
    )


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
