"""A load by hand, with a live display on a terminal."""

from __future__ import annotations

import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from maillab import lab as labs
from maillab.cli.interruption import Interruption
from maillab.cli.labs import choose, site_of
from maillab.cli.output import print_json
from maillab.errors import BadInput, TimedOut
from maillab.load import Loading
from maillab.loadplan import Load
from maillab.loadplot import draw
from maillab.postfix import MailHost

_SHOW_EVERY_S = 0.5
_INTERRUPTED = 130


def load(arguments: Namespace) -> int:
    """Send a load; returns 1 when mail was not conserved, 130 when interrupted."""
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
        if not isinstance(server, MailHost):
            raise BadInput(f"{server.name} runs no Postfix; take a mail host for --to-host")
        running.record.begin()
        clients = [running.hosts[name] for name in arguments.from_host]
        with _interruptible() as interrupted:
            loading = Loading(wanted, server, clients, running.mail_hosts)
            _watch(loading, wanted, interrupted, quiet=arguments.json or not sys.stderr.isatty())
            report = loading.stop()
        loading.raise_failure()
        try:
            running.drain(within_s=arguments.drain_s)
            still = ""
        except TimedOut:
            still = f"mail was still under way {arguments.drain_s:g} s after the load\n"
        verdict = running.accounts()
    finally:
        running.detach()
    report = replace(report, ledger=still + verdict.text())
    if arguments.plot:
        draw(report, Path(arguments.plot))
    if arguments.json:
        print_json(report.as_json())
    else:
        print(report.text())
    if interrupted.is_set():
        return _INTERRUPTED
    return 0 if verdict.conserved else 1


def _weights(words: list[str], option: str) -> dict[int, float]:
    """Read "1000" or "1000:9" words as weights by number."""
    found = {}
    for word in words:
        number, _, weight = word.partition(":")
        try:
            found[int(number)] = float(weight or 1)
        except ValueError:
            raise BadInput(f"{option} {word}: write a number, or NUMBER:WEIGHT") from None
    return found


def _login(words: str) -> tuple[str, str] | None:
    user, colon, password = words.partition(":")
    if words and not colon:
        raise BadInput(f"--auth {words}: write USER:PASSWORD")
    return (user, password) if words else None


@contextmanager
def _interruptible() -> Iterator[Interruption]:
    """Ctrl-C, or SIGTERM, ends the load, not the report; said again, it ends that, too."""
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


def _watch(loading: Loading, wanted: Load, interrupted: Interruption, *, quiet: bool) -> None:
    """Show how it stands until it ends or somebody has enough."""
    began = time.monotonic()
    while not loading.over and not interrupted.wait(_SHOW_EVERY_S if not quiet else 0.05):
        if not quiet:
            print(f"\r\x1b[K{_line(loading, wanted, time.monotonic() - began)}", end="",
                  file=sys.stderr, flush=True)  # fmt: skip
    if not quiet:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _line(loading: Loading, wanted: Load, for_s: float) -> str:
    state = loading.state
    done = state.get("acknowledged", 0) + state.get("refused", 0) + state.get("unknown", 0)
    rate = done / for_s if for_s else 0.0
    left = f"{(wanted.messages - done) / rate:.0f} s left" if rate else "no end in sight"
    queues = ", ".join(f"{host} {count}" for host, count in loading.queued.items())
    replies = ", ".join(f"{code} {count}" for code, count in sorted(loading.replies.items()))
    return (
        f"{state['open']} open, {done} of {wanted.messages} done, {rate:.0f} a second, {left}"
        f" | replies {replies or 'none'} | queued {queues or 'none'}"
    )
