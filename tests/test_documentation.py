"""The documentation is true: Python runs, commands parse, links and tables are right."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import yaml

from mdlora.backbones import BACKBONES, options_of
from mdlora.cli.bench import EVERY
from mdlora.cli.main import VERBS, main
from mdlora.cli.parsing import parse
from mdlora.cli.prepare import KINDS
from mdlora.cli.settings import read_sections
from mdlora.config import (
    BackboneConfig,
    DataConfig,
    MoEMLoRA,
    Phase,
    PlanConfig,
    TrainingConfig,
    config_from_dict,
    load_config,
)
from mdlora.data import dataset
from mdlora.data.prepare import DEMO_CONFIG, SyntheticConfig
from mdlora.schema import Domain, Schema, columns_from_yaml

ROOT = Path(__file__).parents[1]
README, REFERENCE = ROOT / "README.md", ROOT / "docs" / "reference.md"
OWN_DATA = ROOT / "docs" / "bring-your-own-data.md"
FOREIGN = ROOT / "docs" / "anybodys-model.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]
SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "backbone": BackboneConfig,
    "adapter": MoEMLoRA,
    "plan": PlanConfig,
    "training": TrainingConfig,
}
TINY = SyntheticConfig(
    rows=1600, domains=3, users=25, items=20, user_fields=1, item_fields=1, size_ratio=3.0
)


class Block(NamedTuple):
    language: str
    text: str
    line: int


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    every = (Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in found)
    return [block for block in every if block.language in languages]


def prose(page: Path) -> str:
    """The page without fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def commands(page: Path) -> list[str]:
    lines = (line for block in blocks(page, "bash") for line in block.text.splitlines())
    return [line for line in lines if line.strip()]


def with_blocks(*languages: str) -> list[Any]:
    chosen = [page for page in PAGES if blocks(page, *languages)]
    return [pytest.param(page, id=page_id(page)) for page in chosen]


class Parsed(Exception):  # noqa: N818 - not an error: it carries what a verb parsed
    def __init__(self, parser: Any, options: Any) -> None:
        self.parser, self.options = parser, options


def take_parser(parser: Any, arguments: list[str]) -> None:
    raise Parsed(parser, None)


def take_options(parser: Any, arguments: list[str]) -> None:
    raise Parsed(parser, parse(parser, arguments))


def run_verb(arguments: list[str], take: Any, monkeypatch: pytest.MonkeyPatch) -> Parsed:
    """Run a verb up to where it has parsed its arguments."""
    verb, *rest = arguments
    assert verb in VERBS, f"no verb {verb!r}"
    module = importlib.import_module(f"mdlora.cli.{verb}")
    parsing = module
    if verb == "prepare":
        parsing = importlib.import_module(f"mdlora.cli.preparing.{rest[0]}")
    monkeypatch.setattr(parsing, "parse", take)
    with pytest.raises(Parsed) as caught:
        module.run(rest)
    return caught.value


