"""What one forward pass knows about its rows' domains, kept by thread."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from mdlora.adapters.routes import ExpertRoute, Route

__all__ = ["Routing", "ThreadState"]


class Routing:
    """The domain ids of one forward pass, the routes made from them, and which layers ran.

    `domain` (B,) int64, 0 for unknown and 1..D else. `expert` (B,) int64, where given, names the
    one adapter of each row (-1: none) in place of the domain's own. `sorted_rows` says that rows
    come sorted by these. `from_input` says that the module's own inputs gave the ids. `ready`
    and `made` hold outputs and routes that were made before their layer was called.
    """

    def __init__(
        self,
        domain: Tensor,
        expert: Tensor | None,
        num_domains: int,
        per_domain: int,
        sorted_rows: bool = False,
        from_input: bool = False,
    ) -> None:
        self.domain = domain
        self.expert = expert
        self.num_domains = num_domains
        self.per_domain = per_domain
        self.sorted_rows = sorted_rows
        self.from_input = from_input
        self.called: set[int] = set()
        self.ready: dict[int, Tensor] = {}
        self.made: dict[int, Route] = {}
        self.gated: dict[int, Route] = {}
        self.learns = False
        self.used_before: Tensor | None = None
        self._own: ExpertRoute | None = None
        self._owned: list[tuple[Tensor, Routing]] = []

    def keep(self, which: int, route: Route) -> None:
        """Keep what gate `which` made; of its layer's calls before, which adapters they used.

        `learns` says from then on whether that was done with gradients.
        """
        self.learns = torch.is_grad_enabled()
        former = self.gated.get(which)
        if isinstance(former, ExpertRoute):
            used = former.used()
            assert used is not None  # a gate's route has weights
            self.used_before = used if self.used_before is None else self.used_before | used
        self.gated[which] = route

    def own(self) -> ExpertRoute:
        """Each row's own adapters: the one named in `expert`, else the domain's, evenly."""
        if self._own is None:
            num_experts = self.num_domains * self.per_domain
            if self.expert is not None:
                self._own = ExpertRoute(self.expert.unsqueeze(1), num_experts)
            else:
                first = self.domain.unsqueeze(1) - 1
                if self.per_domain == 1:
                    self._own = ExpertRoute(first, num_experts)
                else:
                    steps = first.new_tensor(range(self.per_domain)) * self.num_domains
                    experts = (first + steps).where(first >= 0, first.new_tensor(-1))
                    even = torch.full(
                        experts.shape,
                        1 / self.per_domain,
                        dtype=torch.float64,
                        device=experts.device,
                    )
                    self._own = ExpertRoute(experts, num_experts, even)
        return self._own

    def owned(self, index: Tensor) -> Routing:
        """The routing of rows (V,) that belong to these rows of the batch, made once."""
        for known, routing in self._owned:
            if known is index:
                return routing
        expert = None if self.expert is None else self.expert[index]
        routing = Routing(self.domain[index], expert, self.num_domains, self.per_domain)
        self._owned.append((index, routing))
        return routing

    def used_by_gates(self) -> list[Tensor | None]:
        """What each route of a gate with `top_k` used, as `ExpertRoute.used`; owned rows' too."""
        parts = (self, *(routing for _, routing in self._owned))
        made = [route for part in parts for route in part.gated.values()]
        before = [part.used_before for part in parts if part.used_before is not None]
        return [*before, *(route.used() for route in made if isinstance(route, ExpertRoute))]


class ThreadState:
    """The routing of the pass that runs in this thread, if any. Copies start empty."""

    def __init__(self) -> None:
        self._local = threading.local()

    @property
    def current(self) -> Routing | None:
        """The routing that is set in this thread."""
        routing: Routing | None = getattr(self._local, "routing", None)
        return routing

    @current.setter
    def current(self, routing: Routing | None) -> None:
        self._local.routing = routing

    @property
    def last(self) -> Routing | None:
        """The routing of the last pass that ended in this thread."""
        routing: Routing | None = getattr(self._local, "last", None)
        return routing

    @last.setter
    def last(self, routing: Routing | None) -> None:
        self._local.last = routing

    def __deepcopy__(self, memo: dict[int, Any]) -> ThreadState:
        return ThreadState()

    def __reduce__(self) -> tuple[type[ThreadState], tuple[()]]:
        return ThreadState, ()
