"""What all backbones promise, whatever they compute: the suite runs over the registry itself."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, linear_names
from mdlora.backbones import BACKBONES, Backbone, build_backbone, idle_settings
from mdlora.backbones.multi_domain import MultiDomainBackbone
from mdlora.config import BackboneConfig, DomainAdapters, FullFinetuning, MLoRA, MoEMLoRA
from mdlora.data import Dataset, prepare_rows
from mdlora.errors import AdapterError
from mdlora.model import inputs_of
from mdlora.reports import ModelFacts, model_facts
from mdlora.schema import Categorical, Domain, Label, MultiValued, Numeric
from mdlora.types import Embedded, EmbeddedList

FEW, MANY = 3, 40
SIZES = {"few": FEW, "many": MANY}

# Own settings that take another way through a network than the default ones.
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "adaptdhm, one cluster": ("adaptdhm", {"clusters": 1}),
    "adasparse, din": ("adasparse", {"on": "din", "factor": "scaling"}),
    "adasparse, nfm": ("adasparse", {"on": "nfm", "factor": "binarization"}),
    "afm, deep": ("afm", {"deep": True}),
    "autoint, alone": ("autoint", {"deep": False, "linear": False, "scaled": True}),
    "autoint, one layer": ("autoint", {"layers": 1, "residual": False}),
    "dcn, not linear": ("dcn", {"linear": False}),
    "dcnv2, low rank": ("dcnv2", {"rank": 3, "experts": 2}),
    "dcnv2, low rank, stacked": (
        "dcnv2",
        {"rank": 3, "experts": 3, "nonlinear": True, "structure": "stacked", "linear": True},
    ),
    "dcnv2, stacked": ("dcnv2", {"structure": "stacked"}),
    "din, dice": ("din", {"activation": "dice"}),
    "din, softmax": ("din", {"activation": "relu", "softmax": True}),
    "epnet, autoint": ("epnet", {"on": "autoint", "gate_hidden": 3}),
    "epnet, din": ("epnet", {"on": "din"}),
    "fibinet, all": ("fibinet", {"bilinear_type": "all"}),
    "fibinet, each": ("fibinet", {"bilinear_type": "each"}),
    "finalmlp, gates of fields": ("finalmlp", {"first_context": ("user",), "second_hidden": (4,)}),
    "finalmlp, no gates": ("finalmlp", {"gating": False}),
    "fwfm, deep": ("fwfm", {"deep": True, "linear": "values"}),
    "gdcn, stacked": ("gdcn", {"structure": "stacked", "linear": True}),
    "hamur, dcnv2": ("hamur", {"on": "dcnv2", "host": {"structure": "stacked"}, "cells": 2}),
    "m2m, deeper": ("m2m", {"meta_layers": 2, "tower_layers": 2, "with_user": False}),
    "m3oe, one shared": ("m3oe", {"num_shared": 1}),
    "masknet, parallel": ("masknet", {"structure": "parallel"}),
    "mmoe, no towers": ("mmoe", {"tower_layers": 0}),
    "pepnet, xdeepfm": ("pepnet", {"on": "xdeepfm", "prior": ("item",)}),
    "ple, more experts": ("ple", {"shared_experts": 2, "domain_experts": 2, "tower_layers": 0}),
    "ple, one level": ("ple", {"tower_layers": 2}),
    "pnn, both": ("pnn", {"product": "both", "kernel": "mat"}),
    "pnn, outer": ("pnn", {"product": "outer"}),
    "pnn, outer num": ("pnn", {"product": "outer", "kernel": "num"}),
    "pnn, outer vec": ("pnn", {"product": "outer", "kernel": "vec"}),
    "ppnet, din": ("ppnet", {"on": "din", "gate_hidden": 3}),
    "sarnet, one of each": ("sarnet", {"num_shared": 1, "num_own": 1}),
    "shared-bottom, no towers": ("shared-bottom", {"tower_layers": 0}),
    "star, plain beside": ("star", {"auxiliary_hidden": ()}),
    "star-shared, plain beside": ("star-shared", {"auxiliary_hidden": ()}),
    "xdeepfm, relu": ("xdeepfm", {"activation": "relu", "split_half": False}),
}
COLUMNS = (
    Categorical("user", role="user"),
    Categorical("item", role="item"),
    Domain("market"),
    MultiValued("seen", like="item", max_length=4),
    Numeric("price", encoding="scaled"),
    Numeric("age", encoding="scaled"),
    Label("click"),
)


@cache
def _log(num_domains: int, rows: int) -> Dataset:
    """Rows with all that a backbone may ask for: a user, an item, a list of items, numbers."""
    rng = np.random.default_rng(7)
    user, item = rng.integers(0, 60, rows), rng.integers(0, 40, rows)
    market = np.arange(rows) % num_domains
    taste = rng.normal(size=(60, 4)) * rng.normal(size=(num_domains, 1, 4))
    logit = (taste[market, user] * rng.normal(size=(40, 4))[item]).sum(1)
    table = pa.table(
        {
            "user": user,
            "item": item,
            "market": [f"m{number:02}" for number in market],
            "seen": [rng.integers(0, 40, n).tolist() for n in rng.integers(0, 5, rows)],
            "price": rng.lognormal(size=rows),
            "age": rng.uniform(10, 80, rows),
            "click": (logit > 0).astype(np.int8),
        }
    )
    codes = rng.permutation(np.arange(rows) // num_domains % 4 // 2 * (1 + np.arange(rows) % 2))
    codes[: 2 * num_domains] = 0  # each domain has rows to learn from
    prepared = prepare_rows(table, codes.astype(np.int8), COLUMNS, source="contract")
    return Dataset(None, prepared.schema, prepared)


def _config(case: str, *, dropout: float = 0.0) -> BackboneConfig:
    """Small layers, where the backbone has any; its own options at their defaults or the case's."""
    name, options = OPTIONS.get(case, (case, {}))
    plain = BackboneConfig(name=name, embed_dim=4, options=options)
    small = {"hidden": (8, 5, 6), "dropout": dropout}
    return replace(plain, **{k: v for k, v in small.items() if k not in idle_settings(plain)})


