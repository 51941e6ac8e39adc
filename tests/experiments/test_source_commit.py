from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mdlora.experiments.claim import source_commit


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("GIT_")]:
        monkeypatch.delenv(name)

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        asked = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    assert source_commit(tmp_path) is None  # no commit yet
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    assert source_commit(tmp_path) == git("rev-parse", "HEAD")
    # An installed package is not the source of the repository that it happens to lie in.
    inner = tmp_path / "site-packages"
    inner.mkdir()
    assert source_commit(inner) is None
    monkeypatch.setenv("PATH", str(inner))
    assert source_commit(tmp_path) is None  # no git
