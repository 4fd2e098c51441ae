"""Parser for HAProxy's log: connections that it handed to a server. Pure.

The texts are those of HAProxy 3.0 with "option tcplog" (Configuration Manual 8.2.2), with or
without "option logasap". As in ``maillog``, each pattern takes time proportional to the line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from maillab.mail.maillog import Event, NotStarted

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


def read(event: Event) -> Event | None:
    """Return a line of HAProxy as an event of its kind, or None if it has none."""
    if found := _CONNECTION.fullmatch(event.text):
        fields = found.groupdict()
        address, _, port = fields.pop("client").rpartition(":")
        if address and port.isdecimal():
            return event.becomes(
                HandedOver, client_address=address, client_port=int(port), **fields
            )
    if found := _SERVER.fullmatch(event.text):
        return event.becomes(ServerChecked, **found.groupdict())
    if found := _NOT_STARTED.fullmatch(event.text):
        return event.becomes(NotStarted, **found.groupdict())
    return None
