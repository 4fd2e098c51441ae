"""A Cisco PIX firewall with "fixup protocol smtp"."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from maillab.errors import BadInput
from maillab.faults.registry import fault
from maillab.faults.smtp import wire
from maillab.faults.smtp.middlebox import UNKNOWN_COMMAND, box
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_middlebox.py::test_symptom_a_masked_banner_alone_costs_esmtp[remote]",
    host="receiver",
)
@dataclass(frozen=True)
class Pix:
    """A PIX that masks the banner with stars, blocks ESMTP, and has the dot-CRLF bug.

    On a host it sits before port 25; on a router it intercepts all SMTP that passes. Both
    ends see each other's addresses. ``swallows_split_dot`` is the bug CSCds90792 as the FAQ
    describes it: if the final dot ends a packet, the next packet, which has only its line end,
    never arrives. The model is wider: the kernel drops every packet from a client that has
    only a line end, also in sessions that are already open. ``swallows_dot`` is a stricter
    box, for mail of any size: an end of data that is not alone in its packet never arrives.
    That model treats the data of one read as one packet.
    """

    masks_banner: bool = True
    blocks_esmtp: bool = True
    swallows_split_dot: bool = True
    swallows_dot: bool = False

    def __post_init__(self) -> None:
        if not any(asdict(self).values()):
            raise BadInput(f"{self!r}: does nothing; leave at least one of its settings True")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Put the middlebox before the host, or on the path through it."""
        # The rest of a masked banner, and the wait after a swallowed end of data.
        masked, evidence = [b"220 *", b"220-*"], []
        if self.masks_banner:
            evidence.append(wire.REPLY)
        if self.blocks_esmtp:
            evidence.append(wire.COMMAND)
        if self.swallows_dot:
            evidence += [wire.UNANSWERED, wire.WAITING, wire.SILENT]
        drops = b"\r\n" if self.swallows_split_dot else b""
        rules = wire.rules(replies=masked, commands=[UNKNOWN_COMMAND], drops=drops)
        with box(host, self, "Pix", asdict(self), rules=rules, evidence=evidence) as witness:
            yield witness
