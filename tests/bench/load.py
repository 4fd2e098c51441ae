"""The load generator beside smtp-source(1) and smtpbench, and what a session costs it.

The same work for both, in turn, from the same host: so many sessions at once, one
message a session, the same sizes, into the same real Postfix and into smtp-sink(1).
Postfix puts what it takes on hold: deliveries would go on when the faster one's run is
over, and would be missing in its time. A ratio above 1 says that more messages a second
were acknowledged to ours. One run of each comes first and is not counted, since it
starts the server's processes; the two then take turns in going first. smtpbench (PyPI)
does the same work with a thread a session. postal(8) does not: it sends for whole
minutes until it is killed, at a rate, and not so many messages.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from maillab import lab as labs
from maillab import topology
from maillab.engine import compose
from maillab.engine.watchdog import Watchdog
from maillab.lab import Lab

PAIRS, PAIRS_WITH_SLOW = 15, 3
SESSIONS, MESSAGES, SIZE_BYTES = 100, 2000, 1000
# Two loads that differ only in their sessions, so that what differs is theirs.
FEW, MANY = 100, 600
Rate = Callable[[Lab], float]
LIMITS = {
    "default_process_limit": "1500",
    "smtpd_client_connection_count_limit": "0",
    # All smtpd(8) wear out at once otherwise, and one run pays for what another wore out.
    "max_use": "100000",
    "smtpd_client_restrictions": "check_client_access static:hold",
}


def measure(version: str) -> Iterator[tuple[str, list[float]]]:
    """Ratios of messages a second, ours to smtp-source's; memory in kB a session."""
    with_workers = {"load_vs_smtp_source": 1, "load_2_workers_vs_smtp_source": 2}
    watchdog = Watchdog(compose.owner())
    running = labs.start(topology.load("standalone"), version)
    try:
        running.mail.configure(**LIMITS)
        for name, workers in with_workers.items():
            yield f"{name}_postfix", _pairs(running, workers)
        yield "load_vs_smtpbench_postfix", _beside_smtpbench(running)
        yield "load_kb_a_session", [_memory(running)]
        running.drain()
        running.mail.stop()
        address = running.mail.address
        sink = f"setsid smtp-sink -u postfix {address}:25 1000 >/dev/null 2>&1 </dev/null &"
        listens = f"until (: </dev/tcp/{address}/25) 2>/dev/null; do sleep 0.01; done"
        running.mail.run("bash", "-c", f"{sink} {listens}")
        for name, workers in with_workers.items():
            yield f"{name}_sink", _pairs(running, workers)
    finally:
        running.down()
        watchdog.dismiss()


def _pairs(running: Lab, workers: int) -> list[float]:
    return _in_turn(running, lambda lab: _ours(lab, workers), _smtp_source, PAIRS)


def _in_turn(running: Lab, ours: Rate, theirs: Rate, pairs: int) -> list[float]:
    """Ratios of the two rates; the one that begins a pair is the other one's next time."""
    ratios = []
    for pair in range(1 + pairs):
        rates = {}
        for send in (ours, theirs) if pair % 2 else (theirs, ours):
            rates[send] = send(running)
            running.drain()
            running.mail.run("postsuper", "-d", "ALL")
        ratios.append(rates[ours] / rates[theirs])
    return ratios[1:]


def _ours(running: Lab, workers: int) -> float:
    report = running.load(
        running.mail,
        running.remote,
        sessions=SESSIONS,
        messages=MESSAGES,
        sizes_bytes=SIZE_BYTES,
        recipients=["alice@mail.example.com"],
        workers=workers,
    )
    return report.rate_per_s


def _smtp_source(running: Lab) -> float:
    began = time.perf_counter()
    running.remote.run(
        "smtp-source",
        *("-s", str(SESSIONS), "-m", str(MESSAGES), "-l", str(SIZE_BYTES)),
        *("-f", "load@remote.example.net", "-t", "alice@mail.example.com"),
        f"inet:{running.mail.address}:25",
        timeout_s=300,
    )
    return MESSAGES / (time.perf_counter() - began)


def _beside_smtpbench(running: Lab) -> list[float]:
    """Pairs with smtpbench; it is fetched for this, as no image of ours has it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"),
                *("--target", folder, "smtpbench"),
            ],
            check=True,
        )
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as packed:
            for file in Path(folder).rglob("*.py"):
                packed.write(file, file.relative_to(folder))
    running.remote.write("/tmp/smtpbench.zip", archive.getvalue().decode("latin-1"))  # noqa: S108  # in the lab
    return _in_turn(running, lambda lab: _ours(lab, 1), _smtpbench, PAIRS_WITH_SLOW)


def _smtpbench(running: Lab) -> float:
    began = time.perf_counter()
    running.remote.run(
        *("env", "-C", "/tmp", "PYTHONPATH=/tmp/smtpbench.zip", "python3", "-m", "smtpbench"),  # noqa: S108  # in the lab
        *("recipient=alice@mail.example.com", "from_address=load@remote.example.net"),
        "dotenv_path=/dev/null",
        *(f"lb_host={running.mail.address}", "port=25", "tls_mode=none"),
        *(f"threads={SESSIONS}", f"messages={MESSAGES // SESSIONS}"),
        timeout_s=300,
    )
    return MESSAGES / (time.perf_counter() - began)


def _memory(running: Lab) -> float:
    """How much more a generator with many sessions held open had than one with few."""
    few, many = (
        running.load(running.mail, running.remote, sessions=count, messages=count, held=True).rss_kb
        for count in (FEW, MANY)
    )
    return (many - few) / (MANY - FEW)
