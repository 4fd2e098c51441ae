"""An SMTP server that greets with something other than 220."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.faults.smtp_stage import SmtpStage
from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class Greeting:
    """Each client is greeted with ``reply``, such as "421 too busy"; with "" it is hung up on.

    The short form of SmtpStage for its most frequent use (RFC 5321 section 3.1: a
    greeting is 220 or 554). The witness counts the clients that got it.
    """

    reply: str

    def __post_init__(self) -> None:
        self._stage()

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Stand in for the host's port 25."""
        with self._stage().on(host) as witness:
            witness.fault, witness.source = repr(self), "clients that the server greeted"
            yield witness

    def _stage(self) -> SmtpStage:
        return SmtpStage("greeting", reply=self.reply, then="" if self.reply else "close")
