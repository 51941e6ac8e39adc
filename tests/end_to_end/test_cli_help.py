"""Help, defaults, and a configuration that can be read back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import mdlora as library
from mdlora.cli.main import VERBS, main
from mdlora.cli.parsing import make_parser, parse
from mdlora.cli.settings import add_sections, read_sections
from mdlora.config import RunConfig, load_config

Call = Callable[..., tuple[int, str, str]]


def _mdlora_help() -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from mdlora.cli.main import main; sys.exit(main())",
         "--help"], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert all(verb in done.stdout for verb in VERBS)
    return time.perf_counter() - began


def test_help_is_quick() -> None:
    assert min(_mdlora_help() for _ in range(3)) < 0.6


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from mdlora.cli.main import main; main(['--help']); "
        "print([m for m in ('torch', 'numpy', 'polars', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_version(mdlora: Call) -> None:
    assert mdlora("--version") == (0, f"mdlora {library.__version__}\n", "")


def test_no_verb_is_wrong_use(mdlora: Call) -> None:
    code, said, _ = mdlora()
    assert (code, said.startswith("usage: mdlora")) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["train"], ["--training.lr LR", "(type: float, default: 0.001)"]),
        (["train"], ["--backbone.hidden", "default: [256,128,64])", "--plan.patience"]),
        (["train"], ["(default: moe-mlora)", "(default: 1; type: int)", "(default: domain)"]),
        (["train"], ["an error. (type: int or none, default: none)"]),
        (["train"], ["once an epoch. (type: int or none)\n"]),
        (["compare"], ["--seeds", "default: 1,2,3,4,5", "--adapter.temperature"]),
        (["evaluate"], ["--replicates", "(type: int, default: 200)", "--device {auto,cpu,cuda}"]),
        (["predict"], ["RUN ROWS --out", "--which {best,last}", "--threads"]),
        (["predict"], ["--unknown-domain {backbone,error}", "(default: backbone)"]),
        ([], ["data folder: amazon, clicks, movielens, synthetic, table, taobao\n"]),
        ([], ["stream, tables, train\n"]),
        (["prepare"], ["movielens", "synthetic"]),
        (["prepare", "synthetic"], ["--rows ROWS", "default: "]),
        (["prepare", "movielens"], ["{gender,age,occupation}"]),
        (["demo"], ["--out", "(default: demo)"]),
        (["bench"], ["train"]),
    ],
)
def test_help_of_a_verb(
    arguments: list[str], wanted: list[str], mdlora: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, said, err = mdlora(*arguments, "--help")
    assert (code, err) == (0, "")
    for phrase in wanted:
        assert phrase in said
    assert "Path to a configuration file" not in said  # --config alone reads files
    assert "null" not in said
    assert "Literal" not in said
    for line in said.splitlines():
        assert line.lower().count("default: ") <= 1, line


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_settings_in_help_stand_under_short_titles(
    verb: str, mdlora: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = mdlora(verb, "--help")[1]
    titles = [line[:-1] for line in said.splitlines() if line[:1].strip() and line.endswith(":")]
    sections = ["data", "backbone", "adapter", "plan", "training"]
    assert titles == ["Example", "positional arguments", "options", *sections]
    assert "\nadapter:\n  A gated mixture of all domains' adapters (MoE-MLoRA).\n" in said
    options = said.partition("\noptions:\n")[2].partition("\ndata:\n")[0]
    for line in ("--backbone NAME", "--device {auto,cpu,cuda}", "--threads THREADS"):
        assert [shown for shown in options.splitlines() if shown.startswith(f"  {line}")]
    assert said.count("\n  --backbone NAME") == 1


def test_help_shows_the_defaults_of_a_file(
    tmp_path: Path, mdlora: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "settings.yaml"
    file.write_text("backbone: {hidden: [8, 4]}\nadapter: {rank: 3}\n", encoding="utf-8")
    said = mdlora("train", "--config", file, "--help")[1]
    assert "default: [8,4])" in said
    assert "an error. (type: int or none, default: 3)" in said


def test_config_is_complete_and_reproduces_the_run(
    trained: Path,
    folder: Path,
    tmp_path: Path,
    mdlora: Call,
    assert_same_run: Callable[[Path, Path], None],
) -> None:
    plain = yaml.safe_load((trained / "config.yaml").read_text(encoding="utf-8"))
    config = load_config(trained / "config.yaml")
    assert list(plain) == [field.name for field in fields(RunConfig)]
    for name in ("data", "backbone", "adapter", "plan", "training"):
        assert list(plain[name]) == [f.name for f in fields(getattr(config, name))]
    run = tmp_path / "again"
    assert mdlora("train", folder, "--config", trained / "config.yaml", "--out", run)[0] == 0
    assert (run / "config.yaml").read_bytes() == (trained / "config.yaml").read_bytes()
    assert_same_run(run, trained)


def test_options_win_over_the_file(folder: Path, tmp_path: Path, tiny_options: list[str]) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "method: mlora\nseed: 4\nbackbone: {name: mlp, embed_dim: 3, hidden: [8]}\n"
        "plan: {max_epochs: 0}\ntraining: {lr: 0.5, betas: [0.8, 0.9]}\n",
        encoding="utf-8",
    )
    options = ["--training.lr=0.25", "--backbone", "deepfm", "--seed=9", "--backbone.hidden=[6,5]"]
    run = tmp_path / "run"
    asked = ["train", str(folder), "--out", str(run), "--config", str(file), "--quiet"]
    assert main([*asked, *options]) == 0
    config = load_config(run / "config.yaml")
    assert (config.method, config.seed) == ("mlora", 9)
    backbone = config.backbone
    assert (backbone.name, backbone.embed_dim, backbone.hidden) == ("deepfm", 3, (6, 5))
    assert (config.training.lr, config.training.betas) == (0.25, (0.8, 0.9))
    assert (config.plan.max_epochs, config.plan.patience) == (0, 3)
    assert config.data.path == str(folder)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--backbone.hidden", "64,32"], (64, 32)),
        (["--backbone.hidden=[64,32]"], (64, 32)),
        (["--backbone.hidden=[64, 32]"], (64, 32)),
        (["--backbone.hidden", "64"], (64,)),
        (["--training.betas", "0.5,0.75"], (0.5, 0.75)),
        (["--adapter.rank", "none"], None),
        (["--adapter.rank=2"], 2),
        (["--backbone", "mlp"], "mlp"),
        (["--device=cpu"], "cpu"),
        (["--threads", "3"], 3),
    ],
)
def test_ways_to_write_a_setting(options: list[str], wanted: object, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("adapter: {rank: 5}\n", encoding="utf-8")  # so that none is another value
    parser = make_parser("train", "", "", "")
    arguments = ["--config", str(file), *options]
    config = read_sections(parse(parser, add_sections(parser, arguments)))
    name = options[0].partition("=")[0]
    short = {"--backbone": "--backbone.name", "--device": "--training.device",
             "--threads": "--training.threads"}  # fmt: skip
    section, _, key = short.get(name, name)[2:].partition(".")
    assert getattr(getattr(config, section), key) == wanted


def test_a_run_finds_its_data_from_another_folder(
    folder: Path, tmp_path: Path, mdlora: Call, tiny_options: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder.parent)
    run = tmp_path / "run"
    quick = [*tiny_options, "--plan.max_epochs=0", "--quiet"]
    assert mdlora("train", folder.name, "--out", run, *quick)[0] == 0
    assert load_config(run / "config.yaml").data.path == str(folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert mdlora("evaluate", run, "--replicates", 0)[0] == 0


def test_the_built_in_log_keeps_its_name(tmp_path: Path) -> None:
    for given, wanted in (
        ("synthetic", "synthetic"),
        ("./synthetic", str(Path("synthetic").resolve())),
    ):
        parser = make_parser("train", "", "", "")
        options = parse(parser, add_sections(parser, []))
        assert read_sections(options, path=given).data.path == wanted
