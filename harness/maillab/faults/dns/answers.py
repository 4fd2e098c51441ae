"""Faults of the answers that one host gets from its name server.

A proxy sits before the name server, in its container (images/inside/network/dnsproxy.py):
on the host's wire queries leave at once. Running daemons see the proxy at once; resolv.conf(5)
does not change.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

from maillab.errors import BadInput
from maillab.faults import counters
from maillab.faults.registry import fault
from maillab.faults.turns import check_turns
from maillab.hosts.host import Host
from maillab.scenario.state import Witness
from maillab.site.ipv6 import is_ipv6

Type = Literal["*", "A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TLSA", "TXT"]
Rcode = Literal["FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]

_TYPES = Type.__args__  # type: ignore[attr-defined]  # the values of a Literal
_RCODES = Rcode.__args__  # type: ignore[attr-defined]  # as above
# Longer than any resolver waits; resolv.conf(5) caps a single wait at 30 s.
_DELAY_MAX_S = 120.0
# An answer is late if most of the delay has passed.
_MOST = 0.8
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"


@dataclass(frozen=True)
class _Answers:
    """Spoilt answers to queries for a name and type.

    ``name`` is one exact name; ``.example.com`` is every name below it; ``*`` is any
    name. An IP address stands for the name of its PTR record. ``type`` may also be ``*``.
    By default, every matching query gets a spoilt answer. Restrict that to the ``first`` N
    queries (0: no limit), every Nth (``every``), or those after the ``after`` first ones.
    A retry by the resolver is a query of its own.
    """

    name: str
    type: Type = "*"
    _: KW_ONLY
    first: int = 0
    every: int = 1
    after: int = 0

    _ACTION: ClassVar[str]
    _SOURCE: ClassVar[str]

    def __post_init__(self) -> None:
        _check_name(self, self.name, wild=True)
        if self.type not in _TYPES:
            raise BadInput(
                f"{self!r}: unknown type {self.type!r} (choose from {', '.join(_TYPES)})"
            )
        check_turns(self, first=self.first, every=self.every, after=self.after)

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Spoil the answers that this host gets, and no other host's."""
        witness = Witness(repr(self), host.name, self._SOURCE)
        rule = {
            "action": self._ACTION,
            "name": _query_name(self.name),
            "type": self.type,
            "first": self.first,
            "every": self.every,
            "after": self.after,
            **self._rule(),
        }
        nameserver = host.nameserver
        channel, client = nameserver.channel, nameserver.client
        with counters.watching(host, _wire(self._fresh_ms())) as seen:
            begun = channel.call("names_start", client=client, **rule)
            try:
                yield witness
            finally:
                wire, inside = seen(), counters.counted(channel, "inet", begun["table"])
                # Without the proxy's table nothing came between the host and the name server.
                kernel = wire + inside if "passed on" in inside else Counter[str]()
                did = channel.call("names_stop", rule=begun["rule"])
                counters.agree(witness, self._did(did), self._seen(kernel))

    def _rule(self) -> dict[str, Any]:
        return {}

    def _fresh_ms(self) -> int:
        """Return the delay after which an answer counts as late, in milliseconds."""
        return 1

    def _did(self, did: dict[str, int]) -> int:
        """Return the number of times that the proxy reports it acted."""
        return did["acted"]

    def _seen(self, kernel: Counter[str]) -> int:
        """Return the number of times that the kernel saw the fault act.

        By default, that is the number of queries that never reached the name server.
        """
        return kernel["asked"] - kernel["passed on"]


