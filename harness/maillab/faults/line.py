"""A dialup line: down but for calls, slow, hung up where a scenario wants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.host import Host
from maillab.record import Witness

# tbf(8) takes no slower ones; a full packet would take longer than any SMTP timeout.
_RATE_MIN_BIT_S = 300


@dataclass
class Call:
    """What passed in one call, known when it has ended: IP packets and bytes.

    ``lost_packets`` came after the line was hung up in mid-call. A large packet
    that the kernel splits later (GSO) is one.
    """

    packets_out: int = 0
    packets_in: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    lost_packets: int = 0


@dataclass(frozen=True)
class Dialup:
    """The host's interface eth0 is a telephone line of ``rate_bit_s``, each way, and down.

    What is sent while it is down is lost, and nobody is told. Connections of an
    earlier call go on in the next one, as with a fixed address. The witness
    counts what the line carried and what it lost.
    """

    rate_bit_s: int = 33_600

    def __post_init__(self) -> None:
        if self.rate_bit_s < _RATE_MIN_BIT_S:
            raise BadInput(f"{self!r}: a line has at least {_RATE_MIN_BIT_S} bit/s")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Put the line down for the length of a block, but for its calls."""
        witness = Witness(repr(self), host.name, "packets that the line carried or lost")
        host.agent.call("line_start", rate_bit_s=self.rate_bit_s)
        try:
            yield witness
        finally:
            counts = host.agent.call("line_stop")
            witness.count = sum(count["packets"] for count in counts.values())

    @contextlib.contextmanager
    def call(self, host: Host, *, hang_up_after_bytes: int = 0) -> Iterator[Call]:
        """Have the line up for a block, or until it has carried so many bytes."""
        if hang_up_after_bytes < 0:
            raise BadInput(f"{self!r}: a call cannot end after {hang_up_after_bytes} bytes")
        call = Call()
        if not host.record.faults_act:
            yield call
            return
        host.agent.call("line_call", hang_up_after_bytes=hang_up_after_bytes)
        try:
            yield call
        finally:
            done = host.agent.call("line_hang_up")
            out, in_ = done["carried_out"], done["carried_in"]
            call.packets_out, call.bytes_out = out["packets"], out["bytes"]
            call.packets_in, call.bytes_in = in_["packets"], in_["bytes"]
            call.lost_packets = done["lost_out"]["packets"] + done["lost_in"]["packets"]

    def rang(self, host: Host) -> int:
        """How many packets wanted out while the line was down: each would have dialled."""
        if not host.record.faults_act:
            return 0
        return int(host.agent.call("line_counts")["lost_out"]["packets"])
