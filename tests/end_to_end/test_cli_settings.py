from __future__ import annotations

from pathlib import Path

import pytest

from mdlora.cli.parsing import make_parser, parse
from mdlora.cli.settings import add_sections, read_sections
from mdlora.config import RunConfig
from mdlora.errors import ConfigError


def read(*arguments: str) -> RunConfig:
    parser = make_parser("train", "", "", "")
    options = parse(parser, add_sections(parser, arguments))
    return read_sections(options)


def test_options_of_a_backbone_are_read_one_by_one():
    options = read(
        "--backbone.options.depth", "3", "--backbone.options.cin=[8, 4]"
    ).backbone.options
    assert options == {"depth": 3, "cin": [8, 4]}
    assert read("--backbone", "wdl").backbone.options == {}


def test_options_win_over_those_of_the_file_one_by_one(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("backbone:\n  options:\n    depth: 1\n    rank: 2\n")
    assert read("--config", str(file)).backbone.options == {"depth": 1, "rank": 2}
    given = read("--config", str(file), "--backbone.options.depth", "4")
    assert given.backbone.options == {"depth": 4, "rank": 2}


def test_options_of_a_host_are_read_one_by_one_or_together(tmp_path: Path):
    host = "--backbone.options.host"
    whole = read(f"{host}={{cross_layers: 3, linear: true}}", f"{host}.rank", "4")
    assert whole.backbone.options == {"host": {"cross_layers": 3, "linear": True, "rank": 4}}
    file = tmp_path / "c.yaml"
    file.write_text("backbone:\n  options:\n    on: dcnv2\n    host: {rank: 2, experts: 3}\n")
    given = read("--config", str(file), f"{host}.rank=4").backbone.options
    assert given == {"on": "dcnv2", "host": {"rank": 4, "experts": 3}}
    again = read("--config", str(file), host, '{"rank": 5}').backbone.options
    assert again == {"on": "dcnv2", "host": {"rank": 5}}


def test_an_option_without_a_value_is_an_error():
    with pytest.raises(ConfigError, match=r"--backbone\.options\.depth has no value"):
        read("--backbone.options.depth")
