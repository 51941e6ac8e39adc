"""`mdlora models`, and backbones and options that do not fit, on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mdlora.backbones import BACKBONES
from mdlora.config import METHODS

Call = Callable[..., tuple[int, str, str]]


def test_models_lists_everything(folder: Path, tmp_path: Path, mdlora: Call) -> None:
    code, said, err = mdlora("models", "--data", folder, "--json", tmp_path / "models.json")
    assert (code, err) == (0, "")
    listed = [line.split(" | ")[0].removeprefix("| ") for line in said.splitlines()]
    for name in (*BACKBONES, *METHODS):
        assert listed.count(name) == 1, name
    assert "not with this schema: Backbone 'din' looks into a list" in said
    plain = json.loads((tmp_path / "models.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in plain["models"]] == list(BACKBONES)
    assert plain["methods"] == METHODS
    assert (plain["data"]["fields"], plain["data"]["domains"]) == (8, 5)  # as in the folder


def test_models_shows_one(folder: Path, mdlora: Call) -> None:
    given = ("--backbone.options.structure", "stacked", "--backbone.hidden", "16,8")
    code, said, err = mdlora("models", "dcnv2", "--data", folder, *given, "--adapter.rank", 4)
    assert (code, err) == (0, "")
    assert "dcnv2, a backbone. DCN V2 (Wang et al. 2021, arXiv:2008.13535)" in said
    assert "| backbone.options.rank | int or none | none | rank of an expert's matrix;" in said
    assert "| tower.linears.1 | by default | 16 | 8 | 4 | 104 |" in said  # 4 * (16 + 8) + 8
    assert "| cross.layers.0" in said
    assert "cross_head" not in said  # a stacked one has none
    own = ("--backbone.options.on=dcn", "--backbone.options.host.cross_layers", 7)
    code, said, _ = mdlora("models", "epnet", "--data", folder, *own)
    assert code == 0
    assert "| backbone.options.host | settings by name or none | none | the host's own opt" in said
    assert "host.cross.layers.6" in said
    code, said, _ = mdlora("models", "star", "--data", folder)
    assert code == 0
    assert "star, a multi-domain method. STAR" in said
    assert "Adapters reach nothing: The weights of its tower are products" in said
    assert re.search(
        r"Parameters: [\d,]+, [\d,]+ of them each domain's own. Of separate netw", said
    )
    code, said, _ = mdlora("models", "star", "--data", folder, "--adapter.targets", "auxiliary")
    assert code == 0
    assert "| auxiliary.linears.0 | by default |" in said
    code, said, _ = mdlora("models", "star", "--data", folder, "--adapter.rank", 2)
    assert code == 0  # whatever the rank, nothing is reached
    assert "Adapters reach nothing: The weights of its tower are products" in said
    code, said, _ = mdlora("models", "din", "--data", folder)
    assert code == 0
    assert "| backbone.options.history |" in said
    assert "Not with this schema: Backbone 'din' looks into a list" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["wld"], "No backbone 'wld'. Did you mean 'wdl'?"),
        (["mlora"], "'mlora' is what `mdlora train --method` takes"),
        (["--backbone.options.cross_layers", "3"], "options are those of one backbone: name it"),
        (["dcn", "--backbone.options.layers", "3"], "no option 'layers'. Did you mean 'cross_lay"),
        (["dcn", "--backbone.options.cross_layers", "0"], "cross_layers=0 is out of range"),
        (["wdl", "--plan.patience", "3"], "--plan.patience"),
        (["wdl", "--adapter.temperature", "0"], "adapter.temperature=0 is out of range"),
        (["wdl", "--adapter.targets", "foo"], "targets='foo' matches no Linear layer of WDL"),
        (["wdl", "--adapter.rank", "1000"], "adapter.rank=1000 does not fit"),
        (["star", "--adapter.targets", "foo"], "The weights of its tower are products"),
        (["--adapter.targets", "foo"], "Adapters reach no network. Of 'adaptdhm': The weights"),
        (["--adapter.rank", "1000"], "Adapters reach no network. Of 'adasparse': adapter.rank="),
    ],
)
def test_models_refuses(given: list[str], message: str, folder: Path, mdlora: Call) -> None:
    code, said, err = mdlora("models", *given, "--data", folder)
    assert (code, said) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["din"], "looks into a list of what a user did before, but the schema has no list"),
        (["din", "history=hour"], "looks into a list of what a user did before, but the schema"),
        (["wld"], "No backbone 'wld'. Did you mean 'wdl'?"),
        (["dcn", "cross_layer=3"], "no option 'cross_layer'. Did you mean 'cross_layers'?"),
        (["wdl", "cross_layers=3"], "backbone 'wdl' has no option 'cross_layers'. It has none."),
        (["dcn", "cross_layers=two"], "cross_layers='two' is not of type int; its default is 2"),
        (["xdeepfm", "cin_sizes=8,0"], "backbone.options.cin_sizes=0 is out of range"),
        (["pepnet", "prior=nobody,hour"], "backbone.options.prior names 'nobody', which is no"),
        (["pepnet", "on=star"], "No backbone.options.on 'star'"),
        (["hamur", "on=afm"], "no tower of hidden layers, which HAMUR changes"),
        (["epnet", "on=afm"], "on 'epnet' without a tower: set backbone.options.host.deep to true"),
        (["epnet", "on=dcn", "host.cross_layers=0"], "options.host.cross_layers=0 is out of range"),
        (["fwfm"], "backbone.hidden=(16, 8) has no effect on 'fwfm' without a tower"),
        (["m3oe"], "has 2 widths; M3oE needs three at least"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_refuses_a_backbone_that_does_not_fit_in_one_line(
    given: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    mdlora: Call,
    tiny_options: list[str],
) -> None:
    name, *options = given
    settings = [f"--backbone.options.{option}" for option in options]
    out = tmp_path / "run"
    run = ("train", folder, "--out", out, *tiny_options, "--backbone", name, *settings)
    code, said, err = mdlora(*run, "--method", "base")
    assert (code, said) == (2, "")
    line, see = err.splitlines()
    assert message in line
    assert see == "See: mdlora train --help"
    assert not out.exists()


@pytest.mark.parametrize("name", ["adaptdhm", "star"])
def test_train_refuses_adapters_that_reach_nothing(
    name: str, folder: Path, tmp_path: Path, mdlora: Call, tiny_options: list[str]
) -> None:
    out = tmp_path / "run"
    options = (*tiny_options, "--backbone", name, "--method", "mlora", "--quiet")
    code, said, err = mdlora("train", folder, "--out", out, *options)
    assert (code, said, len(err.splitlines())) == (1, "", 1)
    assert BACKBONES[name].adapter_hint in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("backbones", "methods", "code", "message"),
    [
        ("wdl,din", "base", 2, "the schema has no list column"),
        ("wdl,star", "base,mlora", 1, "matches no Linear layer of Star"),
        ("star", "base-finetuned", 1, "matches no Linear layer of Star"),
        ("star", "base-wide", 1, "matches no Linear layer of Star"),
    ],
)
def test_compare_refuses_what_cannot_be_built_before_any_work(
    backbones: str,
    methods: str,
    code: int,
    message: str,
    folder: Path,
    tmp_path: Path,
    mdlora: Call,
    tiny_options: list[str],
) -> None:
    out = tmp_path / "comparison"
    given = ("--backbones", backbones, "--methods", methods, "--jobs", 1)
    refused, said, err = mdlora("compare", folder, "--out", out, *tiny_options, *given)
    assert (refused, said) == (code, "")
    assert message in err
    assert not out.exists()
