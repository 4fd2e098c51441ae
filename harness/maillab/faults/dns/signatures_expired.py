"""A zone whose signatures have expired."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults.process.postfix import logged, mail_host
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_signatures.py::test_symptom_names_with_expired_signatures_do_not_resolve[own]",
    host="sender",
    topology="secure-transport",
    example={"zone": "dane.example"},
)
@dataclass(frozen=True)
class SignaturesExpired:
    """A signed zone of the lab, such as "dane.example" or ".", was not signed again in time.

    Validating resolvers answer SERVFAIL for each of its names. The host's resolver forgets its
    old answers at the beginning and at the end of the block. The witness counts the answers
    that the resolver did not believe, in its own log lines.
    """

    zone: str

    def __post_init__(self) -> None:
        if not self.zone:
            raise BadInput(f"{self!r}: zone must be a name such as dane.example")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Serve the zone with signatures that expired three days ago."""
        sender = mail_host(host, self)
        nameserver = host.nameserver.channel
        witness = Witness(repr(self), host.name, "answers that the resolver did not believe")
        begun = nameserver.call("signatures_expire", zone=self.zone)
        if (self.zone.rstrip(".") or ".") not in begun["signed"]:
            known = ", ".join(begun["signed"]) or "none"
            raise BadInput(f"{self!r} on {host.name}: no such signed zone (choose from {known})")
        since = sender.scenario.stream.position
        try:
            host.forget_names()
            yield witness
        finally:
            name = re.escape(self.zone.strip("."))
            doubted = rf"validation failure <(?:\S*\.)?{name}\.? .*signature expired"
            witness.count = logged(sender, since, doubted)
            nameserver.call("signatures_renew", number=begun["number"])
            host.forget_names()