def known_options(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The options of each command, by its name in the reference."""
    found = {}
    preparing = [f"prepare {kind}" for kind in KINDS]
    measuring = [f"bench {case}" for case in EVERY]
    for name in ("demo", "schema infer", *preparing, "train", "evaluate", "predict", "compare",
                 "league", "models", *measuring):  # fmt: skip
        parser = run_verb(name.split(), take_parser, monkeypatch).parser
        offered = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        options = {o for a in offered for o in a.option_strings if o.startswith("--")}
        found[name] = options - {"--help"}
    return found


@pytest.fixture
def tiny_synthetic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small log in place of the built-in one, so that whole trainings take a moment."""
    monkeypatch.setattr(dataset, "DEMO_CONFIG", TINY)
    dataset._synthetic.cache_clear()
    yield
    dataset._synthetic.cache_clear()


@pytest.mark.usefixtures("tiny_synthetic")
@pytest.mark.parametrize("page", with_blocks("python"))
def test_python_runs(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
):
    monkeypatch.chdir(tmp_path)
    if page == FOREIGN:
        request.getfixturevalue("deepctr_layers")
        request.getfixturevalue("torch_rechub")
    names: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks(page, "python"):
        source = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's line
        exec(compile(source, str(page), "exec"), names)


def test_bring_your_own_data_from_csv_to_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The page's own lines, in order, on fewer rows and in one process."""
    monkeypatch.chdir(tmp_path)
    (made,) = blocks(OWN_DATA, "python")
    exec(
        made.text.replace(
            "rows, users, items = 20_000, 200, 100", "rows, users, items = 1500, 20, 30"
        ),
        {},
    )
    assert Path("clicks.csv").read_text().count("\n") == 1501
    (edited,) = blocks(OWN_DATA, "yaml")
    for line in commands(OWN_DATA):
        program, *arguments = shlex.split(line)
        if arguments[0] == "compare":
            arguments += ["--jobs", "1", "--plan.max_epochs", "1"]
        assert (program, main(arguments)) == ("mdlora", 0), line
        shown = capsys.readouterr().out
        if arguments[0] == "schema":
            assert "Check: No domain was found" in shown
            proposed = columns_from_yaml(Path("schema.yaml").read_text(encoding="utf-8"))
            meant = tuple(Domain("page") if c.name == "page" else c for c in proposed)
            assert meant == columns_from_yaml(edited.text)
            Path("schema.yaml").write_text(edited.text, encoding="utf-8")
    cells = json.loads(Path("results/shop/results.json").read_text())["cells"]
    assert {cell["seed"] for cell in cells} == {1, 2, 3, 4, 5}
    assert len(cells) == 4 * 5
    scores = pq.read_table("scores.parquet")
    assert (scores.num_rows, scores.column_names[-1]) == (1500, "score")


@pytest.mark.parametrize("page", with_blocks("bash"))
def test_commands_parse(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "yaml"):
        named = re.match(r"# (\S+\.yaml)\n", block.text)
        assert named, f"line {block.line}: begin the YAML with a comment that names its file"
        Path(named[1]).write_text(block.text, encoding="utf-8")
    for line in commands(page):
        program, *arguments = shlex.split(line, comments=True)
        if program != "mdlora":
            assert program in ("make", "pip"), line
            continue
        parsed = run_verb(arguments, take_options, monkeypatch)
        if arguments[0] in ("train", "compare"):  # values are checked as well as names
            method = parsed.options.get("method")
            read_sections(parsed.options, method=method, path="anywhere")


@pytest.mark.parametrize(
    "line", ["train DATA --out RUN --adapter.topk 2", "compare DATA --out R --plan.patience no"]
)
def test_the_check_of_commands_can_fail(line: str, monkeypatch: pytest.MonkeyPatch):
    module = importlib.import_module(f"mdlora.cli.{line.split()[0]}")
    monkeypatch.setattr(module, "parse", take_options)
    with pytest.raises(ValueError, match=r"Did you mean '--adapter\.top_k'|plan\.patience"):
        module.run(line.split()[1:])


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_option_exists(page: Path, monkeypatch: pytest.MonkeyPatch):
    by_command = known_options(monkeypatch)
    known = set().union(*by_command.values()) | {"--help", "--version", "--SECTION.KEY"}
    known.add("--backbone.options.KEY")
    for span in spans(page):
        given = set(re.findall(r"(?<!\S)--[A-Za-z][\w.-]*", span))
        if span.startswith("pip "):
            continue
        words = span.split()
        if words[0] == "mdlora" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in VERBS, span
            mine = [o for name, o in by_command.items() if name.split()[0] == words[1]]
            assert given <= set().union(*mine), span
        assert given <= known, (span, difflib.get_close_matches(min(given), known))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_setting_exists(page: Path):
    for span in spans(page):
        for section, key in re.findall(r"(?<![\w./])(\w+)\.(\w+)", span):
            if section in SECTIONS and not span.startswith(("data/", "docs/")):
                names = {field.name for field in dataclasses.fields(SECTIONS[section])}
                assert key in names, span


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_name_exists(page: Path):
    for span in spans(page):
        for dotted in re.findall(r"(?<![\w/.])mdlora(?:\.\w+)+(?!\w*/)", span):
            parts = dotted.split(".")
            found: Any = importlib.import_module("mdlora")
            for depth, part in enumerate(parts[1:], 2):
                if not hasattr(found, part):
                    with contextlib.suppress(ModuleNotFoundError):
                        importlib.import_module(".".join(parts[:depth]))
                assert hasattr(found, part), f"{dotted}: no {part}"
                found = getattr(found, part)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_path_exists(page: Path):
    """Paths of the repository, and `make` targets, that are named in code."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for span in spans(page):
        if re.fullmatch(r"(mdlora|tests|benchmarks)/[\w/.-]*", span):
            assert (ROOT / span.replace("NAME.py", "")).exists(), span
    for command in (*spans(page), *commands(page)):
        if command.startswith("make "):
            assert command.split()[1] in targets, command


def slugs(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path):
    text = prose(page)
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in found:
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in slugs(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", with_blocks("yaml", "json"))
def test_examples_of_files_load(page: Path, tmp_path: Path):
    for block in blocks(page, "yaml"):
        if "\ncolumns:" in block.text:
            assert columns_from_yaml(block.text)
            continue
        path = tmp_path / "example.yaml"
        path.write_text(block.text, encoding="utf-8")
        config = load_config(path)
        assert config == config_from_dict(yaml.safe_load(block.text))
        assert config != config_from_dict({}), f"line {block.line}: nothing but defaults"
    for block in blocks(page, "json"):
        schema = Schema.from_json(block.text)
        assert json.loads(schema.to_json()) == json.loads(block.text)


def tables(page: Path) -> dict[str, list[list[str]]]:
    """Rows of the tables under each heading, without their heads; cells as they stand."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in prose(page).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|") and not line.startswith("|---"):
            found.setdefault(heading, []).append([c.strip() for c in line.strip("| ").split(" | ")])
    return found


def shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


def documented(rows: list[list[str]], prefix: str = "") -> dict[str, str]:
    found = {}
    for row in rows:
        name = re.fullmatch(rf"`{prefix}(\w+)`", row[0])
        if name:
            found[name[1]] = row[1].strip("`")
    return found


def shown_default(field: dataclasses.Field[object]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return shown(field.default_factory())
    return "" if field.default is dataclasses.MISSING else shown(field.default)


@pytest.mark.parametrize("section", [*SECTIONS, "A plan of your own"])
def test_settings_are_documented_with_their_defaults(section: str):
    kind = SECTIONS.get(section, Phase)
    wanted = {f.name: shown_default(f) for f in dataclasses.fields(kind)}
    assert documented(tables(REFERENCE)[section]) == wanted


def test_options_of_backbones_are_documented_with_their_defaults():
    both = [tables(REFERENCE)[name][1:] for name in ("Backbones", "Multi-domain methods")]
    for name, _, *cells in [*both[0], *both[1]]:  # without empty cells at the end
        wanted = options_of(BACKBONES[name.strip("`")])
        assert re.findall(r"`(\w+=.+?)`", " ".join(cells)) == [
            f"{key}={shown(option.default)}" for key, option in wanted.items()
        ], name


def test_synthetic_knobs_are_documented_with_their_defaults():
    knobs = documented(tables(REFERENCE)["mdlora prepare synthetic"], "--")
    assert {name: default for name, default in knobs.items() if name not in ("out", "json")} == {
        field.name: shown(field.default) for field in dataclasses.fields(SyntheticConfig)
    }


def test_the_built_in_log_is_documented_as_it_is():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    log = DEMO_CONFIG
    numbers = f"{log.rows:,} rows, {log.domains} domains, {log.users:,} users, {log.items:,} items"
    assert f"{numbers}, size ratio {log.size_ratio:g} and seed {log.seed}" in " ".join(text.split())
    told = {"rows", "domains", "users", "items", "size_ratio", "seed"}
    others = (f for f in dataclasses.fields(log) if f.name not in told)
    assert all(getattr(log, f.name) == f.default for f in others), "name the other knobs too"


def test_every_option_is_documented(monkeypatch: pytest.MonkeyPatch):
    by_heading = tables(REFERENCE)
    for command, options in known_options(monkeypatch).items():
        rows = by_heading[f"mdlora {command}"]
        there = {o for row in rows for o in re.findall(r"`(--[\w.-]+)`", row[0])}
        settings = {o for o in options if "." in o and o.partition(".")[0][2:] in SECTIONS}
        if command in ("train", "compare", "models"):
            assert "--SECTION.KEY" in there
            options -= settings
        if command in ("train", "compare"):
            options |= {"--backbone"}
        assert options == there - {"--SECTION.KEY"}, command


def test_every_command_is_listed():
    assert [row[0] for row in tables(REFERENCE)["Commands"][1:]] == [f"`mdlora {v}`" for v in VERBS]


def test_readme_has_a_place_for_each_result():
    text = README.read_text(encoding="utf-8")
    for name in ("ml1m", "synthetic", "speed"):
        assert re.search(rf"<!-- results:{name} -->\n.*?<!-- /results:{name} -->", text, re.DOTALL)
