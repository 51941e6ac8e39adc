from __future__ import annotations

import pytest

from mdlora.compiled import has_numba


@pytest.fixture(autouse=True)
def _needs_numba():
    if not has_numba():
        pytest.skip("numba is not installed (pip install mdlora[fast]), or MDLORA_NUMBA is 0")
