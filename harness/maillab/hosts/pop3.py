"""Users read their mail by POP3 (RFC 1939): a real Dovecot on the mail host, and a client.

    pop3.serve(lab.server, {"alice": "wonder"})
    inbox = pop3.read(lab.workstation, lab.server, "alice", "wonder")

Dovecot reads the mailboxes that Postfix writes, as the system's users, with
passwords of its own. It ends and is forgotten with the scenario.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maillab.hosts.host import Host
from maillab.mail import message

__all__ = ["LOG", "Inbox", "read", "serve"]

PORT, TLS_PORT = 110, 995
# dovecot(1) logs every login here, with the reason for each failure.
LOG = "/var/log/dovecot.log"

_CONFIGURATION = "/etc/dovecot/dovecot.conf"
_PASSWORDS = "/etc/dovecot/passwords"
# 2.4 changed the language; the first line of its file says which.
_SINCE_2_4 = f"""\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols = pop3
ssl = no
auth_allow_cleartext = yes
log_path = {LOG}
auth_failure_delay = 0
mail_privileged_group = mail
passdb passwd-file {{
  passwd_file_path = {_PASSWORDS}
  default_password_scheme = PLAIN
}}
userdb passwd {{
}}
"""
_UNTIL_2_3 = f"""\
protocols = pop3
ssl = no
disable_plaintext_auth = no
log_path = {LOG}
auth_failure_delay = 0
mail_privileged_group = mail
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {_PASSWORDS}
}}
userdb {{
  driver = passwd
}}
"""
# It goes into the background once it listens, and would keep our pipe open from there.
_START = f"""\
dovecot -c {_CONFIGURATION} >/tmp/dovecot.start 2>&1
status=$?
cat /tmp/dovecot.start >&2
exit $status
"""
# Where Postfix stores mail: mail_spool_directory, and home_mailbox = Maildir/.
_MAILBOXES_SINCE_2_4 = {
    "mbox": "mail_driver = mbox\nmail_path = ~/mail\nmail_inbox_path = /var/mail/%{user}\n",
    "maildir": "mail_driver = maildir\nmail_path = ~/Maildir\n",
}
_MAILBOXES_UNTIL_2_3 = {
    "mbox": "mail_location = mbox:~/mail:INBOX=/var/mail/%u\n",
    "maildir": "mail_location = maildir:~/Maildir\n",
}


@dataclass(frozen=True)
class Inbox:
    """The result of one session: the server's replies, and the messages in order.

    ``greeting`` and ``login`` are "" if the session did not get that far; ``error`` then
    says why.
    """

    greeting: str
    login: str
    messages: list[message.EmailMessage]
    error: str

    @property
    def logged_in(self) -> bool:
        """Return True if the server accepted the password."""
        return self.login.startswith("+OK")


def serve(
    host: Host, passwords: Mapping[str, str], *, mailboxes: str = "mbox", settings: str = ""
) -> None:
    """Start Dovecot; it answers on port 110 on return.

    ``passwords`` are by user of the host. ``mailboxes`` is mbox, for /var/mail/USER, or
    maildir, for ~/Maildir. ``settings`` is appended to dovecot.conf. There is no TLS, so
    that sessions can be read on the wire.
    Raise CommandFailed with Dovecot's words.
    """
    new = since_2_4(host)
    text = _SINCE_2_4 if new else _UNTIL_2_3
    text += (_MAILBOXES_SINCE_2_4 if new else _MAILBOXES_UNTIL_2_3)[mailboxes]
    host.write(_CONFIGURATION, text + settings)
    lines = (f"{user}:{password}\n" for user, password in passwords.items())
    host.write(_PASSWORDS, "".join(lines), mode=0o640)
    host.run("chgrp", "dovecot", _PASSWORDS)
    host.run("sh", "-c", _START)


def since_2_4(host: Host) -> bool:
    """Return True if the host's Dovecot reads the language of 2.4."""
    return not host.run("dovecot", "--version").stdout.startswith("2.3.")


def read(
    client: Host,
    server: Host | str,
    user: str,
    password: str,
    *,
    port: int = 0,
    tls: bool = False,
    timeout_s: float = 30.0,
) -> Inbox:
    """Log in from a host and read all messages, which stay on the server.

    With ``tls`` the session is in TLS from its first byte, by default on port 995.
    """
    address = server if isinstance(server, str) else server.address
    found = client.agent.call(
        "pop3_read",
        address=address, port=port or (TLS_PORT if tls else PORT), user=user, password=password,
        tls=tls, timeout_s=timeout_s, bounded=True,
    )  # fmt: skip
    messages = [message.parse(raw.encode("latin-1")) for raw in found["messages"]]
    return Inbox(found["greeting"], found["login"], messages, found["error"])
