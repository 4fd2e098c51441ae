"""Users read their mail by IMAP (RFC 3501): a client on any host of the lab.

    account = imap.read(lab.client, lab.mailbox, "alice@example.com", "secret")
    assert [mail["Subject"] for mail in account.folders["INBOX"]] == ["probe"]

The client reads every folder and leaves all as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maillab.hosts.host import Host
from maillab.mail import message

__all__ = ["Account", "read"]

Security = Literal["starttls", "tls", ""]
_PORTS = {"starttls": 143, "tls": 993, "": 143}


@dataclass(frozen=True)
class Account:
    """The result of one session: the server's replies, and the messages of each folder.

    ``greeting`` and ``login`` are "" if the session did not get that far; ``error`` then
    says why.
    """

    greeting: str
    login: str
    folders: dict[str, list[message.EmailMessage]]
    error: str

    @property
    def logged_in(self) -> bool:
        """Return True if the server accepted the password."""
        return bool(self.folders)

    @property
    def inbox(self) -> list[message.EmailMessage]:
        """The messages of the folder INBOX, the oldest first."""
        return self.folders.get("INBOX", [])


def read(
    client: Host,
    server: Host | str,
    user: str,
    password: str,
    *,
    security: Security = "starttls",
    port: int = 0,
    trust: str = "",
    timeout_s: float = 30.0,
) -> Account:
    """Log in from a host and read all messages, which stay unread on the server.

    ``security`` is "starttls", "tls" from the first byte, or "" for none; it also decides the
    port unless one is given. With ``trust``, a CA in PEM, that CA must have certified the
    server's name.
    """
    found = client.agent.call(
        "imap_read",
        server=server if isinstance(server, str) else server.fqdn,
        port=port or _PORTS[security], user=user, password=password, security=security,
        trust=trust, timeout_s=timeout_s, bounded=True,
    )  # fmt: skip
    folders = {
        name: [message.parse(raw.encode("latin-1")) for raw in messages]
        for name, messages in found["folders"].items()
    }
    return Account(found["greeting"], found["login"], folders, found["error"])
