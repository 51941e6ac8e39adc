from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mdlora

PACKAGE = Path(mdlora.__file__).parent

# A module imports only from groups to its left; names in one group ignore each other.
ORDER: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("files", "seeds", "version"),  # leaf helpers
    ("types", "compiled"),
    ("config",),
    ("schema", "layers", "metrics"),
    ("adapters",),
    ("data", "embeddings", "backbones"),
    ("fast_scorer",),
    ("row_scorer",),
    ("model",),
    ("domain_models",),
    ("evaluation",),
    ("training",),
    ("reports",),
    ("export", "serving", "experiments", "bench"),
    ("cli",),
)
GROUP = {name: place for place, names in enumerate(ORDER) for name in names}
TOP = ("__init__", "__main__")  # the public face and `python -m mdlora` may import everything


def imported(source: str) -> set[str]:
    """The parts of mdlora that a file imports, at its top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            module = node.module or ""
            names = [f"mdlora.{a.name}" for a in node.names] if module == "mdlora" else [module]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "mdlora":
                found.add(rest.partition(".")[0] or "__init__")
    return found


def offences(part: str, source: str) -> list[str]:
    """Imports that the order forbids in a file of `part`."""
    allowed = {name for name, place in GROUP.items() if place < GROUP[part]} | {part}
    return sorted(imported(source) - allowed)


FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path):
    part = part_of(path)
    if part in TOP:
        return
    assert part in GROUP, f"{part} has no place in ORDER"
    assert offences(part, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("part", "line", "bad"),
    [
        ("adapters", "from mdlora.backbones import WDL", ["backbones"]),
        ("metrics", "import mdlora.layers.mlp", ["layers"]),  # the same group
        ("config", "def f():\n    from mdlora.model import CTRModel", ["model"]),
        ("layers", "import mdlora", ["__init__"]),
        ("types", "from mdlora import config", ["config"]),
        ("training", "from mdlora.evaluation import x\nfrom mdlora.training.plan import y", []),
        ("metrics", "from mdlora.seeds import derive_seed\nimport torch", []),
    ],
)
def test_the_check_sees_what_it_should(part: str, line: str, bad: list[str]):
    assert offences(part, line) == bad


def test_configuration_needs_no_torch():
    for path in (PACKAGE / "config").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [n for n in names if n.partition(".")[0] == "torch"], path


def test_importing_mdlora_loads_no_heavy_libraries():
    code = (
        "import sys, mdlora, mdlora.model, mdlora.training\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules}"
        " & {'matplotlib', 'polars', 'pandas'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == ""