def _build(case: str, num_domains: int) -> Backbone:
    """In float64 and evaluation mode, with weights large enough that all of them matter."""
    network = build_backbone(_config(case), inputs_of(_log(num_domains, 640).schema, 4))
    for weight in network.double().parameters():
        nn.init.normal_(weight, std=0.5)
    return network.eval()


@cache
def _facts(case: str) -> ModelFacts:
    """What `mdlora models` says."""
    config = _config(case)
    return model_facts(_log(FEW, 640).schema, config.name, backbone=config)


@cache
def _layers(case: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All dense layers, and those that adapters reach unless told otherwise."""
    network = _build(case, FEW)
    every = tuple(name for name, m in network.named_modules() if isinstance(m, nn.Linear))
    try:
        return every, tuple(linear_names(network, network.adapter_targets))
    except AdapterError:
        return every, ()


FIXTURES = {
    "backbone": lambda case: case in BACKBONES,
    "case": lambda case: True,
    "reachable": lambda case: bool(_layers(case)[0]),
    "adaptable": lambda case: bool(_layers(case)[1]),
    "unreachable": lambda case: not _layers(case)[1],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`backbone` is each of the registry; `case` these and `OPTIONS`, of which adapters reach some
    layers of the `reachable`, and unless told otherwise of the `adaptable`, not of the
    `unreachable`. `num_domains` is few and many.

    Options are slow, but with few domains where a module names the test in `OPTIONS_BY_DEFAULT`;
    so are many domains where it is named in `SLOW_WITH_MANY`."""
    test, module = metafunc.function.__name__, metafunc.module
    quick_options = test in getattr(module, "OPTIONS_BY_DEFAULT", ())
    slow_many = test in getattr(module, "SLOW_WITH_MANY", ())
    sizes = SIZES if "num_domains" in metafunc.fixturenames else {"": FEW}
    for fixture in FIXTURES.keys() & set(metafunc.fixturenames):
        names, params = (fixture, "num_domains") if len(sizes) > 1 else (fixture,), []
        for case in filter(FIXTURES[fixture], (*BACKBONES, *OPTIONS)):
            for size, num_domains in sizes.items():
                slow = case in OPTIONS and not (quick_options and num_domains == FEW)
                slow = slow or (slow_many and num_domains == MANY)
                marks = [pytest.mark.slow] if slow else []
                values = (case, num_domains)[: len(names)]
                params.append(pytest.param(*values, id=f"{case}-{size}".strip("-"), marks=marks))
        metafunc.parametrize(names, params)


class Contract:
    """Backbones, rows and adapters for the tests."""

    adapters: ClassVar[dict[str, DomainAdapters]] = {
        "mlora": MLoRA(temperature=2),
        "moe-mlora": MoEMLoRA(temperature=2),
        "moe-mlora, gate on the input": MoEMLoRA(gate="input", experts_per_domain=2, top_k=2),
        "full-finetuned": FullFinetuning(),
    }
    config = staticmethod(_config)
    build = staticmethod(_build)
    log = staticmethod(_log)
    facts = staticmethod(_facts)

    @staticmethod
    def kind(case: str) -> type[Backbone]:
        """Its class."""
        return BACKBONES[_config(case).name]

    @staticmethod
    def targets(case: str, num_domains: int) -> str:
        """All layers that adapters reach; with many domains those that they reach by default."""
        reached = tuple(layer.name for layer in _facts(case).layers if layer.reached)
        return ",".join(reached if num_domains == FEW else _layers(case)[1] or reached)

    @staticmethod
    def is_adaptable(case: str) -> bool:
        """Whether adapters reach anything of it unless told otherwise."""
        return bool(_layers(case)[1])

    @staticmethod
    def least(network: Backbone) -> int:
        """The least domain id that a graph of it takes."""
        return 1 if isinstance(network, MultiDomainBackbone) else 0

    @staticmethod
    def rows(count: int, num_domains: int, *, seed: int = 0, least: int = 0) -> Embedded:
        """Rows of domains `least` (0: unknown) to `num_domains`, with lists of 0 to 4 items."""
        make = torch.Generator().manual_seed(seed)
        inputs = inputs_of(_log(num_domains, 640).schema, 4)

        def draw(*size: int) -> Tensor:
            return torch.randn(size, dtype=torch.float64, generator=make)

        lengths = torch.randint(0, 5, (count,), generator=make)
        offsets = torch.cat((lengths.new_zeros(1), lengths.cumsum(0)))
        return Embedded(
            draw(count, inputs.num_fields, 4),
            draw(count),
            draw(count, inputs.num_dense),
            torch.randint(least, num_domains + 1, (count,), generator=make),
            (EmbeddedList(draw(int(offsets[-1]), 4), offsets),),
        )

    @staticmethod
    def pick(x: Embedded, places: list[int]) -> Embedded:
        """These rows alone, with their own lists."""
        (items,) = x.lists
        spans = [(int(items.offsets[i]), int(items.offsets[i + 1])) for i in places]
        offsets = torch.tensor([0, *(end - start for start, end in spans)]).cumsum(0)
        values = torch.cat([items.values[:0], *(items.values[a:b] for a, b in spans)])
        return Embedded(*(part[places] for part in x[:4]), (EmbeddedList(values, offsets),))

    @staticmethod
    def adapt(network: nn.Module, config: DomainAdapters, **more: Any) -> AdaptedModel:
        """Adapters as fresh ones are."""
        num_domains = more.pop("num_domains")
        return AdaptedModel(network, replace(config, num_domains=num_domains), **more)

    @staticmethod
    def shake(adapted: AdaptedModel) -> AdaptedModel:
        """Give adapters and gates random values, as if trained."""
        for weight in adapted.adapter_parameters():
            nn.init.normal_(weight, std=0.5)
        return adapted

    @staticmethod
    def routes(adapted: AdaptedModel) -> tuple[str, ...]:
        """The ways in which rows meet the adapters."""
        return ("own", "gate") if len(adapted.gates) else ("own",)


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract()