@fault(
    proof="test_names.py::test_symptom_a_late_answer_makes_mail_late",
    host="sender",
    example={"name": "example.org", "delay_s": "1"},
)
@dataclass(frozen=True)
class DnsDelay(_Answers):
    """Answers arrive ``delay_s`` seconds late; the resolver of the labs waits 2 s, twice."""

    _: KW_ONLY
    delay_s: float

    _ACTION = "delay"
    _SOURCE = "queries answered late"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.delay_s <= _DELAY_MAX_S:
            raise BadInput(
                f"{self!r}: delay_s must be > 0 and at most {_DELAY_MAX_S:g}; "
                "for an answer that never arrives use DnsDrop"
            )

    def _rule(self) -> dict[str, Any]:
        return {"delay_s": self.delay_s}

    def _fresh_ms(self) -> int:
        return max(1, round(self.delay_s * _MOST * 1000))

    def _seen(self, kernel: Counter[str]) -> int:
        return kernel["late"]


@fault(
    proof="test_names.py::test_symptom_mail_waits_for_names[drop]",
    host="sender",
    example={"name": "example.org"},
)
@dataclass(frozen=True)
class DnsDrop(_Answers):
    """No answer arrives, by UDP or TCP."""

    _ACTION = "drop"
    _SOURCE = "queries left without an answer"


@fault(
    proof="test_names.py::test_symptom_a_name_that_does_not_exist_returns_mail",
    host="sender",
    example={"name": "example.org", "rcode": "SERVFAIL"},
)
@dataclass(frozen=True)
class DnsAnswer(_Answers):
    """The answer is an error, named as in RFC 1035 section 4.1.1 (RCODE)."""

    _: KW_ONLY
    rcode: Rcode

    _ACTION = "rcode"
    _SOURCE = "queries answered with the error"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rcode not in _RCODES:
            raise BadInput(
                f"{self!r}: unknown rcode {self.rcode!r} (choose from {', '.join(_RCODES)})"
            )

    def _rule(self) -> dict[str, Any]:
        return {"rcode": self.rcode}


@fault(
    proof="test_names.py::test_symptom_a_truncated_answer_is_asked_for_by_tcp",
    host="sender",
    example={"name": "example.org"},
)
@dataclass(frozen=True)
class DnsTruncated(_Answers):
    """Answers by UDP are empty and truncated, so the resolver asks by TCP (RFC 7766 section 5).

    With ``tcp_refused``, the host's TCP connections to the name server are reset, for all
    names, as by a packet filter that allows DNS by UDP only. The witness counts the queries
    that arrived by TCP, or the refused connections.
    """

    _: KW_ONLY
    tcp_refused: bool = False

    _ACTION = "truncate"
    _SOURCE = "queries that came again by TCP"

    def _rule(self) -> dict[str, Any]:
        return {"refuse": self.tcp_refused}

    def _did(self, did: dict[str, int]) -> int:
        return did["acted"] if self.tcp_refused else min(did["acted"], did["over_tcp"])

    def _seen(self, kernel: Counter[str]) -> int:
        truncated = super()._seen(kernel)
        return min(truncated, kernel["refused" if self.tcp_refused else "by TCP"])


@fault(
    proof="test_names.py::test_symptom_a_stale_address_leads_to_nobody",
    host="sender",
    example={"name": "example.org", "address": "router"},
)
@dataclass(frozen=True)
class StaleAnswer(_Answers):
    """A name resolves to an outdated address."""

    type: Literal["A", "AAAA"] = "A"
    _: KW_ONLY
    address: str

    _ACTION = "answer"
    _SOURCE = "queries answered from the past"

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = "AAAA" if is_ipv6(self.address) else "A"
        if not _is_address(self.address):
            raise BadInput(f"{self!r}: {self.address!r} is not an IPv4 or IPv6 address")
        if self.type != wanted:
            raise BadInput(f"{self!r}: type must be {wanted!r}: the answer is such an address")

    def _rule(self) -> dict[str, Any]:
        return {"data": self.address}


