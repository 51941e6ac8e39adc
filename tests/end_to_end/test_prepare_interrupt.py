from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import pytest

from mdlora.cli.preparing.progress import prepare_progress


def test_a_swallowed_ctrl_c_is_raised_again():
    before = signal.getsignal(signal.SIGINT)
    with prepare_progress() as show:
        show("reading", 0.1)
        with suppress(KeyboardInterrupt):  # as a library might
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(5)  # the signal comes here at the latest
        with pytest.raises(KeyboardInterrupt):
            show("writing", 0.2)
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_there_is_a_bar_all_the_same():
    shown: list[float] = []

    def work() -> None:
        with prepare_progress() as show:
            show("reading", 0.5)
            shown.append(0.5)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert shown == [0.5]
