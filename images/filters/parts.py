"""The filters of both images: how each starts, its configuration, and where it listens.

Those that speak to Postfix about mail are in images/filters, those about names in images/resolver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple

TCP = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
UNIX = Path("/proc/net/unix")
# The state of a TCP socket that listens, and the flag of such a socket in the file system
# (proc(5)).
_LISTENS = "0A"
_ACCEPTS = 0x10000


@dataclass(frozen=True)
class Part:
    """One filter: its command, its configuration, and what it remembers between messages."""

    command: Tuple[str, ...]
    configuration: str
    # Finds each port or path in the configuration.
    socket: str = ""
    # Where it listens if the configuration names no other place.
    ports: Tuple[int, ...] = ()
    # Its database, which a reset empties.
    database: str = ""
    # It keeps facts about earlier messages or names: a reset restarts it if it was used.
    remembers: bool = False
    # It keeps the answers of name servers until their time to live is over.
    caches_names: bool = False


_MILTER = r"(?m)^Socket\s+(?:inet6?:(?P<port>\d+)(?:@\S+)?|(?:local|unix):(?P<path>\S+))"

# The daemon trusts the lab's authority, as it does public ones elsewhere.
_MTA_STS = """\
export SSL_CERT_FILE=/etc/ssl/maillab-authority/authority.pem
exec mta-sts-daemon -c /etc/mta-sts-daemon.yml
"""

_POSTSRSD = """\
[ -e /etc/postsrsd.secret ] || openssl rand -base64 18 >/etc/postsrsd.secret
exec /usr/share/postsrsd/postsrsd-systemd-launcher
"""

PARTS = {
    "authcheck": Part(("python3", "/opt/maillab/authcheck.py"), "/etc/authcheck.conf", _MILTER),
    "opendkim": Part(
        ("opendkim", "-f", "-x", "/etc/opendkim.conf"),
        "/etc/opendkim.conf",
        _MILTER,
        # Names (libunbound).
        remembers=True,
    ),
    "opendmarc": Part(
        ("opendmarc", "-f", "-c", "/etc/opendmarc.conf"), "/etc/opendmarc.conf", _MILTER
    ),
    "mta-sts-resolver": Part(
        ("sh", "-c", _MTA_STS),
        "/etc/mta-sts-daemon.yml",
        r"(?m)^(?:port: (?P<port>\d+)|path: (?P<path>\S+))",
        ports=(8461,),
        database="/var/lib/mta-sts",
        remembers=True,
    ),
    # A program of the user's.
    "own": Part(("/etc/own/filter",), "/etc/own/filter.conf", _MILTER, remembers=True),
    # A web server for MTA-STS policies.
    "policyhost": Part(
        ("python3", "/opt/maillab/policyhost.py"),
        "/etc/policyhost.conf",
        r"(?m)^Port (?P<port>\d+)",
    ),
    "policyd-spf": Part(
        ("python3", "/opt/maillab/policyserver.py"),
        "/etc/postfix-policyd-spf-python/policyd-spf.conf",
        ports=(10031,),
    ),
    "postgrey": Part(
        ("sh", "-c", ". /etc/default/postgrey; exec postgrey $POSTGREY_OPTS"),
        "/etc/default/postgrey",
        r"--(?:inet=(?:[^\s\"]+:)?(?P<port>\d+)|unix=(?P<path>[^\s\"]+))",
        database="/var/lib/postgrey",
        remembers=True,
    ),
    "postsrsd": Part(
        # Debian's own start, with a secret of this lab's.
        (
            "sh",
            "-c",
            _POSTSRSD,
        ),
        "/etc/default/postsrsd",
        r"(?m)^SRS_(?:FORWARD|REVERSE)_PORT=(?P<port>\d+)",
        ports=(10001, 10002),
    ),
    "rspamd": Part(
        ("rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd"),
        "/etc/rspamd/local.d/worker-proxy.inc",
        r"(?m)^bind_socket = \"(?:127\.0\.0\.1:(?P<port>\d+)|(?P<path>/[^\s\"]+))",
        database="/var/lib/rspamd",
        remembers=True,
    ),
    "unbound": Part(
        ("unbound", "-d", "-p", "-c", "/etc/unbound/unbound.conf"),
        "/etc/unbound/unbound.conf",
        r"(?m)^ *port: (?P<port>\d+)",
        ports=(53,),
        remembers=True,
        caches_names=True,
    ),
}


def sockets(part: Part, configuration: str) -> Tuple[List[int], List[str]]:
    """Return the ports and the paths on which a part is to listen."""
    found = [match.groupdict() for match in re.finditer(part.socket, configuration) if part.socket]
    if not found:
        return list(part.ports), []
    ports = [int(groups["port"]) for groups in found if groups.get("port")]
    return ports, [groups["path"] for groups in found if groups.get("path")]


def listening(tcp: str, unix: str) -> Tuple[List[int], List[str]]:
    """Return the ports and the paths on which any program listens, from the kernel's tables."""
    rows = [line.split() for line in tcp.splitlines()]
    ports = [
        int(row[1].rpartition(":")[2], 16)
        for row in rows
        if len(row) > 3 and row[3] == _LISTENS  # noqa: PLR2004  # the state
    ]
    named = re.findall(r"(?m)^\w+: \w+ \w+ (\w+) \w+ \w+ +\d+ (\S+)$", unix)
    return ports, [path for flags, path in named if int(flags, 16) & _ACCEPTS]


def listens(part: Part) -> bool:
    """Return True if a program listens on every socket of the part's configuration."""
    wanted_ports, wanted_paths = sockets(part, Path(part.configuration).read_text())
    tcp = "".join(table.read_text() for table in TCP if table.exists())
    ports, paths = listening(tcp, UNIX.read_text())
    return bool(wanted_ports or wanted_paths) and (
        set(wanted_ports) <= set(ports) and set(wanted_paths) <= set(paths)
    )
