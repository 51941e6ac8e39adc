"""Rows of many domains through their own adapters: ours, and PEFT's LoRA with `adapter_names`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, adapt
from mdlora.bench.case import BenchCase
from mdlora.bench.results import cases_table, compare_spreads, describe_run
from mdlora.bench.timing import Epoch, step_times, time_rounds
from mdlora.config import MLoRA, check_count
from mdlora.errors import MissingExtraError
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.environment import use_threads

__all__ = ["CASE", "peft_table", "run_peft_bench"]

_WIDTHS = (24, 256, 128, 64, 1)
_RANK = 4
_OURS, _PEFT = "mdlora", "PEFT"
_BARS = {64: 10.0, 1024: 6.0, 8192: 6.0}


def run_peft_bench(
    *,
    batches: tuple[int, ...] = (64, 1024, 8192),
    domains: int = 30,
    calls: int = 20,
    runs: int = 5,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure scoring rows of mixed domains, each by its own adapters of rank 4.

    Both get the same tower, 24-256-128-64-1, with the same weights, and their outputs must be the
    same. PEFT takes mixed batches in evaluation only.

    Args:
        batches: rows of a call.
        domains: how many.
        calls: of a measurement.
        runs: rounds; the medians count.
        threads: CPU threads of both.
        progress: told of each measurement.

    Returns:
        As `run_train_bench`.

    Raises:
        MissingExtraError: PEFT is not installed.
        ConfigError: a number is below 1.
    """
    for size in batches:
        check_count("batches", size, low=1)
    for name, value in {"domains": domains, "calls": calls, "runs": runs}.items():
        check_count(name, value, low=1)
    check_count("threads", threads, low=1)
    package = _load_peft()
    progress = progress or SilentProgress()
    adapted = _adapted(domains)
    theirs = _wrapped(package, adapted)
    with use_threads(threads), torch.no_grad():
        found = {size: _measure(adapted, theirs, size, calls, runs, progress) for size in batches}
    return {
        "cases": [{**case, "threads": threads} for case in _cases(found, domains)],
        **describe_run(threads, "torch", "numpy", "peft"),
        "runs": runs,
        "spread": {
            f"{size} rows {name}": spread
            for size, by_name in found.items()
            for name, spread in by_name.items()
        },
    }


def peft_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"Calls a CPU second: medians of {result['runs']} runs "
        f"({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _load_peft() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import peft
    except ImportError as error:
        raise MissingExtraError(
            f"The comparison needs PEFT, which cannot be imported ({error}). "
            "Install it with: pip install mdlora[bench]"
        ) from error
    return peft


def _adapted(domains: int) -> AdaptedModel:
    """Our tower, its adapters as if they had learnt."""
    layers: list[nn.Module] = []
    draw = torch.Generator().manual_seed(1)
    for size_in, size_out in pairwise(_WIDTHS):
        layers += [nn.Linear(size_in, size_out), nn.ReLU()]
    config = MLoRA(num_domains=domains, rank=_RANK, layer_ranks={"6": 1}, bias=False)
    adapted = adapt(nn.Sequential(*layers[:-1]), config, targets="*")
    for parameter in adapted.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=draw)
    return adapted.eval()


def _wrapped(package: Any, adapted: AdaptedModel) -> Any:
    """The same tower and adapters in PEFT; adapter d's name is str(d)."""
    plain = copy.deepcopy(adapted).unwrap()
    config = package.LoraConfig(
        r=_RANK,
        lora_alpha=_RANK,
        rank_pattern={"6": 1},
        alpha_pattern={"6": 1},
        target_modules=list(adapted.target_names),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = package.PeftModel(plain, config, adapter_name="1")
        for d in range(2, adapted.num_domains + 1):
            model.add_adapter(str(d), config)
    for index, name in enumerate(adapted.target_names):
        layer = model.base_model.model.get_submodule(name)
        bank: Any = adapted.bank_of(index)
        for d in range(adapted.num_domains):
            layer.lora_A[str(d + 1)].weight.data = bank.down[d].data.clone()
            layer.lora_B[str(d + 1)].weight.data = bank.up[d].data.T.clone()
    return model.eval()


def _measure(
    adapted: AdaptedModel, theirs: Any, size: int, calls: int, runs: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Calls a CPU second by name."""
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(size, _WIDTHS[0], generator=draw)
    domain = torch.randint(1, adapted.num_domains + 1, (size,), generator=draw)
    names = [str(d) for d in domain.tolist()]
    ours = partial(adapted, x, domain=domain)
    peft = partial(theirs, x, adapter_names=names)
    torch.testing.assert_close(ours(), peft(), rtol=1e-4, atol=1e-4)
    epochs = {
        _OURS: Epoch(_repeat(ours, calls), calls, 1),
        _PEFT: Epoch(_repeat(peft, calls), calls, 1),
    }
    progress.note(f"{size:,} rows")
    seconds = time_rounds(epochs, runs, progress, warm_up=True)
    found = {name: step_times(epochs[name], took, 1e3) for name, took in seconds.items()}
    for spread in found.values():
        spread["values"] = [1e3 / value for value in spread["values"]]
        spread.update(
            median=1e3 / spread["median"], min=1e3 / spread["max"], max=1e3 / spread["min"]
        )
    return found


def _repeat(call: Callable[[], Tensor], calls: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(calls):
            call()

    return run


def _cases(
    found: Mapping[int, Mapping[str, dict[str, Any]]], domains: int
) -> Iterator[dict[str, Any]]:
    for size, by_name in found.items():
        bar = _BARS.get(size)
        yield compare_spreads(
            f"{size:,} rows of {domains} domains",
            by_name[_OURS],
            _PEFT,
            by_name[_PEFT],
            "calls per CPU second",
            bar=None if bar is None else ("at_least", bar),
        )


CASE = BenchCase(
    about="Rows of 30 mixed domains through a tower with adapters of rank 4, in evaluation, beside "
    "PEFT's LoRA with adapter_names.",
    example="mdlora bench peft --batches 64,1024 --json peft.json",
    run=run_peft_bench,
    table=peft_table,
    options={
        "batches": "rows of a call",
        "domains": "domains",
        "calls": "calls of a measurement",
        "runs": "rounds; medians count",
        "threads": "CPU threads of both",
    },
    small={"batches": (8,), "domains": 3, "calls": 1, "runs": 1},
)