@fault(
    proof="test_names.py::test_symptom_a_foreign_name_is_not_believed",
    host="receiver",
    example={"name": "*", "points_to": "router.example.com"},
)
@dataclass(frozen=True)
class ForeignPtr(_Answers):
    """The PTR record of the address ``name`` gives a host name that belongs to another owner."""

    type: Literal["PTR"] = "PTR"
    _: KW_ONLY
    points_to: str

    _ACTION = "answer"
    _SOURCE = "queries answered with the foreign name"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type != "PTR" or not (self.name == "*" or _is_address(self.name)):
            raise BadInput(f"{self!r}: name must be an address, or '*' for every address")
        _check_name(self, self.points_to)

    def _rule(self) -> dict[str, Any]:
        return {"data": f"{self.points_to}."}


@dataclass(frozen=True)
class _Record(_Answers):
    """Every answer is one record, whatever the name."""

    _: KW_ONLY
    data: str

    _ACTION = "answer"
    _SOURCE = "queries answered with the list's error"

    def _rule(self) -> dict[str, Any]:
        return {"data": self.data}


@fault(
    proof="test_blocklist.py::test_symptom_the_list_answers_everybody_with_an_error",
    host="mail",
    topology="published",
    example={"name": "bl.example"},
)
@dataclass(frozen=True)
class BlocklistError:
    """The DNS blocklist ``name`` answers each query with an error, as if it listed the address.

    Public lists answer so to open resolvers (127.255.255.254), to too many queries
    (127.255.255.255) and to a wrong name (127.255.255.252). ``text`` is the TXT record that
    comes with it. The witness counts queries for the address.
    """

    name: str
    _: KW_ONLY
    address: str = "127.255.255.254"
    text: str = "Error: open resolver"

    def __post_init__(self) -> None:
        _check_name(self, self.name)
        if not _is_address(self.address):
            raise BadInput(f"{self!r}: {self.address!r} is not an IPv4 address")
        if not re.fullmatch(r"[ !#-\[\]-~]{1,255}", self.text):
            raise BadInput(f"{self!r}: text must be 1 to 255 ASCII characters without quotes")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Let the list answer this host, and no other, with the error."""
        below = f".{self.name}"
        texts = _Record(below, "TXT", data=f'"{self.text}"')
        addresses = _Record(below, "A", data=self.address)
        with texts.on(host), addresses.on(host) as witness:
            witness.fault = repr(self)
            yield witness


def _wire(fresh_ms: int) -> str:
    """Return rules that count the queries that leave a host, and late answers to them."""
    begins = "tcp flags & (syn | ack) == syn"
    leaves = 'oifname != "lo"'
    return f"""
table inet TABLE {{
  set waiting {{ type inet_service; size 65535; flags dynamic; }}
  set fresh {{ type inet_service; size 65535; flags dynamic,timeout; timeout {fresh_ms}ms; }}
  chain postrouting {{
    type filter hook postrouting priority srcnat + 200;
    {leaves} udp dport 53 counter comment "asked"
    {leaves} udp dport 53 add @waiting {{ udp sport }} add @fresh {{ udp sport }}
    {leaves} tcp dport 53 {begins} counter comment "asked"
    {leaves} tcp dport 53 {begins} counter comment "by TCP"
  }}
  chain prerouting {{
    type filter hook prerouting priority raw - 20;
    udp sport 53 udp dport @waiting udp dport != @fresh counter comment "late"
    udp sport 53 delete @waiting {{ udp dport }}
  }}
}}
"""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _query_name(name: str) -> str:
    """Return the name to query: for an address, its name under in-addr.arpa or ip6.arpa."""
    return ipaddress.ip_address(name).reverse_pointer if _is_address(name) else name


def _check_name(fault: object, name: str, *, wild: bool = False) -> None:
    """Raise BadInput unless a query could be for this name."""
    labels = name.removeprefix(".") if wild else name
    if wild and (name == "*" or _is_address(name)):
        return
    if len(name) > 253 or not re.fullmatch(rf"(?i){_LABEL}(\.{_LABEL})*", labels):  # noqa: PLR2004  # RFC 1035
        what = "a domain name"
        if wild:
            what += ", '.example.com' for all below it, an address, or '*'"
        raise BadInput(f"{fault!r}: {name!r} is not {what}")
