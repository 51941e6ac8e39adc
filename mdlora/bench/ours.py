"""Our own training loop, evaluation left out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from mdlora.bench.timing import Epoch
from mdlora.config import BackboneConfig, MLoRA, MoEMLoRA, Phase, RunConfig, TrainingConfig
from mdlora.data import Rows, Split
from mdlora.model import CTRModel
from mdlora.schema import Schema
from mdlora.training import SilentProgress
from mdlora.training.batches import PhaseRows
from mdlora.training.phase import PhaseRunner

__all__ = ["PHASES", "OurTraining"]

PHASES: dict[str, tuple[type[MLoRA] | None, Phase]] = {
    "base": (None, Phase(name="backbone", train="backbone", route="none", max_epochs=1)),
    "mlora finetune": (
        MLoRA,
        Phase(name="finetune", train="experts", route="own", stop="by_domain", max_epochs=1),
    ),
    "mlora joint": (MLoRA, Phase(name="joint", train="all", route="own", max_epochs=1)),
    "moe-mlora gate": (MoEMLoRA, Phase(name="gate", train="gate", route="gate", max_epochs=1)),
}
"""The adapters and the phase behind each step that is measured."""


class _Epochs(PhaseRunner):
    """A phase without its evaluations, one epoch a call."""

    def _evaluate(self, epoch: float, route: str) -> None:
        """Nothing."""

    def _finish(self) -> None:
        """Nothing."""

    def one_more(self) -> None:
        """Train an epoch."""
        self.phase = replace(self.phase, max_epochs=self.position.epoch + 1)
        self.run()

    def one_more_settled(self) -> None:
        """Train an epoch, and bring all table rows up to date, as an evaluation needs them."""
        self.one_more()
        self.optimizer.settle()


class OurTraining:
    """A model and its rows, ready for epochs: shuffle, batches and steps, nothing else.

    Args:
        step: a name in `PHASES`.
        backbone: a backbone's name, with the protocol's settings.
        schema: of the rows.
        rows: the training rows.
        training: batch size, optimizer; its threads and device are not looked at.
        adapter: in place of the step's own with default settings.
    """

    def __init__(
        self,
        step: str,
        backbone: str,
        schema: Schema,
        rows: PhaseRows,
        training: TrainingConfig | None = None,
        adapter: MLoRA | None = None,
    ) -> None:
        kind, phase = PHASES[step]
        adapter = adapter or (kind() if kind else None)
        config = RunConfig(
            method="base" if adapter is None else "mlora",
            backbone=BackboneConfig(name=backbone),
            training=replace(training or TrainingConfig(), device="cpu"),
        )
        model = CTRModel(schema, config.backbone, adapter)
        self._rows, self._batch_size = len(rows), config.training.batch_size
        self.runner = _Epochs(
            model,
            phase,
            config,
            rows,
            _one_row(rows),
            record=_ignore,
            progress=SilentProgress(),
            checkpoint=_ignore,
            should_stop=lambda: False,
        )

    def touch_state(self) -> None:
        """Write to all of the optimizer's state that is there.

        The system gives memory page by page when it is first written to: large tables would be
        charged for that step by step.
        """
        for tensor in self.runner.optimizer.tensors().values():
            tensor.add_(0)

    @property
    def epoch(self) -> Epoch:
        """An epoch of steps."""
        return Epoch(self.runner.one_more, self._rows, self._batch_size)

    @property
    def settled_epoch(self) -> Epoch:
        """An epoch, after which the weights are as an evaluation needs them."""
        return Epoch(self.runner.one_more_settled, self._rows, self._batch_size)


def _one_row(rows: PhaseRows) -> Split:
    """Validation rows that nobody looks at."""
    one = rows.slice(0, 1)
    given = {f.name: getattr(one, f.name) for f in fields(Rows)}
    return Split(**given, name="validation", oracle=None, unseen={})


def _ignore(_: Any) -> None:
    """Records and checkpoints are no part of a step."""
