"""The control base-wide: as many parameters as MoE-MLoRA, in widths that the model can have."""

from __future__ import annotations

from typing import Any

import pytest

from mdlora.backbones import width_multiple
from mdlora.config import BackboneConfig, MoEMLoRA
from mdlora.data import load_dataset
from mdlora.errors import ConfigError
from mdlora.training.build import _adapter_size, _backbone_size, widened

SCHEMA = load_dataset("synthetic").schema


def config(name: str, **options: Any) -> BackboneConfig:
    return BackboneConfig(name=name, hidden=(32, 16, 8), options=options)


@pytest.mark.parametrize(
    ("name", "options", "multiple"),
    [
        ("mlp", {}, 1),
        ("finalmlp", {}, 1),
        ("finalmlp", {"heads": 4}, 4),
        ("finalmlp", {"heads": 8, "second_hidden": [16, 8]}, 8),
        ("epnet", {"on": "finalmlp", "host": {"heads": 4}}, 4),
        ("epnet", {"on": "afm", "host": {"deep": True}}, 1),
    ],
)
def test_the_first_widths_that_reach_the_size(name: str, options: dict[str, Any], multiple: int):
    plain, adapter = config(name, **options), MoEMLoRA(temperature=4)
    assert width_multiple(plain) == multiple
    grown = widened(plain, adapter, SCHEMA)
    wanted = _backbone_size(plain, SCHEMA) + _adapter_size(plain, adapter, SCHEMA)
    assert _backbone_size(grown, SCHEMA) >= wanted
    assert grown.hidden[-1] % multiple == 0
    assert all(wide >= width for wide, width in zip(grown.hidden, plain.hidden, strict=True))
    step = 1 + (grown.hidden[0] - 33) / 32  # one unit of the first layer less
    *others, last = (round(width * step) for width in plain.hidden)
    less = BackboneConfig(
        name=name, hidden=(*others, last - last % multiple), options=plain.options
    )
    assert _backbone_size(less, SCHEMA) < wanted


@pytest.mark.parametrize("on", ["afm", "fwfm"])
def test_hosts_without_hidden_layers_are_refused_at_once(on: str):
    with pytest.raises(
        ConfigError, match=r"'epnet' has none .*: set backbone.options.host.deep to"
    ):
        widened(BackboneConfig(name="epnet", options={"on": on}), MoEMLoRA(), SCHEMA)
