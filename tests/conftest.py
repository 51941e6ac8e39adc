from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data() -> Path:
    """The folder with the real data sets; the test is skipped where there is none."""
    folder = os.environ.get("MDLORA_DATA")
    if not folder:
        pytest.skip("needs real data: set MDLORA_DATA to the folder that holds ml-1m.zip")
    return Path(folder)
