"""What can be wrong with names: the answers that one host gets from its nameserver.

A proxy stands between the host and the lab's DNS (images/agent/dnsproxy.py).
Daemons that run already meet it at once, with no change of resolv.conf(5).
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

from maillab.errors import BadInput
from maillab.host import Host
from maillab.postfix import MailHost
from maillab.record import Witness

Type = Literal["*", "A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TLSA", "TXT"]
Rcode = Literal["FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]

_TYPES = Type.__args__  # type: ignore[attr-defined]  # what a Literal is made of
_RCODES = Rcode.__args__  # type: ignore[attr-defined]  # as above
# Longer than any resolver waits; resolv.conf(5) caps a single wait at 30 s.
_DELAY_MAX_S = 120.0
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"


@dataclass(frozen=True)
class _Answers:
    """Queries for a name and type that get something other than the true answer.

    ``name`` is that very name; ``.example.com`` is every name below; ``*`` any
    name. An IP address stands for the name of its PTR record. ``type`` may be
    ``*``, too. Of the queries that match, those behind the ``after``th are
    counted; each ``every``th of them is spoilt, and after the ``first`` spoilt
    ones (0: no end) all is well. A resolver's second try is a query of its own.
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
            raise BadInput(f"{self!r}: no type {self.type!r}; there is: {', '.join(_TYPES)}")
        if self.first < 0 or self.every < 1 or self.after < 0:
            raise BadInput(f"{self!r}: first and after are 0 or more, every is 1 or more")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Spoil the answers that this host gets, and no other's."""
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
        number = host.agent.call("names_start", **rule)["rule"]
        try:
            yield witness
        finally:
            witness.count = self._seen(host.agent.call("names_stop", rule=number))

    def _rule(self) -> dict[str, Any]:
        return {}

    def _seen(self, did: dict[str, int]) -> int:
        return did["acted"]


@dataclass(frozen=True)
class DnsDelay(_Answers):
    """Answers come ``delay_s`` seconds late; the resolver of the labs waits 2 s, twice."""

    _: KW_ONLY
    delay_s: float

    _ACTION = "delay"
    _SOURCE = "queries answered late"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.delay_s <= _DELAY_MAX_S:
            raise BadInput(
                f"{self!r}: delay_s is more than 0 and at most {_DELAY_MAX_S:g}; "
                "for an answer that never comes use DnsDrop"
            )

    def _rule(self) -> dict[str, Any]:
        return {"delay_s": self.delay_s}


@dataclass(frozen=True)
class DnsDrop(_Answers):
    """No answer comes, by UDP or TCP."""

    _ACTION = "drop"
    _SOURCE = "queries left without an answer"


@dataclass(frozen=True)
class DnsAnswer(_Answers):
    """The answer is an error, by its name in RFC 1035 section 4.1.1 (RCODE)."""

    _: KW_ONLY
    rcode: Rcode

    _ACTION = "rcode"
    _SOURCE = "queries answered with the error"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rcode not in _RCODES:
            raise BadInput(f"{self!r}: no rcode {self.rcode!r}; there is: {', '.join(_RCODES)}")

    def _rule(self) -> dict[str, Any]:
        return {"rcode": self.rcode}


@dataclass(frozen=True)
class DnsTruncated(_Answers):
    """Answers by UDP are empty and say "truncated": ask by TCP (RFC 7766 section 5).

    With ``tcp_refused`` the host's TCP connections to the nameserver are reset,
    for all names, as by a packet filter that knows DNS as UDP only. The witness
    counts the queries that came by TCP, or the connections that were refused.
    """

    _: KW_ONLY
    tcp_refused: bool = False

    _ACTION = "truncate"
    _SOURCE = "queries that came again by TCP"

    def _rule(self) -> dict[str, Any]:
        return {"refuse": self.tcp_refused}

    def _seen(self, did: dict[str, int]) -> int:
        return min(did["acted"], did["refused"] if self.tcp_refused else did["over_tcp"])


@dataclass(frozen=True)
class StaleAnswer(_Answers):
    """A name leads to an address that it had once."""

    type: Literal["A"] = "A"
    _: KW_ONLY
    address: str

    _ACTION = "answer"
    _SOURCE = "queries answered from the past"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type != "A":
            raise BadInput(f"{self!r}: an address is an answer to type A only")
        if not _is_address(self.address):
            raise BadInput(f"{self!r}: {self.address!r} is no IPv4 address")

    def _rule(self) -> dict[str, Any]:
        return {"data": self.address}


@dataclass(frozen=True)
class ForeignPtr(_Answers):
    """The PTR record of an address names a host of somebody else; ``name`` is the address."""

    type: Literal["PTR"] = "PTR"
    _: KW_ONLY
    points_to: str

    _ACTION = "answer"
    _SOURCE = "queries answered with the foreign name"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type != "PTR" or not (self.name == "*" or _is_address(self.name)):
            raise BadInput(f"{self!r}: names an IPv4 address, or '*' for every address")
        _check_name(self, self.points_to)

    def _rule(self) -> dict[str, Any]:
        return {"data": f"{self.points_to}."}


@dataclass(frozen=True)
class DeadNameserver:
    """The first of two nameservers in resolv.conf(5) is dead; the second is the lab's.

    It is silent, so that each query waits for the resolver's first timeout of
    2 s, or it ``refuses``: the host there is up, and its kernel says by ICMP
    that no nameserver is. Postfix is restarted before and after, since daemons
    keep the resolver that they started with. The witness counts, in the kernel,
    the queries that it was asked.
    """

    refuses: bool = False

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Name it first on this host."""
        witness = Witness(repr(self), host.name, "packets sent to the dead nameserver")
        number = host.agent.call("nameserver_start", refuses=self.refuses)["number"]
        try:
            _restart(host)
            yield witness
        finally:
            witness.count = host.agent.call("nameserver_stop", number=number)["asked"]
            _restart(host)


def _restart(host: Host) -> None:
    if isinstance(host, MailHost):
        host.restart()


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _query_name(name: str) -> str:
    """The name that is asked for: an address's own is below in-addr.arpa."""
    return ipaddress.IPv4Address(name).reverse_pointer if _is_address(name) else name


def _check_name(fault: object, name: str, *, wild: bool = False) -> None:
    """Refuse what no query could be about."""
    labels = name.removeprefix(".") if wild else name
    if wild and name == "*":
        return
    if len(name) > 253 or not re.fullmatch(rf"(?i){_LABEL}(\.{_LABEL})*", labels):  # noqa: PLR2004  # RFC 1035
        what = "a domain name"
        if wild:
            what += ", '.example.com' for all below it, an IPv4 address, or '*'"
        raise BadInput(f"{fault!r}: {name!r} is not {what}")
