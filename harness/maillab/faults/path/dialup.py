"""A dialup line: slow, up only during calls, and cut where a scenario wants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults import counters
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

# tbf(8) allows no lower rate, and a full packet would take longer than any SMTP timeout.
_RATE_MIN_BIT_S = 300
# The table in which images/inside/network/line.py counts.
_TABLE = "maillab_line"


@dataclass
class Call:
    """The traffic of one call in IP packets and bytes, known when the call has ended.

    ``lost_packets`` arrived after the line was cut during the call. A large packet that the
    kernel splits later (GSO) counts as one.
    """

    packets_out: int = 0
    packets_in: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    lost_packets: int = 0


@fault(proof="test_line.py::test_symptom_the_phone_rings_for_each_message", host="sender")
@dataclass(frozen=True)
class Dialup:
    """A telephone line of ``rate_bit_s`` bit/s each way in place of eth0, down between calls.

    While the line is down, packets are lost without any error. Connections of an earlier
    call continue in the next, as with a fixed address. The witness counts, in the kernel,
    the packets that the line carried and lost.
    """

    rate_bit_s: int = 33_600

    def __post_init__(self) -> None:
        if self.rate_bit_s < _RATE_MIN_BIT_S:
            raise BadInput(f"{self!r}: rate_bit_s must be >= {_RATE_MIN_BIT_S}")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the line down for the block, except during calls."""
        witness = Witness(repr(self), host.name, "packets that the line carried or lost")
        host.agent.call("line_start", rate_bit_s=self.rate_bit_s)
        try:
            yield witness
        finally:
            witness.count = sum(counters.counted(host.agent, "netdev", _TABLE).values())
            host.agent.call("line_stop")

    @contextlib.contextmanager
    def call(self, host: Host, *, hang_up_after_bytes: int = 0) -> Iterator[Call]:
        """Keep the line up for the block, or until it has carried ``hang_up_after_bytes``."""
        if hang_up_after_bytes < 0:
            raise BadInput(f"{self!r}: hang_up_after_bytes must be >= 0, not {hang_up_after_bytes}")
        call = Call()
        if not host.scenario.faults_act:
            yield call
            return
        host.agent.call("line_call", hang_up_after_bytes=hang_up_after_bytes)
        try:
            yield call
        finally:
            done = host.agent.call("line_hang_up")["counts"]
            out, in_ = done["carried_out"], done["carried_in"]
            call.packets_out, call.bytes_out = out["packets"], out["bytes"]
            call.packets_in, call.bytes_in = in_["packets"], in_["bytes"]
            call.lost_packets = done["lost_out"]["packets"] + done["lost_in"]["packets"]

    def rang(self, host: Host) -> int:
        """Return the number of packets that the host tried to send while the line was down.

        A dial-on-demand line would have dialled for each.
        """
        if not host.scenario.faults_act:
            return 0
        return int(host.agent.call("line_counts")["counts"]["lost_out"]["packets"])
