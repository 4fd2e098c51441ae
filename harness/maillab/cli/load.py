"""A load by hand, with a live display on a terminal."""

from __future__ import annotations

import signal
import sys
import time
from argparse import SUPPRESS, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from maillab.cli.arguments import Add, add_lab, count, number
from maillab.cli.interruption import Interruption
from maillab.cli.labs import choose, site_of
from maillab.cli.liveline import LiveLine
from maillab.cli.output import print_json
from maillab.errors import BadInput, LabError, TimedOut
from maillab.hosts.mailserver import MailServer
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.load.plan import Load
from maillab.load.plot import draw
from maillab.load.running import Loading

_SHOW_EVERY_S = 0.5
_INTERRUPTED = 130


def register(add: Add) -> None:
    """Declare the commands of this family and their arguments."""
    parser = add(
        load,
        "maillab load --from-host client --to-host mail --sessions 300 --messages 3000",
        details="Ends with a report, even after Ctrl-C or if the load could not be completed.\n"
        "Exits with 1 if mail was not conserved. Nothing is sent to an address outside the lab.",
        json='{"asked", "messages", "outcomes", "rate_per_s", "took_s", "open_max", "replies", '
        '"counts", "latency_s": {PHASE: {"p50", "p90", "p99", "p100"}}, "rss_kb", "bands", '
        '"complaints", "ledger"}',
    )
    parser.add_argument(
        "--from-host", metavar="HOST", nargs="+", required=True, help="sending hosts"
    )
    parser.add_argument("--to-host", metavar="HOST", required=True, help="receiving host")
    for option, default, what in (
        ("--sessions", 100, "concurrent sessions"),
        ("--messages", 1000, "messages in total"),
        ("--messages-per-session", 1, "messages before QUIT"),
        ("--retries", 0, "retries after a 4xx reply or a broken session"),
        ("--workers", 0, "processes on each sending host; 0: half the cores, shared"),
        ("--port", 25, "port of the server"),
        ("--seed", 1, "seed for sizes and recipients"),
    ):
        parser.add_argument(
            option, type=count, default=default, metavar="N", help=f"{what} (default: {default})"
        )
    parser.add_argument(
        "--held", action="store_true", help="connect all sessions before any of them sends"
    )
    parser.add_argument(
        "--greeting-wait-s",
        type=float,
        default=30.0,
        metavar="S",
        help="with --held: start without the silent sessions after S seconds without a greeting "
        "(default: 30)",
    )
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=300.0,
        metavar="S",
        help="time limit of an attempt to send a message, connecting included (default: 300)",
    )
    parser.add_argument(
        "--rate",
        type=number,
        default=0.0,
        metavar="N",
        help="messages started per second (open loop)",
    )
    for option, usual, what in (
        ("--size-bytes", "1000", "message sizes"),
        ("--recipients-each", "1", "recipients per message"),
    ):
        parser.add_argument(
            option,
            nargs="+",
            default=[usual],
            metavar="N[:WEIGHT]",
            help=f"{what}, with weights (default: {usual})",
        )
    parser.add_argument(
        "--to",
        nargs="+",
        default=[],
        metavar="ADDR",
        help="recipients to choose from (default: the server's users)",
    )
    parser.add_argument("--tls", action="store_true", help="use STARTTLS in every session")
    parser.add_argument(
        "--auth", default="", metavar="USER:PASSWORD", help="log in with AUTH PLAIN"
    )
    parser.add_argument("--drain-s", type=number, default=120.0, metavar="S", help=SUPPRESS)
    parser.add_argument("--plot", metavar="FILE", help="write a plot of the load, such as load.png")
    add_lab(parser)


