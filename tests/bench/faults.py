"""The cost of a fault: to apply and to lift each, an agent's command, the userspace queue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.lab import timed
from maillab import faults
from maillab.engine import compose
from maillab.engine.watchdog import Watchdog
from maillab.hosts.host import Fault, Host
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.site import topology

FAULT_RUNS = 5
COMMAND_RUNS = 200
PAIRS = 9
STREAM_BYTES = 64 << 20
PORT = 4000

# Receives this amount from the other end, and prints the time.
SINK = """
import socket, sys
with socket.create_server(("", int(sys.argv[1]))) as server:
    print("ready", flush=True)
    with server.accept()[0] as peer:
        while peer.recv(1 << 20): pass
        peer.sendall(b"!")
"""
SOURCE = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60) as peer:
    began = time.perf_counter()
    left, block = int(sys.argv[3]), bytes(1 << 20)
    while left > 0: peer.sendall(block); left -= len(block)
    peer.shutdown(socket.SHUT_WR)
    peer.recv(1)
    print(time.perf_counter() - began)
"""
UNTIL_IT_LISTENS = """
import socket, sys
while True:
    try: socket.create_connection((sys.argv[1], int(sys.argv[2]))).close(); break
    except ConnectionRefusedError: pass
"""


def all_faults(lab: Lab) -> dict[str, tuple[Host, Fault]]:
    """Return one of each fault, and the host for which it is made."""
    receiver, router = lab.receiver, lab.hosts["router"]
    peer, name = lab.sender.address, "example.org"
    on_receiver: list[Fault] = [
        faults.ExtensionRewriter("SIZE"), faults.StarttlsStripper(), faults.Pix(),
        faults.DeadNameserver(), faults.DnsAnswer(name, rcode="SERVFAIL"),
        faults.DnsDelay(name, delay_s=1), faults.DnsDrop(name), faults.DnsTruncated(name),
        faults.Dialup(), faults.DiskFull(), faults.InodesGone(), faults.Greeting("421 busy"),
        faults.DaemonKilled("smtpd"), faults.DaemonFrozen("qmgr"), faults.HostFrozen(),
        faults.HostCrashed(),
        faults.Netem(delay_s=0.01), faults.Netem(delay_s=0.01, direction="out"),
        faults.OpenFilesLimit(200), faults.ProcessLimit(50), faults.Partition(),
        faults.Refused(), faults.SilentDrop(), faults.Unreachable(),
        faults.ResetInSession(bytes_before=1000), faults.SlowDisk(1000), faults.SlowFsync(0.1),
        faults.SmtpStage("RCPT", reply="450 later"), faults.SyscallFails("cleanup", "fsync"),
    ]  # fmt: skip
    on_router: list[Fault] = [faults.MtuBlackHole(receiver.address), faults.SmallMtu(peer)]
    every = [(receiver, fault) for fault in on_receiver] + [(router, fault) for fault in on_router]
    named: dict[str, tuple[Host, Fault]] = {}
    for host, fault in every:
        word = type(fault).__name__
        named[f"{word}_out" if word in named else word] = host, fault
    return named


def apply_and_lift(lab: Lab) -> dict[str, list[float]]:
    """Return the milliseconds for each fault."""
    figures: dict[str, list[float]] = {}
    for name, (host, fault) in all_faults(lab).items():
        for _ in range(FAULT_RUNS):
            began = time.perf_counter()
            with fault.on(host):
                applied = time.perf_counter()
                figures.setdefault(f"apply_ms_{name}", []).append((applied - began) * 1000)
                lifting = time.perf_counter()
            figures.setdefault(f"lift_ms_{name}", []).append((time.perf_counter() - lifting) * 1000)
        lab.reset()
    return figures


def stream_s(lab: Lab) -> float:
    """Return the seconds for a stream from the sender's to the receiver's agent by the router."""

    def run(host: Host, program: str, *words: object) -> str:
        argv = ["python3", "-c", program, *map(str, words)]
        answer = host.agent.call("run", argv=argv, timeout_s=120)
        if answer["status"]:
            raise RuntimeError(answer["stderr"])
        return str(answer["stdout"])

    with ThreadPoolExecutor(1) as pool:
        # The first connection checks that it listens; the second is the stream.
        twice = SINK.replace("    with server", "    server.accept()[0].close()\n    with server")
        sink = pool.submit(run, lab.receiver, twice, PORT)
        run(lab.receiver, UNTIL_IT_LISTENS, "127.0.0.1", PORT)
        took = float(run(lab.sender, SOURCE, lab.receiver.address, PORT, STREAM_BYTES))
        sink.result()
    return took


@contextlib.contextmanager
def queued(host: Host) -> Iterator[None]:
    """Send every packet of a host through the userspace queue, without an impairment."""
    settings = {
        "delay_s": 0.0, "jitter_s": 0.0, "loss_percent": 0.0, "rate_bit_s": 0.0,
        "reorder_percent": 0.0, "duplicate_percent": 0.0, "limit_packets": 100_000, "seed": 1,
    }  # fmt: skip
    begun = host.agent.call("impair", direction="both", peer="", settings=settings, kernel=False)
    try:
        yield
    finally:
        host.agent.call("repair", name=begun["name"])


def queue_ratios(lab: Lab) -> list[float]:
    """Return the throughput through the queue as a part of the plain link's, in turn."""
    found = []
    for _ in range(PAIRS):
        plain = stream_s(lab)
        with queued(lab.receiver):
            found.append(plain / stream_s(lab))
    return found


def measure(version: str) -> Iterator[tuple[str, list[float]]]:
    """Measure everything, in a lab of its own."""
    watchdog = Watchdog(compose.owner())
    lab = labs.start(topology.load("wan"), version)
    try:
        ask = lab.receiver.agent.call
        command = [
            timed(lambda: ask("read", path="/etc/hostname")) * 1000 for _ in range(COMMAND_RUNS)
        ]
        yield "agent_command_ms", command
        yield "queue_throughput_ratio", queue_ratios(lab)
        yield from apply_and_lift(lab).items()
    finally:
        lab.down()
        watchdog.dismiss()
