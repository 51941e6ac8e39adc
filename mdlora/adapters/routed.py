"""A module in whose forward pass each row meets its own domain's adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mdlora.adapters.bank import AdapterBank, Bank
from mdlora.adapters.checks import check_ids, check_learns, check_mode
from mdlora.adapters.domain_input import DomainInput
from mdlora.adapters.gate import Gate
from mdlora.adapters.kernels import can_merge
from mdlora.adapters.learning import LearningCheck
from mdlora.adapters.norms import hold_statistics
from mdlora.adapters.routes import Route
from mdlora.adapters.state import Routing, ThreadState
from mdlora.adapters.updated import CompiledUpdate
from mdlora.config import DomainAdapters, MoEMLoRA, counted
from mdlora.errors import AdapterError
from mdlora.layers import row_owners
from mdlora.layers.overlaid import is_overlaid

__all__ = ["RouteMode", "RoutedModule"]

RouteMode = Literal["none", "own", "gate"]


class RoutedModule(nn.Module):
    """`module`, the adapters of its target layers, and the way in for domain ids.

    `AdaptedModel` makes the adapters and hangs its hooks on the layers; these call `take_over` and
    `add_update` here, and those on the module itself `begin_pass` and `end_pass`.
    """

    module: nn.Module
    config: DomainAdapters
    num_domains: int
    num_experts: int
    target_names: tuple[str, ...]
    banks: nn.ModuleList
    gates: nn.ModuleList
    domain_input: DomainInput | None

    def __init__(self) -> None:
        super().__init__()
        self._state = ThreadState()
        self._learning = LearningCheck()
        self._frozen: set[str] = set()
        self._flattened: frozenset[int] = frozenset()
        self._called: set[int] | None = None  # targets that any pass has called
        self._unwrapped = False

    @property
    def route_mode(self) -> RouteMode:
        """Which adapters a row meets: none, its domain's "own", or those its "gate" chooses."""
        return self._route_mode

    @route_mode.setter
    def route_mode(self, mode: RouteMode) -> None:
        check_mode(mode, has_gate=isinstance(self.config, MoEMLoRA))
        self._route_mode: RouteMode = mode

    def forward(
        self,
        *args: Any,
        domain: Tensor | None = None,
        expert: Tensor | None = None,
        sorted_rows: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Run the module on rows of the given domains.

        Args:
            *args: the module's own arguments, also as keywords.
            domain: ids (B,), 0 for an unknown domain and 1..D else. Where the module has a
                `domain_input` they may be left out; and where that is an argument called
                "domain", this is it.
            expert: for each row the one adapter it meets on route "own", in place of its
                domain's; -1 for none.
            sorted_rows: see `routing`.
            **kwargs: the module's own keyword arguments.
        """
        self.refuse_unwrapped()
        if self.domain_input is not None and expert is None and not sorted_rows:
            if domain is None:
                return self.module(*args, **kwargs)
            if self.domain_input.is_argument and self.domain_input.name == "domain":
                return self.module(*args, domain=domain, **kwargs)
        if domain is None:
            raise AdapterError(
                "This model routes rows by domain: call it with domain=ids, a tensor of one "
                f"integer a row, 0 for an unknown domain and 1 to {self.num_domains} else."
            )
        with self.routing(domain, expert, sorted_rows=sorted_rows):
            return self.module(*args, **kwargs)

    @contextmanager
    def routing(
        self, domain: Tensor, expert: Tensor | None = None, *, sorted_rows: bool = False
    ) -> Iterator[Routing]:
        """Set the rows' domains for calls of the module in this thread; cleared on exit.

        Args:
            domain: ids (B,), 0 for an unknown domain and 1..D else.
            expert: for each row the one adapter it meets on route "own"; -1 for none.
            sorted_rows: the rows come sorted by `expert`, or by `domain` without it. Training
                steps are then faster where numba is not installed and one product with
                W + A_k B_k can serve each run of rows (float32 on a CPU); such a step has first
                derivatives only. Compiled kernels see by themselves that rows are sorted.

        Raises:
            AdapterError: ids are not integers of shape (B,) in 0..D (a RuntimeError where a graph
                or a GPU finds it), a target layer was not called by the forward pass, or the
                adapters were taken off.
        """
        self.refuse_unwrapped()
        check_ids("domain", domain, low=0, high=self.num_domains)
        if expert is not None:
            check_ids("expert", expert, low=-1, high=self.num_experts - 1)
            if expert.shape != domain.shape:
                raise AdapterError(
                    f"Got {counted(len(expert), 'expert id')} but "
                    f"{counted(len(domain), 'domain id')}: give one of each for each row."
                )
            expert = expert.long()
        before = self._state.current
        per_domain = self.config.experts_in_a_domain
        routing = Routing(domain.long(), expert, self.num_domains, per_domain, sorted_rows)
        self._begin(routing)
        try:
            yield routing
        finally:
            self._end(routing, before)
        self._check_called(routing)

    def begin_pass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Route a call of the module by its own inputs; called by the module's hook.

        Ids that were given outright, by `routing` or `domain=`, go first. (What an interrupted
        pass has left behind does not.)
        """
        current = self._state.current
        if self.domain_input is None or (current is not None and not current.from_input):
            return
        domain = self.domain_input.ids(args, kwargs)
        hint = f" They came as {self.domain_input.name!r}: say domain_ids={{value: id, ...}}."
        check_ids("domain", domain, low=0, high=self.num_domains, hint=hint)
        learns = self.module.training and torch.is_grad_enabled() and self.route_mode != "none"
        if learns and not torch.compiler.is_compiling():
            self._learning(self.adapter_parameters())
        per_domain = self.config.experts_in_a_domain
        self._begin(Routing(domain, None, self.num_domains, per_domain, from_input=True))

    def end_pass(self, *, completed: bool) -> None:
        """Clear what `begin_pass` set; called by the module's hooks, also after an error."""
        routing = self._state.current
        if routing is None or not routing.from_input:
            return
        if completed:
            self._check_called(routing)
        else:
            self._end(routing, None)

    def take_over(self, index: int, layer: nn.Linear, x: Tensor) -> bool:
        """Make the whole output of target `index` in one step, where that can be done."""
        routing = self._state.current
        bank = self.bank_of(index)
        if (
            routing is None
            or self.route_mode == "none"
            or not torch.is_grad_enabled()
            or not isinstance(bank, AdapterBank)
            or not _is_plain(layer)
            or x.shape[0] != routing.domain.shape[0]
            or row_owners() is not None  # rows are then those of others
        ):
            return False
        if self.route_mode == "own" and not bank.can_take_over(x, layer, routing.own()):
            if not routing.sorted_rows or not can_merge(x, layer.weight, routing.own()):
                return False
            routing.ready[index] = bank.merged(x, layer, routing.own())
            return True
        route = self._route(index, routing, x)
        if not bank.can_take_over(x, layer, route):
            routing.made[index] = route
            return False
        routing.ready[index] = bank.taken_over(x, layer, route)
        return True

    def can_fuse(self, index: int, layer: nn.Module, x: Tensor) -> bool:
        """Whether `fused` has an update for target `index`, where kernels can run on rows x."""
        routing, bank = self._state.current, self.bank_of(index)
        if (
            routing is None
            or type(bank) is not AdapterBank
            or not _is_plain(layer)
            or x.shape[0] != routing.domain.shape[0]
            or row_owners() is not None
        ):
            return False
        # A gate makes its routes later, and as kernels need them.
        return bank.has_update(routing.own() if self.route_mode == "own" else None)

    def needs_input(self, index: int) -> bool:
        """Whether the route of target `index` depends on what the layer gets."""
        if self.route_mode != "gate":
            return False
        routing, gate = self._state.current, self.gate_of(index)
        made = routing is not None and self.gate_index(index) in routing.gated
        return gate.sees_input and not (gate.shared and made)

    def fused(self, index: int, x: Tensor) -> CompiledUpdate:
        """The update of target `index`, to be fused with the layer; x is as `needs_input` says."""
        routing = self._state.current
        assert routing is not None, "can_fuse has said no"
        routing.called.add(index)
        route = self._route(index, routing, x)
        return cast("AdapterBank", self.bank_of(index)).compiled_update(route)

    def add_update(self, index: int, layer: nn.Module, x: Tensor, output: Tensor) -> Tensor:
        """Output of target `index` with its adapters' update; called by the layer's hook."""
        if self.route_mode == "none":
            return output
        routing = self._state.current
        if routing is None:
            raise AdapterError(
                f"{self.target_names[index]} has adapters but no domain ids are set: call the "
                "AdaptedModel with domain=ids, or the module inside `with adapted.routing(ids)`."
            )
        routing.called.add(index)
        if index in routing.ready:
            return routing.ready.pop(index)
        if x.is_nested:
            raise AdapterError(
                f"{self.target_names[index]} got a nested tensor, whose rows have no common shape: "
                "build nn.TransformerEncoder with enable_nested_tensor=False."
            )
        rows, ids = x.shape[0], routing.domain.shape[0]
        owners = row_owners()
        if owners is not None:
            owned = owners.row.shape[0]
            if (owned, owners.num_rows) != (rows, ids):
                raise AdapterError(
                    f"{self.target_names[index]} got {counted(rows, 'row')}, and "
                    f"{counted(ids, 'domain id')} for the batch, inside `rows_of` for "
                    f"{counted(owned, 'row')} of a batch of {owners.num_rows:,}: give one domain "
                    "id for each row of the batch, and an owner for each row here."
                )
            return self._updated(index, x, routing.owned(owners.row), output)
        if rows != ids:
            each = self._rows_of_each(index, rows, ids)
            updated = self._updated(
                index, x.unflatten(0, (ids, each)), routing, output.unflatten(0, (ids, each))
            )
            return updated.flatten(0, 1)
        in_place = x.dim() == 2 and _is_plain(layer)
        return self._updated(index, x, routing, output, in_place)

    def bank_of(self, index: int) -> Bank:
        """The adapters of target `index`."""
        # A ModuleList takes long to find its parts, and an abstract class to know its instances.
        return cast("Bank", self.banks._modules[str(index)])

    def gate_index(self, index: int) -> int:
        """Which of `gates` serves target `index`: its own, or the one that all share."""
        return 0 if len(self.gates) == 1 else index

    def gate_of(self, index: int) -> Gate:
        """The gate that serves target `index`."""
        gate = self.gates[self.gate_index(index)]
        assert isinstance(gate, Gate)
        return gate

    def give_sparse_gradients(self, may: bool) -> None:
        """Whether gradients of adapters may be sparse: only where what learns from them knows."""
        for index in range(len(self.banks)):
            self.bank_of(index).sparse_gradients = may

    def adapter_parameters(self) -> list[nn.Parameter]:
        """The parameters of banks and gates."""
        return [*self.banks.parameters(), *self.gates.parameters()]

    def refuse_uncalled(self) -> None:
        """Raise AdapterError if passes have run, and none has called some target."""
        if self._called is not None:
            self._refuse_missed(self._called)

    def refuse_unwrapped(self) -> None:
        """Raise AdapterError if `unwrap` has taken the adapters off."""
        if self._unwrapped:
            raise AdapterError(
                "The adapters were taken off this model, by unwrap(): call the module itself, or "
                "adapt it again."
            )

    def _updated(
        self, index: int, x: Tensor, routing: Routing, output: Tensor, in_place: bool = False
    ) -> Tensor:
        route = routing.made.pop(index, None) or self._route(index, routing, x)
        total: Tensor = self.banks[index](x, route, output, in_place=in_place)
        return total

    def _route(self, index: int, routing: Routing, x: Tensor) -> Route:
        if self.route_mode == "own":
            return routing.own()
        which, gate = self.gate_index(index), self.gate_of(index)
        if which not in routing.gated or not gate.shared:
            routing.keep(which, gate(routing.domain, x))
        elif not routing.learns:
            check_learns(self.target_names[index], gate)
        return routing.gated[which]

    def _begin(self, routing: Routing) -> None:
        if "module" in self._frozen:
            hold_statistics(self.module)
        self._state.current = routing

    def _end(self, routing: Routing, before: Routing | None) -> None:
        self._state.current = before
        if self.module.training and torch.is_grad_enabled():
            self._state.last = routing

    def _check_called(self, routing: Routing) -> None:
        if self.route_mode == "none":
            return
        if not torch.compiler.is_compiling():
            self._called = routing.called | (self._called or set())
        self._refuse_missed(routing.called)

    def _refuse_missed(self, called: set[int]) -> None:
        missed = [name for i, name in enumerate(self.target_names) if i not in called]
        if missed:
            raise AdapterError(
                f"The forward pass of {type(self.module).__name__} never called "
                f"{', '.join(missed)}, so adapters there would do nothing. Perhaps a fused "
                "function reads the weight: leave the layer out of targets. (To run one branch of "
                "a model, say one of two towers, take a plain copy: merge_domain.)"
            )

    def _rows_of_each(self, index: int, rows: int, ids: int) -> int:
        """How many rows of a target stand for each row of the batch."""
        each, rest = divmod(rows, ids) if ids else (0, rows)
        if index in self._flattened and each and not rest:
            return each
        name = self.target_names[index]
        hint = "give one domain id for each row."
        if each > 1 and not rest:
            hint += (
                f" If each row of the batch stands here as {each} rows, one after another, say so: "
                f"flattened={name!r}. Else leave the layer out of targets."
            )
        raise AdapterError(
            f"{name} got {counted(rows, 'row')} but {counted(ids, 'domain id')}: {hint}"
        )


def _is_plain(layer: nn.Module) -> bool:
    """Whether the layer computes x W + b, and nobody's hooks but ours see its input and output."""
    alone = len(layer._forward_hooks) == len(layer._forward_pre_hooks) == 1
    return type(layer) is nn.Linear and alone and not is_overlaid(layer)
