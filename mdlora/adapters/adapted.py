"""A module with adapters on its linear layers, and the way in for domain ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mdlora.adapters.bank import make_bank
from mdlora.adapters.checks import check_layers
from mdlora.adapters.domain_input import DomainInput
from mdlora.adapters.gate import Gate
from mdlora.adapters.hooks import AddUpdate, BeginPass, EndPass, TakeOver
from mdlora.adapters.norms import hold_statistics, release_statistics
from mdlora.adapters.rank import RankChoice, check_layer_ranks
from mdlora.adapters.routed import RoutedModule
from mdlora.adapters.targets import linear_names
from mdlora.config import DomainAdapters, MoEMLoRA
from mdlora.errors import AdapterError

__all__ = ["AdaptedModel", "adapt"]

_CHILD = "domain_adapters"  # of an adapted layer, where the module holds its adapters


class AdaptedModel(RoutedModule):
    """`module` with a bank of adapters on each target layer, and a gate where the config has one.

    The module itself stays as it is, names and parameters included: each target layer computes
    x W + b by its own call, and a forward hook adds to it. Call the adapted model with the
    module's own arguments and `domain=ids`; or run the module inside `with adapted.routing(ids)`.
    Ids are 0 for an unknown domain, which gets the backbone alone, and 1..D.

    With `domain_input`, the module routes and learns by itself, so that a trainer which knows
    nothing of adapters can have it: a call of the module reads the ids from its own inputs, and
    each adapted layer has its bank (and gate) as a submodule, `domain_adapters`, so that
    `parameters()`, `state_dict()` and `to()` of the module hold them. `unwrap()` undoes all.

    `route_mode` says which adapters a row meets: "none", "own" (its domain's: MLoRA), or "gate"
    (with MoEMLoRA); another is an AdapterError.

    Attributes:
        target_names: dotted names of the adapted layers.
        domain_input: where the module's inputs say the rows' domains, or None.
        ranks: what `choose_rank` decided for each.
        banks: one `Bank` for each target.
        gates: one `Gate` for each target, or one for all, or none.
    """

    def __init__(
        self,
        module: nn.Module,
        config: DomainAdapters,
        *,
        targets: str | None = None,
        flattened: str | None = None,
        domain_input: str | None = None,
        domain_ids: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(module, AdaptedModel):
            raise AdapterError(
                "This is an AdaptedModel already: adapt its .module, or call unwrap() first."
            )
        pattern = targets or config.targets or getattr(module, "adapter_targets", None)
        if pattern is None:
            raise AdapterError(
                f"{type(module).__name__} does not say which layers to adapt: "
                "give targets, a shell pattern over its module names, say targets='mlp.*'."
            )
        if config.num_domains is None:
            raise AdapterError("num_domains is missing: say how many domains there are.")
        if domain_ids is not None and domain_input is None:
            raise AdapterError("domain_ids maps the values of an input: name it, domain_input=...")
        self._held: list[nn.Parameter] = []  # parameters of the module that learnt before freeze()
        self.module = module
        self.config = config
        self.num_domains = config.num_domains
        self.target_names = tuple(linear_names(module, pattern))
        layers = self.target_layers
        self._refuse_adapted(layers)
        check_layers(module, self.target_names)
        check_layer_ranks(config, self.target_names)
        self._flattened = self._flattened_targets(flattened)
        self.domain_input = None
        if domain_input is not None:
            self.domain_input = DomainInput(module, domain_input, self.num_domains, domain_ids)
        self.num_experts = self.num_domains * config.experts_in_a_domain
        self.ranks: dict[str, RankChoice] = {}
        banks, gates = nn.ModuleList(), nn.ModuleList()
        for name, layer in zip(self.target_names, layers, strict=True):
            bank, self.ranks[name] = make_bank(config, layer, name, self.num_experts)
            banks.append(bank)
        # After all banks, so that MLoRA and MoEMLoRA of one seed start with the same adapters.
        if isinstance(config, MoEMLoRA):
            gated = layers[:1] if config.gate_shared else layers
            gates.extend(Gate(config, self.num_domains, layer) for layer in gated)
        self.route_mode = "gate" if len(gates) else "own"
        self._handles = [
            handle
            for index, layer in enumerate(layers)
            for handle in (
                layer.register_forward_pre_hook(TakeOver(self, index)),
                layer.register_forward_hook(AddUpdate(self, index), with_kwargs=True),
            )
        ]
        if self.domain_input is None:
            self.banks, self.gates = banks, gates
        else:
            self._give_to_module(banks, gates)

    @property
    def target_layers(self) -> list[nn.Linear]:
        """The adapted layers of the module."""
        layers = [self.module.get_submodule(name) for name in self.target_names]
        return [layer for layer in layers if isinstance(layer, nn.Linear)]

    def experts_used(self) -> Tensor | None:
        """Which adapters this thread's last training pass used: (K,) bool, or None for all."""
        last = self._state.last
        if last is None:
            return None
        if self.route_mode == "own":
            return last.own().used()
        used = last.used_by_gates()
        some = [experts for experts in used if experts is not None]
        return torch.stack(some).any(0) if some and len(some) == len(used) else None

    def freeze(self, *parts: Literal["module", "experts", "gates"]) -> None:
        """Freeze these parts: no gradient of theirs is computed. The rest is left as it is.

        Normalisation layers of a frozen module stand still in every pass, whoever calls `train()`.
        """
        own = {id(p) for p in self.adapter_parameters()}
        groups = {
            "module": [p for p in self.module.parameters() if id(p) not in own],
            "experts": list(self.banks.parameters()),
            "gates": list(self.gates.parameters()),
        }
        for part in parts:
            if part not in groups:
                raise AdapterError(f"No part {part!r} to freeze; choose of {', '.join(groups)}.")
        for part in parts:
            if part == "module":
                self._held += [p for p in groups[part] if p.requires_grad]
                hold_statistics(self.module)
            for parameter in groups[part]:
                parameter.requires_grad_(False)
        self._frozen.update(parts)

    def train(self, mode: bool = True) -> AdaptedModel:
        """Training mode; a frozen module's normalisation layers stay in evaluation mode."""
        super().train(mode)
        if "module" in self._frozen:
            hold_statistics(self.module)
        return self

    def unwrap(self) -> nn.Module:
        """Take hooks and adapters off and give the module back as it came, free to learn."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._unwrapped = True
        for layer in self.target_layers:
            layer._modules.pop(_CHILD, None)
        for parameter in self._held:
            parameter.requires_grad_(True)
        self._held.clear()
        if "module" in self._frozen:
            self._frozen.remove("module")
            release_statistics(self.module)
        return self.module

    def _flattened_targets(self, flattened: str | None) -> frozenset[int]:
        if flattened is None:
            return frozenset()
        chosen = linear_names(self.module, flattened)
        if not set(chosen) & set(self.target_names):
            raise AdapterError(
                f"flattened={flattened!r} chooses {', '.join(chosen)}, but no target is among "
                f"them: {', '.join(self.target_names)}."
            )
        return frozenset(self.target_names.index(n) for n in chosen if n in self.target_names)

    def _give_to_module(self, banks: nn.ModuleList, gates: nn.ModuleList) -> None:
        """Make the adapters submodules of their layers, and route the module by its inputs."""
        vars(self).update(banks=banks, gates=gates)  # known here, but not a second time by name
        for index, layer in enumerate(self.target_layers):
            parts = nn.ModuleDict({"bank": banks[index]})
            if index < len(gates):
                parts["gate"] = gates[index]
            layer.add_module(_CHILD, parts)
        self._handles += [
            self.module.register_forward_pre_hook(BeginPass(self), prepend=True, with_kwargs=True),
            self.module.register_forward_hook(EndPass(self, completed=True)),
            self.module.register_forward_hook(EndPass(self, completed=False), always_call=True),
        ]

    def _refuse_adapted(self, layers: list[nn.Linear]) -> None:
        for name, layer in zip(self.target_names, layers, strict=True):
            if any(isinstance(hook, AddUpdate) for hook in layer._forward_hooks.values()):
                raise AdapterError(
                    f"Layer {name} already has adapters. Call unwrap() on the first adapted "
                    "model, or choose other targets."
                )


def adapt(
    module: nn.Module,
    adapter: DomainAdapters,
    *,
    targets: str | None = None,
    flattened: str | None = None,
    domain_input: str | None = None,
    domain_ids: Mapping[int, int] | None = None,
) -> AdaptedModel:
    """Put adapters on the linear layers of any module, in place.

    Args:
        module: any nn.Module.
        adapter: `MLoRA(num_domains=...)`, `MoEMLoRA(...)` or `FullFinetuning(...)`.
        targets: shell patterns over dotted module names, say "mlp.*" (see `linear_names`).
        flattened: patterns of targets that see each row of the batch as several, one after
            another: (B * m, ...) made from (B, m, ...). Each domain id then stands m times.
        domain_input: the input of the module that says each row's domain, where a trainer of
            somebody else calls the module: an argument, an entry of a dict argument, or a column
            of DeepCTR-Torch's `feature_index` (see `AdaptedModel`).
        domain_ids: which id each value of that input has, 1..D or 0 for unknown; other values
            count as unknown. Without it, the input holds ids.

    Raises:
        AdapterError: nothing matches, a rank does not fit, a layer has adapters already, or the
            input is not there.
    """
    return AdaptedModel(
        module,
        adapter,
        targets=targets,
        flattened=flattened,
        domain_input=domain_input,
        domain_ids=domain_ids,
    )
