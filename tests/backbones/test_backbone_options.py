from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mdlora.backbones import (
    BACKBONES,
    Inputs,
    TowerBackbone,
    build_backbone,
    check_backbone,
    options_of,
)
from mdlora.config import BackboneConfig, config_from_dict, config_to_yaml
from mdlora.errors import ConfigError
from mdlora.types import Embedded


class Tuned(TowerBackbone):
    """A backbone with settings of its own."""

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (8,),
        dropout: float = 0.0,
        depth: int = 2,
        widths: tuple[int, ...] = (4, 4),
        rank: int | None = None,
    ) -> None:
        super().__init__(inputs, hidden=hidden, dropout=dropout)
        self.settings = (depth, widths, rank)

    def forward(self, x: Embedded) -> Tensor:
        return torch.zeros(0)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "tuned", Tuned)


def made(**options: Any) -> Any:
    return build_backbone(BackboneConfig(name="tuned", options=options), Inputs.of_fields(3, 2))


def test_options_reach_the_backbone_and_the_rest_has_its_defaults():
    assert made().settings == (2, (4, 4), None)
    assert made(depth=5, widths=[1, 2, 3]).settings == (5, (1, 2, 3), None)
    assert made(rank=4).settings == (2, (4, 4), 4)
    assert made(rank=None).settings == made(rank="none").settings == made().settings
    assert list(options_of(Tuned)) == ["depth", "widths", "rank"]
    assert options_of(BACKBONES["wdl"]) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dept": 3}, r"no option 'dept'. Did you mean 'depth'\? It has: depth, widths, rank"),
        ({"depth": "deep"}, r"backbone.options.depth='deep' is not of type int; its default is 2"),
        ({"widths": 3}, r"widths=3 is not of type tuple"),
        ({"depth": 2.5}, "is not of type int"),
        ({"depth": None}, "is not of type int"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        check_backbone(BackboneConfig(name="tuned", options=options))


def test_a_backbone_without_options_says_so():
    with pytest.raises(ConfigError, match=r"^backbone.options.depth: backbone 'wdl' has no .*none"):
        check_backbone(BackboneConfig(name="wdl", options={"depth": 1}))


def test_options_survive_a_file():
    import yaml

    config = config_from_dict({"backbone": {"name": "tuned", "options": {"widths": [1, 2]}}})
    again = config_from_dict(yaml.safe_load(config_to_yaml(config)))
    assert again == config
    assert check_backbone(again.backbone) == {"widths": (1, 2)}
