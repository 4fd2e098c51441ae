"""Parser for HAProxy's log: connections that it handed to a server. Pure.

The texts are those of HAProxy 3.0 with "option tcplog" (Configuration Manual 8.2.2), with or
without "option logasap". As in ``maillog``, each pattern takes time proportional to the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from maillab.mail import dovecotlog
from maillab.mail.dovecotlog import NotStarted
from maillab.mail.maillog import Event

_FLAGS = re.ASCII | re.DOTALL
_CONNECTION = re.compile(
    # The port is after the last colon of an IPv6 address, too.
    r"(?P<client>[\da-fA-F.:]++) \[[^\]]*+\] "
    r"(?P<frontend>\S++) (?P<backend>[^\s/]++)/(?P<server>\S++) "
    r"[-+\d/]++ \+?\d++ (?P<state>\S\S) .*",
    _FLAGS,
)
_SERVER = re.compile(
    r"Server (?P<backend>[^\s/]++)/(?P<server>\S++) is (?P<state>UP|DOWN)\b.*", _FLAGS
)
_NOT_STARTED = re.compile(r"does not start: (?P<words>.*)", _FLAGS)


@dataclass(frozen=True, slots=True)
class HandedOver(Event):
    """HAProxy: a client's connection went to a server, or could not.

    ``state`` is the termination state (Configuration Manual 8.5): "--" is a connection that
    nothing has broken, "SC" one that the server refused or that no server could take.
    """

    client_address: str
    client_port: int
    frontend: str
    backend: str
    server: str
    state: str


@dataclass(frozen=True, slots=True)
class ServerChecked(Event):
    """HAProxy: its health checks changed a server's state, "UP" or "DOWN"."""

    backend: str
    server: str
    state: str


def parse(line: bytes | str, *, host: str, seq: int, arrived: float = 0.0) -> Event:
    """Parse one line of a host's log, HAProxy's or any that ``dovecotlog`` knows; never fail."""
    event = dovecotlog.parse(line, host=host, seq=seq, arrived=arrived)
    if event.program != "haproxy":
        return event
    if found := _CONNECTION.fullmatch(event.text):
        fields = found.groupdict()
        address, _, port = fields.pop("client").rpartition(":")
        if address and port.isdecimal():
            client = {"client_address": address, "client_port": int(port)}
            return _of(event, HandedOver, **client, **fields)
    if found := _SERVER.fullmatch(event.text):
        return _of(event, ServerChecked, **found.groupdict())
    if found := _NOT_STARTED.fullmatch(event.text):
        return _of(event, NotStarted, **found.groupdict())
    return event


def _of(event: Event, kind: Callable[..., Event], **fields: object) -> Event:
    """Return an event of a kind with the stamp, the program and the text of a plain event."""
    common = (event.host, event.seq, event.arrived, event.stamp, event.program, event.pid)
    return kind(*common, event.queue_id, event.text, **fields)
