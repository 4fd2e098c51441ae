"""Parser for the logs of PostgreSQL, MariaDB and OpenLDAP: logins and queries. Pure.

The event's ``program`` is the server: postgresql, mariadb or openldap. The texts are those of
PostgreSQL 17 with ``log_line_prefix = '%u@%h '``, MariaDB 11.8 (its general log and its error
log) and slapd 2.6 at level "stats". As in ``maillog``, each pattern takes time proportional to
the line's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from maillab.mail.maillog import Event

_FLAGS = re.ASCII | re.DOTALL


@dataclass(frozen=True, slots=True)
class TableQuery(Event):
    """A server got a query: its SQL, or the search filter of LDAP."""

    query: str


@dataclass(frozen=True, slots=True)
class TableConnection(Event):
    """A server took a connection; ``user`` is "" for OpenLDAP, which learns it later."""

    user: str
    address: str


@dataclass(frozen=True, slots=True)
class TableLoginRefused(Event):
    """A server refused a login; OpenLDAP logs only its error code 49, not the user."""

    user: str
    reason: str


_POSTGRESQL = (
    (re.compile(r"[^@ ]*+@\S*+ LOG:  statement: (?P<query>.*)", _FLAGS), TableQuery),
    (
        re.compile(
            r"(?P<user>[^@ ]++)@(?P<address>\S*+) LOG:  connection authorized: user=.*", _FLAGS
        ),
        TableConnection,
    ),
    (
        re.compile(
            r"(?P<user>[^@ ]*+)@\S*+ FATAL:  (?P<reason>password authentication failed .*"
            r"|no pg_hba\.conf entry .*|role .* is not permitted to log in)",
            _FLAGS,
        ),
        TableLoginRefused,
    ),
)
# The general log has the time only where it differs from that of the line before.
_STAMP = r"(?:\d{6} [ \d:]{8})?\s*+\d++ "
_MARIADB = (
    (re.compile(rf"{_STAMP}Query\t(?P<query>.*)", _FLAGS), TableQuery),
    (
        re.compile(
            rf"{_STAMP}Connect\t(?P<user>[^@\s]++)@(?P<address>\S++)(?: (?:as|on) .*)?", _FLAGS
        ),
        TableConnection,
    ),
    (
        re.compile(
            r"[\d-]{10} [ \d:]{8} \d++ \[Warning\] "
            r"(?P<reason>Access denied for user '(?P<user>[^']*+)'.*)",
            _FLAGS,
        ),
        TableLoginRefused,
    ),
)
_OPENLDAP = (
    (
        re.compile(r"\S++ \S++ conn=\d++ op=\d++ SRCH base=.* filter=\"(?P<query>.*)\"", _FLAGS),
        TableQuery,
    ),
    (
        re.compile(
            r"\S++ \S++ conn=\d++ fd=\d++ ACCEPT from (?P<user>)"
            r"IP=\[?+(?P<address>[^\s\]]*[^\s\]:])\]?+:\d++ .*",
            _FLAGS,
        ),
        TableConnection,
    ),
    (
        re.compile(
            r"\S++ \S++ conn=\d++ op=\d++ (?P<user>)RESULT tag=97 (?P<reason>err=49 .*)", _FLAGS
        ),
        TableLoginRefused,
    ),
)
PROGRAMS: dict[str, tuple[tuple[re.Pattern[str], Callable[..., Event]], ...]] = {
    "postgresql": _POSTGRESQL,
    "mariadb": _MARIADB,
    "openldap": _OPENLDAP,
}


def read(event: Event) -> Event | None:
    """Return a line of a server of tables as an event of its kind, or None if it has none."""
    for pattern, kind in PROGRAMS[event.program]:
        if found := pattern.fullmatch(event.text):
            return event.becomes(kind, **found.groupdict(default=""))
    return None
