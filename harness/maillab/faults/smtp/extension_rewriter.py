"""A middlebox that changes or removes one ESMTP extension of the server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from maillab.errors import BadInput
from maillab.faults.registry import fault
from maillab.faults.smtp import wire
from maillab.faults.smtp.middlebox import box
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_middlebox.py::test_symptom_one_extension_is_dropped[remote]",
    host="router",
    example={"extension": "DSN"},
)
@dataclass(frozen=True)
class ExtensionRewriter:
    """A middlebox that changes or removes ``extension``, such as "SIZE", in EHLO replies.

    Clients see the line ``becomes`` in place of the server's. On a host the middlebox sits
    before port 25; on a router it intercepts all SMTP that passes.
    """

    extension: str
    becomes: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", self.extension):
            raise BadInput(
                f"{self!r}: extension must be a keyword (RFC 5321 section 2.2.2), such as SIZE"
            )
        if not re.fullmatch(r"[ -~]*", self.becomes):
            raise BadInput(f"{self!r}: becomes must be one line, such as 'SIZE 1000', or empty")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Put the middlebox before the host, or on the path through it."""
        # The rules see either the new line, or an EHLO reply without the extension.
        rules = wire.rules(extension=(self.becomes or self.extension.upper()).encode())
        evidence = [wire.CONTAINING if self.becomes else wire.WITHOUT, wire.LONG]
        with box(
            host, self, "ExtensionRewriter", asdict(self), rules=rules, evidence=evidence
        ) as witness:
            yield witness
