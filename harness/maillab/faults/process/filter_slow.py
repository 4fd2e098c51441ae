"""A Milter or policy service whose answers are late."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults import counters
from maillab.faults.path.packetfilter import CLIENT, TO_CLIENT
from maillab.faults.process.supervised import filters_of, running
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

# The mark of the proxy's own connections (images/inside/network/slowanswers.py).
_MARK = 0x51021
# An answer is late if most of the delay has passed; jiffies are coarse.
_MOST = 0.8
# A client that has asked for no answer, such as one that quits, leaves at once.
_SILENCE_MS = 300
_LATE, _LEFT = "late", "left"
_SESSIONS = "type ipv4_addr . inet_service; size 65535; flags dynamic"


def _rules(port: int, delay_s: float) -> str:
    """Return rules that count late answers, and clients that left without one.

    The client's packets pass the output hook before the redirect, and the proxy's answers the
    input hook after it: both have the service's port.
    """
    late_ms = max(1, round(delay_s * _MOST * 1000))
    heard_ms = min(late_ms, _SILENCE_MS)
    return f"""
table ip TABLE {{
  set asks {{ {_SESSIONS}; }}
  set waits {{ {_SESSIONS}; }}
  set lately {{ {_SESSIONS},timeout; timeout {late_ms}ms; }}
  set heard {{ {_SESSIONS},timeout; timeout {heard_ms}ms; }}
  chain output {{
    type filter hook output priority raw - 20;
    oifname "lo" tcp dport {port} meta mark != {_MARK} goto client
  }}
  chain client {{
    tcp flags & (fin | rst) != 0 {CLIENT} @waits {CLIENT} != @heard counter comment "{_LEFT}"
    tcp flags & (fin | rst) != 0 return
    tcp flags syn add @asks {{ {CLIENT} }}
    tcp flags & psh == 0 return
    add @waits {{ {CLIENT} }}
    update @lately {{ {CLIENT} }}
    update @heard {{ {CLIENT} }}
  }}
  chain input {{
    type filter hook input priority filter;
    iifname "lo" tcp sport {port} tcp flags & psh != 0 {TO_CLIENT} @asks goto service
  }}
  chain service {{
    {TO_CLIENT} @waits {TO_CLIENT} != @lately counter comment "{_LATE}"
    delete @waits {{ {TO_CLIENT} }}
  }}
}}
"""


@fault(
    proof="test_filters.py::test_symptom_a_slow_filter_delays_mail",
    host="sender",
    topology="authenticated",
    example={"filter": "opendkim", "delay_s": "1"},
)
@dataclass(frozen=True)
class FilterSlow:
    """Every answer of a filter beside the mail host, such as "opendkim", comes ``delay_s`` later.

    A Milter answers most steps of a session, so that one message meets the delay several times.
    The filter must listen on a port: Postfix's new connections to it pass a proxy. The witness
    counts the answers that the kernel saw after such a delay, and the clients that left before.
    """

    filter: str
    delay_s: float

    def __post_init__(self) -> None:
        if not self.filter:
            raise BadInput(f"{self!r}: filter must be a name such as opendkim")
        if self.delay_s <= 0:
            raise BadInput(f"{self!r}: delay_s must be > 0")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Delay the filter's answers for the block."""
        channel = filters_of(host, self)
        running(host, channel, self, self.filter)
        ports = channel.call("filter_ports", name=self.filter)["ports"]
        if not ports:
            raise BadInput(
                f"{self!r} on {host.name}: {self.filter} listens on a socket in the file system; "
                "let it listen on a port, such as inet:8891@127.0.0.1"
            )
        witness = Witness(repr(self), host.name, "answers that came late, or too late")
        with contextlib.ExitStack() as stack:
            seen = [
                stack.enter_context(counters.watching(host, _rules(port, self.delay_s)))
                for port in ports
            ]
            services = [
                host.agent.call("answers_delay", port=port, delay_s=self.delay_s)["service"]
                for port in ports
            ]
            try:
                yield witness
            finally:
                kernel = sum(counts()[what] for counts in seen for what in (_LATE, _LEFT))
                acted = sum(
                    host.agent.call("answers_undelay", service=service)["acted"]
                    for service in services
                )
                counters.agree(witness, acted, kernel)
