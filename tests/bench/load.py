"""The load generator against smtp-source(1) and smtpbench, and the cost of a session.

Both do the same work, in turn, from the same host: the same number of concurrent sessions, one
message per session, the same sizes, to the same real Postfix and to smtp-sink(1). Postfix puts
the mail on hold: otherwise, deliveries would continue after the faster program's run, and would
be missing from its time. A ratio above 1 means that our messages were acknowledged at a higher
rate. The first run of each starts the server's processes and does not count; after that, the
two take turns in going first. smtpbench (PyPI) does the same work with a thread per session.
postal(8) does not: it sends at a rate for whole minutes until it is killed, and not a given
number of messages.

Wall times need an idle machine. The CPU time of the two senders depends on it less. It is
that of their containers, from before the program starts until its report is there.
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

from maillab.engine import compose
from maillab.engine.watchdog import Watchdog
from maillab.hosts.command import Done
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.site import topology

PAIRS, PAIRS_WITH_SLOW = 15, 3
SESSIONS, MESSAGES, SIZE_BYTES = 100, 2000, 1000
# So many that Python's start counts for little.
CPU_PAIRS, CPU_MESSAGES = 5, 10_000
# In nanoseconds with cgroups v1, in microseconds with v2; only ratios are used.
CPU_TIME = (
    "cat /sys/fs/cgroup/cpuacct/cpuacct.usage || "
    "awk '/^usage_usec/{print $2}' /sys/fs/cgroup/cpu.stat"
)
# Two loads that differ only in their sessions, so that a difference is due to these.
FEW, MANY = 100, 600
Rate = Callable[[Lab], float]
LIMITS = {
    "default_process_limit": "1500",
    "smtpd_client_connection_count_limit": "0",
    # Otherwise all smtpd(8) reach max_use at once, and one run pays for another one's use.
    "max_use": "100000",
    "smtpd_client_restrictions": "check_client_access static:hold",
}


def measure(version: str) -> Iterator[tuple[str, list[float]]]:
    """Yield ratios of messages per second, ours to smtp-source's; memory in kB per session."""
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
        yield "load_cpu_vs_smtp_source_sink", _cpu_times(running)
    finally:
        running.down()
        watchdog.dismiss()


def _pairs(running: Lab, workers: int) -> list[float]:
    return _in_turn(running, lambda lab: _ours(lab, workers), _smtp_source, PAIRS)


def _in_turn(running: Lab, ours: Rate, theirs: Rate, pairs: int) -> list[float]:
    """Return the ratios of the two rates; each of the two goes first every other time."""
    ratios = []
    for pair in range(1 + pairs):
        rates = {}
        for send in (ours, theirs) if pair % 2 else (theirs, ours):
            rates[send] = send(running)
            running.drain()
            running.mail.run("postsuper", "-d", "ALL")
        ratios.append(rates[ours] / rates[theirs])
    return ratios[1:]


def _cpu_times(running: Lab) -> list[float]:
    """Return ratios of the CPU time that the two senders take."""

    def used(send: Callable[[], object], run: Callable[..., Done]) -> int:
        def total() -> int:
            return int(run("sh", "-c", CPU_TIME).stdout)

        before = total()
        send()
        return total() - before

    host = running.remote
    ratios = []
    for _ in range(CPU_PAIRS):
        # The generator runs in the host's agent, smtp-source beside its Postfix.
        ours = used(lambda: _ours(running, 1, CPU_MESSAGES), host.network.run)
        theirs = used(lambda: _smtp_source(running, CPU_MESSAGES), host.run)
        ratios.append(ours / theirs)
    return ratios


def _ours(running: Lab, workers: int, messages: int = MESSAGES) -> float:
    report = running.load(
        running.mail,
        running.remote,
        sessions=SESSIONS,
        messages=messages,
        sizes_bytes=SIZE_BYTES,
        recipients=["alice@mail.example.com"],
        workers=workers,
    )
    return report.rate_per_s


def _smtp_source(running: Lab, messages: int = MESSAGES) -> float:
    began = time.perf_counter()
    running.remote.run(
        "smtp-source",
        *("-s", str(SESSIONS), "-m", str(messages), "-l", str(SIZE_BYTES)),
        *("-f", "load@remote.example.net", "-t", "alice@mail.example.com"),
        f"inet:{running.mail.address}:25",
        timeout_s=300,
    )
    return messages / (time.perf_counter() - began)


def _beside_smtpbench(running: Lab) -> list[float]:
    """Return ratios to smtpbench, which is downloaded for this: no image of ours has it."""
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
    """Return the additional memory of a generator per additional session held open, in kB."""
    few, many = (
        running.load(running.mail, running.remote, sessions=count, messages=count, held=True).rss_kb
        for count in (FEW, MANY)
    )
    return (many - few) / (MANY - FEW)
