"""A host with Sendmail, for the FAQ's contrasts between Postfix and Sendmail.

Sendmail's log becomes plain events: a message's journey ends where Sendmail takes the
message, and a new journey starts where Sendmail passes it on. The ledger follows what
Sendmail stored, queued, piped to a command or returned, message by message. It does not
notice if Sendmail forgets one of several recipients.
"""

from __future__ import annotations

import contextlib
import re

from maillab.errors import TimedOut
from maillab.hosts.mailserver import MailServer, QueueEntry

_AT_WORK_WITHIN_S = 10.0


class SendmailHost(MailServer):
    """A host that runs Sendmail."""

    mta = "Sendmail"
    configuration = ("/etc/mail/sendmail.cf", "/etc/mail/changes.m4", "/etc/aliases")

    def configure(self, **settings: str) -> None:
        """Define m4 macros such as confME_TOO (cf/README), build sendmail.cf and restart."""
        self._instruct(*(f"{name} = {value}" for name, value in settings.items()))
        self.channel.call("configure", settings=settings)

    @property
    def version(self) -> str:
        """The version that Sendmail reports."""
        output = self.run("sendmail", "-d0.1", "-bv", "root").stdout
        found = re.search(r"Version (\S+)", output)
        return found[1] if found else ""

    def flush(self, *, site: str = "", queue_id: str = "") -> None:
        """Try queued mail now, after current deliveries have ended.

        Try all mail (sendmail -qf), one id (-qI), or the mail for one site (-qR).
        """
        which = f"-qR{site}" if site else f"-qI{queue_id}" if queue_id else "-qf"
        if not self._withheld:
            with contextlib.suppress(TimedOut):
                self.scenario.stream.wait(
                    lambda: not self.channel.call("queue_files")["due"],
                    within_s=_AT_WORK_WITHIN_S,
                    what=f"deliveries on {self.name} did not end",
                    polled=True,
                )
            self.catch_up()
        self.run("sendmail", which)

    def queue(self) -> list[QueueEntry]:
        """Return the queue and the id of each queued message."""
        return [QueueEntry(file.queue, file.queue_id, "", 0, (), ()) for file in self.queued()]
