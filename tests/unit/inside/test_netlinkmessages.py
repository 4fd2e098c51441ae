"""The agent's messages to the kernel equal those of tc(8) and the kernel's headers."""

from __future__ import annotations

import pytest
from pyroute2.netlink.exceptions import NetlinkError

import netlinkmessages
import netqueue
from netlinkmessages import ConfigMessage
from netqueue import Settings

# From the system calls of tc(8), iproute2 6.15: "qdisc add dev eth0 root netem limit 1000
# delay 100000us 10000us loss random 2.5% duplicate 3% reorder 25% rate 33600bit seed 9".
NETEM = """
    6000 0200 00000000 e8030000 66666606 01000000 7b14ae07 00000000
    0c00 0a00 00e1f505 00000000  0c00 0b00 80969800 00000000
    0c00 0300 00000040 00000000  1400 0600 68100000 00000000 00000000 00000000
    0c00 0e00 09000000 00000000
"""
HEADER_BYTES = 16


def test_netems_message_equals_that_of_tc() -> None:
    settings = Settings(0.1, 0.01, 2.5, 33_600, 25, 3, seed=9)

    message = netlinkmessages.netem_qdisc(7, netqueue.netem(settings))
    message["header"] = {"type": 36}
    message.encode()

    assert bytes(message.data).endswith(b"netem\0\0\0" + bytes.fromhex(NETEM))


def test_an_unset_impairment_is_no_option_of_netem() -> None:
    assert netqueue.netem(Settings(seed=3)) == {
        "limit": 1000,
        "loss": 0,
        "duplicate": 0,
        "gap": 0,
        "attrs": [("TCA_NETEM_PRNG_SEED", 3)],
    }


@pytest.mark.parametrize(("passes", "verdict"), [(False, "00000000"), (True, "00000001")])
def test_a_verdict_names_queue_and_packet(verdict: str, *, passes: bool) -> None:
    assert netlinkmessages.verdict_on(7, 77, passes=passes) == bytes.fromhex(
        f"20000000 0103 0100 00000000 00000000  00 00 00070c00 0200 {verdict} 0000004d"
    )


def packet(kind: str, payload: str) -> bytes:
    """Return a message as the kernel sends it for a packet of queue 7."""
    content = bytes.fromhex(
        f"0000 0000 {kind} 0000 00000000 00000000 02 00 0007"
        "0b00 0100 0000004d 0800 04 00"
        "0800 0500 00000002"
    )
    content += (4 + len(payload)).to_bytes(2, "little") + b"\x0a\0" + payload.encode()
    return len(content).to_bytes(2, "little") + content[2:] + b"\0" * (-len(content) % 4)


@pytest.mark.parametrize("payload", ["p", "pa", "pac", "pack", "packe"])
def test_a_packet_is_read_without_its_padding(payload: str) -> None:
    """Attributes that the agent does not need, such as the device, are skipped."""
    parsed = netlinkmessages.parse(packet("0003", payload))

    assert parsed == (77, 4, payload.encode())


def test_other_messages_are_skipped() -> None:
    """For example the kernel's error after a late verdict."""
    error = bytes.fromhex("24000000 0200 0000 00000000 00000000 feffffff")
    error += netlinkmessages.verdict_on(7, 77, passes=True)[:16]

    assert netlinkmessages.parse(error) is None
    assert netlinkmessages.parse(packet("0103", "pack")) is None


def test_a_queue_is_bound_before_it_is_set_up() -> None:
    bodies = []
    for setting in netlinkmessages.config(64):
        message = ConfigMessage()
        message["header"] = {"type": netlinkmessages.CONFIG}
        message["attrs"] = [setting]
        message.encode()
        bodies.append(bytes(message.data)[HEADER_BYTES + 4 :].hex())

    assert bodies == [
        "0800010001000002",
        "090002000000004002000000",
        "0800030000010000",
    ]


def test_the_rule_uses_iptables_nfqueue() -> None:
    """Revision 3, one queue, and packets pass if no program listens."""
    message = netlinkmessages.queue_rule("maillab_filter_1", "handover", 1)
    message.encode()

    assert bytes(message.data) == bytes.fromhex(
        "74000000 060a 050c 00000000 00000000 02 00 0000"
        "1500 0100 6d61696c6c61625f66696c7465725f31 00 000000"
        "0d00 0200 68616e646f766572 00 000000"
        "3800 0480 3400 0180 0b00 0100 746172676574 00 00"
        "2400 0280 0c00 0100 4e465155455545 00 0800 0200 00000003"
        "0c00 0300 0100 0100 0100 0000"
    )


def test_a_refusal_by_the_kernel_is_an_error() -> None:
    with (
        pytest.raises(OSError, match="this kernel lacks") as error,
        netlinkmessages.in_this_kernel(),
    ):
        raise NetlinkError(2)

    assert error.value.errno == 2
