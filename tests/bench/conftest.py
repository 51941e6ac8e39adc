"""What tests of benchmarks share."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


@pytest.fixture(scope="session")
def peers() -> None:
    """The test is skipped where the libraries that we are measured beside are not installed."""
    for name in ("deepctr_torch", "torch_rechub"):
        if find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install -e '.[bench]'")
