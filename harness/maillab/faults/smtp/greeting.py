"""An SMTP server with a greeting other than 220."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.faults.registry import fault
from maillab.faults.smtp.smtp_stage import SmtpStage
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_smtp_server.py::test_symptom_a_greeting_refuses_all_mail[421 4.3.2 too busy]",
    host="receiver",
    example={"reply": "421 too busy"},
)
@dataclass(frozen=True)
class Greeting:
    """A greeting of ``reply``, such as "421 too busy", for each client; "" closes the connection.

    This is the short form of SmtpStage for its most frequent use. A greeting is 220 or 554
    (RFC 5321 section 3.1). The witness counts the clients that got it.
    """

    reply: str

    def __post_init__(self) -> None:
        self._stage()

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Intercept the host's port 25."""
        with self._stage().on(host) as witness:
            witness.fault, witness.source = repr(self), "clients that the server greeted"
            yield witness

    def _stage(self) -> SmtpStage:
        return SmtpStage("greeting", reply=self.reply, then="" if self.reply else "close")
