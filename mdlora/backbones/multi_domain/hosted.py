"""Methods that work on another backbone: on what enters it, or on the layers of its tower."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from mdlora.backbones.base import Backbone, Inputs
from mdlora.config import BackboneConfig, check_choice
from mdlora.errors import ConfigError
from mdlora.layers import MLP
from mdlora.types import Embedded

__all__ = ["HostedBackbone", "PerThread", "TowerMethod", "domain_place"]

Known = TypeVar("Known")


def domain_place(inputs: Inputs, method: str) -> int:
    """Where the domain's own field stands.

    Raises:
        ConfigError: there is none, which this method needs.
    """
    if inputs.domain_field is None:
        raise ConfigError(
            f"{method} knows a row's domain by the domain's own field, which the inputs lack: give "
            "Inputs(domain_field=...)."
        )
    return inputs.domain_field


class HostedBackbone(Backbone):
    """A method on a backbone of the registry, its host: the submodule `host`.

    The host is built as any backbone, with the same `hidden` and `dropout` and with own options
    of its own, backbone.options.host.KEY. Its weights are drawn first: with one seed it starts as
    the host alone would.

    Args:
        inputs: what it is built for.
        hidden: as the host has it.
        dropout: as the host has it.
        on: the host's name.
        host: the host's options.

    Raises:
        ConfigError: no backbone is called so, or it is a multi-domain method itself; or the host
            cannot be built, as in `build_backbone`.
    """

    is_multi_domain = True
    tower_option = "backbone.options.host.deep"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int],
        dropout: float,
        on: str = "mlp",
        host: dict[str, Any] | None = None,
    ) -> None:
        from mdlora.backbones.build import build_backbone  # it imports the registry

        super().__init__()
        config = _host_config({"on": on, "host": host}, hidden=tuple(hidden), dropout=dropout)
        with _naming_the_host():
            self.host = build_backbone(config, inputs)
        self.uses_first_order = self.host.uses_first_order
        self.uses_lists = self.host.uses_lists
        targets = self.host.adapter_targets.split(",")
        self.adapter_targets = ",".join(f"host.{pattern.strip()}" for pattern in targets)

    @classmethod
    def idle_settings(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Those that have no effect on the host."""
        from mdlora.backbones.build import idle_settings  # it imports the registry

        config = _host_config(options)
        with _naming_the_host():
            return idle_settings(config)

    @classmethod
    def width_multiple(cls, options: Mapping[str, Any]) -> int:
        """That of the host."""
        from mdlora.backbones.build import width_multiple  # it imports the registry

        config = _host_config(options)
        with _naming_the_host():
            return width_multiple(config)


def _host_config(options: Mapping[str, Any], **settings: Any) -> BackboneConfig:
    from mdlora.backbones.registry import BACKBONES  # it imports this file

    name, own = options["on"], options["host"] or {}
    hosts = sorted(name for name, kind in BACKBONES.items() if not kind.is_multi_domain)
    check_choice("backbone.options.on", name, hosts)
    return BackboneConfig(name=name, options=own, **settings)


@contextmanager
def _naming_the_host() -> Iterator[None]:
    """Errors about the host's options name them as they were given."""
    try:
        yield
    except ConfigError as error:
        own, full = "backbone.options.", "backbone.options.host."
        raise ConfigError(str(error).replace(own, full)) from error


class TowerMethod(HostedBackbone, Generic[Known]):
    """A method that changes what leaves each hidden layer of its host's `tower`.

    `forward` calls `run(x, known)`, where `known` is what the method needs to know of the pass;
    each hidden layer's output, after activation and dropout, is then replaced by
    `change(layer, output, known)`. Forward hooks do this, so the host stays as it is: called
    outside of `run` it computes what it would alone.

    Args:
        inputs: what it is built for.
        hidden: widths of the host's tower.
        dropout: as the host has it.
        on: the host's name.
        host: the host's options.

    Raises:
        ConfigError: as in `HostedBackbone`; or the host has no tower of hidden layers.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int],
        dropout: float,
        on: str = "mlp",
        host: dict[str, Any] | None = None,
    ) -> None:
        self.idle_settings({"on": on, "host": host})
        super().__init__(inputs, hidden=hidden, dropout=dropout, on=on, host=host)
        tower = getattr(self.host, "tower", None)
        if not isinstance(tower, MLP):
            raise self._no_tower(on, "Choose")
        self._passes: PerThread[Known] = PerThread()
        for layer, activation in enumerate(tower.activations):
            activation.register_forward_hook(_Change(self, layer))

    @classmethod
    def idle_settings(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """None.

        Raises:
            ConfigError: the host's options leave it without a tower.
        """
        if "hidden" in super().idle_settings(options):
            remedy = f"Set {cls.tower_option} to true, or choose"
            raise cls._no_tower(options["on"], remedy)
        return ()

    @classmethod
    def _no_tower(cls, on: str, remedy: str) -> ConfigError:
        return ConfigError(
            f"backbone.options.on={on!r} has no tower of hidden layers, which {cls.__name__} "
            f"changes. {remedy} a backbone with one, say 'mlp' or 'wdl'."
        )

    @abstractmethod
    def change(self, layer: int, hidden: Tensor, known: Known) -> Tensor:
        """What follows in place of the output (B, H) of a hidden layer.

        Args:
            layer: which one, from 0.
            hidden: (B, H).
            known: what `run` was given.
        """

    def run(self, x: Embedded, known: Known) -> Tensor:
        """The host's logits (B,), with its hidden layers changed."""
        before = self._passes.value
        self._passes.value = known
        try:
            logits: Tensor = self.host(x)
            return logits
        finally:
            self._passes.value = before

    def changed(self, layer: int, hidden: Tensor) -> Tensor:
        """The layer's output, changed if this thread is in `run`; called by the hooks."""
        known = self._passes.value
        return hidden if known is None else self.change(layer, hidden, known)


class _Change:
    """Forward hook of one hidden layer's activation."""

    def __init__(self, method: TowerMethod[Any], layer: int) -> None:
        self.method = method
        self.layer = layer

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self.method.changed(self.layer, output)


class PerThread(Generic[Known]):
    """A value of each thread, None unless set. Copies start empty."""

    def __init__(self) -> None:
        self._local = threading.local()

    @property
    def value(self) -> Known | None:
        """This thread's value."""
        value: Known | None = getattr(self._local, "value", None)
        return value

    @value.setter
    def value(self, value: Known | None) -> None:
        self._local.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> PerThread[Known]:
        return PerThread()

    def __reduce__(self) -> tuple[type[PerThread[Known]], tuple[()]]:
        return PerThread, ()
