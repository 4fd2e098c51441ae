"""A middlebox that keeps SMTP sessions in clear text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.faults.registry import fault
from maillab.faults.smtp import wire
from maillab.faults.smtp.middlebox import UNKNOWN_COMMAND, box
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(proof="test_middlebox.py::test_symptom_starttls_is_not_offered[remote]", host="router")
@dataclass(frozen=True)
class StarttlsStripper:
    """A middlebox that removes STARTTLS from EHLO replies; with ``offers``, the command just fails.

    RFC 3207 section 6 describes this attack. On a host it sits before port 25; on
    a router it intercepts all SMTP that passes.
    """

    offers: bool = False

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Put the middlebox before the host, or on the path through it."""
        settings: dict[str, object] = {"offers": self.offers}
        rules = wire.rules(
            commands=[UNKNOWN_COMMAND], extension=b"" if self.offers else b"STARTTLS"
        )
        evidence = [wire.COMMAND, wire.WITHOUT, wire.LONG]
        with box(
            host, self, "StarttlsStripper", settings, rules=rules, evidence=evidence
        ) as witness:
            yield witness
