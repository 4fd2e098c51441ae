"""A host with Dovecot: the mailboxes of a site's users, and their passwords.

Postfix on another host delivers to it by LMTP and asks it for passwords (SASL). Its users
read their mail by IMAP (``maillab.imap``) or POP3 (``maillab.pop3``).
"""

from __future__ import annotations

from maillab.errors import BadInput
from maillab.hosts.serverhost import ServerHost

_USERS = "/etc/dovecot/users"


class DovecotHost(ServerHost):
    """A host that runs Dovecot and no MTA."""

    configuration = (
        "/etc/dovecot/dovecot.conf",
        "/etc/dovecot/host.conf",
        "/etc/dovecot/conf.d/scenario.conf",
        _USERS,
    )

    def configure(self, settings: str) -> None:
        """Add settings in Dovecot's language; it restarts before the next request to the lab.

        They replace the settings of the same name. Raise BadInput with Dovecot's words for
        settings that it does not take.
        """
        self._instruct(settings)
        self._advise("dovecot.conf", settings)
        if error := self.channel.call("add_settings", text=settings)["error"]:
            raise BadInput(f"{self.name}: Dovecot {self.version} refuses the settings: {error}")
        self.channel.restart_later("configure")

    def misconfigure(self, settings: str) -> None:
        """Make the mistake behind a symptom; a no-op when faults are withheld."""
        self.mistake.configure(settings)

    def users(self, passwords: dict[str, str]) -> None:
        """Replace the users' file by these users, each with a password; in force on return."""
        lines = (f"{user}:{{PLAIN}}{password}::::::\n" for user, password in passwords.items())
        text = "".join(lines)
        self._instruct(text)
        self._advise(_USERS, text)
        self.channel.call("replace_users", path=_USERS, text=text)

    def sieve(self, user: str, script: str) -> None:
        """Make a Sieve script (RFC 5228) the active one of a user.

        Raise BadInput with Dovecot's words for a script that does not compile.
        """
        self._instruct(script)
        self._advise(f"{user}: Sieve", script)
        put = ("doveadm", "sieve", "put", "-a", "-u", user, "main")
        done = self._run(*put, stdin=script, check=False)
        if done.status != 0:
            words = (done.stderr.strip().splitlines() or [f"status {done.status}"])[0]
            raise BadInput(f"{self.name}: the Sieve script of {user} is refused: {words}")

    @property
    def version(self) -> str:
        """The version that Dovecot reports, such as 2.4.1."""
        return self._run_tool("dovecot", "--version").stdout.partition("-")[0].strip()
