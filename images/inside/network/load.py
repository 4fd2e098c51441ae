"""Starts and watches the load generator's worker processes (loadgen.py)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import loadgen
from operations import Handles, operation

LINE_BYTES_MAX = 16 * 1024 * 1024
ENDED_WITHIN_S = 10.0


class Workers:
    """The workers of one load, what they told last, and their messages in the end."""

    def __init__(self) -> None:
        self.workers: list[asyncio.subprocess.Process] = []
        self.readers: list[asyncio.Task[None]] = []
        self.told: list[dict[str, Any]] = []
        self.messages: list[Any] = []
        self.ended = 0
        # What a worker refuses to do, and how one ended that was not to end.
        self.error = ""
        self.died = ""

    async def start(self, plans: list[dict[str, Any]]) -> None:
        """Start one process for each plan."""
        for plan in plans:
            with tempfile.NamedTemporaryFile("w", suffix=".plan", delete=False) as file:
                json.dump(plan, file)
            worker = await asyncio.create_subprocess_exec(
                *(sys.executable, loadgen.__file__, file.name),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES_MAX,
            )
            self.workers.append(worker)
            self.told.append({})
            self.readers.append(
                asyncio.ensure_future(self.listen(len(self.told) - 1, worker, Path(file.name)))
            )

    async def listen(self, place: int, worker: asyncio.subprocess.Process, plan: Path) -> None:
        """Take in what a worker tells until it ends."""
        if worker.stdout is None:
            raise RuntimeError("a worker without output")
        finished = False
        while line := await worker.stdout.readline():
            told = json.loads(line)
            if "messages" in told:
                self.messages += told["messages"]
            elif "error" in told:
                self.error = told["error"]
            elif "end" in told:
                finished = True
            else:
                self.told[place] = told
        await worker.wait()
        plan.unlink()
        if not finished and not self.error:
            self.died = f"a worker of the load generator ended with status {worker.returncode}"
        self.ended += 1

    def say(self, line: bytes) -> None:
        """Say something to all workers."""
        for worker in self.workers:
            if worker.stdin is not None and worker.returncode is None:
                worker.stdin.write(line)

    def status(self) -> dict[str, Any]:
        """How it stands, all workers together."""
        totals: dict[str, Counter[str]] = {}
        for name in ("counts", "replies", "unopened"):
            totals[name] = Counter()
            for one in self.told:
                totals[name].update(one.get(name, {}))
        return {
            "open": sum(one.get("open", 0) for one in self.told),
            "given": sum(one.get("given", 0) for one in self.told),
            "behind": sum(one.get("behind", 0) for one in self.told),
            "ready": all(one.get("ready", False) for one in self.told),
            "rss_kb": sum(one.get("rss_kb", 0) for one in self.told),
            **totals,
            "ended": self.ended == len(self.workers),
            "error": self.error,
            "died": self.died,
        }

    async def end(self) -> None:
        """Have every worker end now, tell what it did, and be gone."""
        for worker in self.workers:
            if worker.stdin is not None:
                worker.stdin.close()
        _, late = await asyncio.wait(self.readers, timeout=ENDED_WITHIN_S)
        for worker in self.workers if late else []:
            if worker.returncode is None:
                worker.kill()
        await asyncio.gather(*self.readers)


async def _end(workers: Workers) -> dict[str, Any]:
    await workers.end()
    return {"messages": workers.messages, "status": workers.status()}


_loads: Handles[Workers] = Handles(__name__, _end)


@operation(cores=1)
async def load_cores() -> dict[str, Any]:
    """Return the number of cores that the workers may use."""
    return {"cores": len(os.sched_getaffinity(0))}


@operation(load=0)
async def load_start(plans: list[dict[str, Any]]) -> dict[str, Any]:
    """Start a load's workers; they send nothing yet."""
    workers = Workers()
    number = _loads.add(workers)
    await workers.start(plans)
    return {"load": number}


@operation()
async def load_go(load: int) -> dict[str, Any]:
    """Let them send."""
    _loads[load].say(b"go\n")
    return {}


@operation(
    open=0,
    given=0,
    behind=0,
    ready=True,
    rss_kb=0,
    counts={},
    replies={},
    unopened={},
    ended=True,
    error="",
    died="",
)
async def load_status(load: int) -> dict[str, Any]:
    """How it stands."""
    return _loads[load].status()


@operation(messages=[], status={})
async def load_stop(load: int) -> dict[str, Any]:
    """End it, finished or not; returns every message there was."""
    if load not in _loads:
        return {"messages": [], "status": {}}
    messages_and_status: dict[str, Any] = await _loads.undo(load)
    return messages_and_status
