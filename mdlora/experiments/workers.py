"""Jobs of a comparison in several processes, each with its own threads, and their progress."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Sequence
from typing import Any, Protocol

from mdlora.data import Dataset, load_dataset
from mdlora.errors import MdloraError, RunError
from mdlora.experiments.cells import Job, run_job
from mdlora.training import Progress, SilentProgress

__all__ = ["JobProgress", "SilentJobs", "run_jobs"]


class JobProgress(Protocol):
    """Told what all jobs do."""

    def for_job(self, name: str) -> Progress:
        """The progress of one job."""

    def cell(self, cell: dict[str, Any]) -> None:
        """A cell is done."""


class SilentJobs:
    """Tells nobody."""

    def for_job(self, name: str) -> Progress:
        """Silent too."""
        return SilentProgress()

    def cell(self, cell: dict[str, Any]) -> None:
        """Nothing."""


def run_jobs(
    jobs: Sequence[Job], data: Dataset, source: str, processes: int, progress: JobProgress
) -> None:
    """Run all jobs; finished cells stay finished when this is interrupted.

    Raises:
        RunError: a job failed; its error is in the message.
        KeyboardInterrupt: Ctrl-C, after each job has saved where it was.
    """
    waiting = [job for job in jobs if job.todo()]
    if min(processes, len(waiting)) <= 1:
        for job in waiting:
            for cell in run_job(job, data, progress.for_job(job.name)):
                progress.cell(cell)
        return
    context = multiprocessing.get_context("spawn")
    events: Any = context.Queue()
    tasks: Any = context.Queue()
    for job in waiting:
        tasks.put(job)
    workers = [
        context.Process(target=_work, args=(tasks, events, source), daemon=True)
        for _ in range(min(processes, len(waiting)))
    ]
    for _ in workers:
        tasks.put(None)
    for worker in workers:
        worker.start()
    try:
        _listen(workers, events, progress)
    except BaseException:
        for worker in workers:  # asked to save and end, not killed
            if worker.is_alive():
                worker.terminate()
        raise
    finally:
        for worker in workers:
            worker.join(timeout=60)


def _listen(workers: Sequence[Any], events: Any, progress: JobProgress) -> None:
    running = len(workers)
    parts: dict[str, Progress] = {}
    while running:
        try:
            kind, name, payload = events.get(timeout=1)
        except queue.Empty:
            dead = [w.exitcode for w in workers if w.exitcode not in (None, 0)]
            if dead:
                raise RunError(
                    f"A worker process died with exit code {dead[0]} (out of memory?). "
                    "Finished cells are kept: run the same command again, perhaps with --jobs 1."
                ) from None
            continue
        if kind == "end":
            running -= 1
        elif kind == "error":
            raise RunError(f"{name} failed: {payload}")
        elif kind == "cell":
            progress.cell(payload)
        else:
            part = parts.setdefault(name, progress.for_job(name))
            getattr(part, kind)(*payload)


class _Sender:
    """Progress of a worker, sent to the parent; ends the worker if the parent is gone."""

    def __init__(self, events: Any, name: str, parent: int) -> None:
        self.events, self.name, self.parent = events, name, parent
        self.rows = 0
        self.steps = 0

    def phase(self, name: str, epoch: int, total_rows: int, done_rows: int) -> None:
        self.rows = self.steps = 0
        self.events.put(("phase", self.name, (name, epoch, total_rows, done_rows)))

    def advance(self, rows: int) -> None:
        self.rows += rows
        self.steps += 1
        if self.steps % 20 == 0:
            if os.getppid() != self.parent:
                raise SystemExit("the process that started this worker is gone")
            self.events.put(("advance", self.name, (self.rows,)))
            self.rows = 0

    def note(self, text: str) -> None:
        self.events.put(("note", self.name, (text,)))


def _work(tasks: Any, events: Any, source: str) -> None:
    """A worker process: jobs until there are none. Ctrl-C reaches it through the parent."""
    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parent = os.getppid()
    name = "a worker"
    try:
        data = load_dataset(source)
        while (job := tasks.get()) is not None:
            name = job.name
            for cell in run_job(job, data, _Sender(events, job.name, parent)):
                events.put(("cell", job.name, cell))
        events.put(("end", "", None))
    except KeyboardInterrupt:
        pass
    except MdloraError as error:
        events.put(("error", name, str(error)))
    except Exception:  # noqa: BLE001 - whatever it is, the parent must hear of it
        events.put(("error", name, traceback.format_exc()))