def load(arguments: Namespace) -> int:
    """Send a load; return 1 if mail was not conserved, 130 if interrupted.

    An error that kept the load from running as requested is raised after the report.
    """
    wanted = Load(
        sessions=arguments.sessions,
        messages=arguments.messages,
        messages_per_session=arguments.messages_per_session,
        held=arguments.held,
        rate_per_s=arguments.rate,
        sizes_bytes=_weights(arguments.size_bytes, "--size-bytes"),
        recipients=tuple(arguments.to),
        recipients_each=_weights(arguments.recipients_each, "--recipients-each"),
        port=arguments.port,
        tls=arguments.tls,
        auth=_login(arguments.auth),
        retries=arguments.retries,
        timeout_s=arguments.timeout_s,
        greeting_wait_s=arguments.greeting_wait_s,
        workers=arguments.workers,
        seed=arguments.seed,
    )
    project = choose(arguments.lab)
    site = site_of(project)
    names = [arguments.to_host, *arguments.from_host]
    for name in names:
        site.role(name)
    running = labs.attach(project)
    try:
        server = running.hosts[arguments.to_host]
        if not isinstance(server, MailServer):
            raise BadInput(f"--to-host must be a mail host, not {server.name}")
        running.scenario.begin()
        clients = [running.hosts[name] for name in arguments.from_host]
        line = LiveLine(sys.stderr, quiet=arguments.json)
        with _interruptible() as interrupted:
            loading = Loading(wanted, server, clients, running.mail_hosts)
            _watch(loading, wanted, interrupted, line)
            report = loading.stop()
        ledger, status = _accounts(running, arguments.drain_s)
    finally:
        running.detach()
    if not report.messages and isinstance(loading.failure, BadInput):
        raise loading.failure
    report = replace(report, ledger=ledger)
    if arguments.plot:
        draw(report, Path(arguments.plot))
    if arguments.json:
        print_json(report.as_json())
    else:
        print(report.text())
    if interrupted.is_set():
        return _INTERRUPTED
    loading.raise_failure()
    return status


def _accounts(running: Lab, drain_s: float) -> tuple[str, int]:
    """Return the verdict on the mail and the exit status; an error becomes part of the report."""
    still = ""
    try:
        try:
            running.drain(within_s=drain_s)
        except TimedOut:
            still = f"mail did not settle within {drain_s:g} s after the load\n"
        verdict = running.verdict()
    except LabError as error:
        return f"{still}what became of the mail is unknown: {error}", error.exit_code
    return still + verdict.text(), 0 if verdict.conserved else 1


def _weights(words: list[str], option: str) -> dict[int, float]:
    """Parse "1000" or "1000:9" words as weights by number."""
    found = {}
    for word in words:
        number, _, weight = word.partition(":")
        try:
            found[int(number)] = float(weight or 1)
        except ValueError:
            raise BadInput(f"{option} must be N or N:WEIGHT, not {word!r}") from None
    return found


def _login(words: str) -> tuple[str, str] | None:
    user, colon, password = words.partition(":")
    if words and not colon:
        raise BadInput(f"--auth must be USER:PASSWORD, not {words!r}")
    return (user, password) if words else None


@contextmanager
def _interruptible() -> Iterator[Interruption]:
    """Let the first Ctrl-C or SIGTERM stop the load and print the report, the second abort."""
    interrupted = Interruption()

    def interrupt(number: int, _: object) -> None:
        interrupted.set()
        signal.signal(number, before[number])

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {int(number): signal.signal(number, interrupt) for number in numbers}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(loading: Loading, wanted: Load, interrupted: Interruption, line: LiveLine) -> None:
    """Show the status until the load ends or is interrupted."""
    began = time.monotonic()
    while not loading.over and not interrupted.wait(_SHOW_EVERY_S if not line.quiet else 0.05):
        line.show(_line(loading, wanted, time.monotonic() - began))
    line.clear()


def _line(loading: Loading, wanted: Load, for_s: float) -> str:
    state = loading.state
    if loading.opening:
        return f"{state.get('connected', 0)} of {wanted.sessions} sessions open"
    done = state.get("acknowledged", 0) + state.get("refused", 0) + state.get("unknown", 0)
    rate = done / for_s if for_s else 0.0
    left = f"{(wanted.messages - done) / rate:.0f} s left" if rate else "time left unknown"
    queues = ", ".join(f"{host} {count}" for host, count in loading.queued.items())
    replies = ", ".join(f"{code} {count}" for code, count in sorted(loading.replies.items()))
    return (
        f"{state['open']} open, {done} of {wanted.messages} done, {rate:.0f} a second, {left}"
        f" | replies {replies or 'none'} | queued {queues or 'none'}"
    )
