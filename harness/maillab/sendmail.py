"""A host with Sendmail: the words of a mail host, for what the FAQ says of it.

Its log becomes events, but plain ones: the journey of a message ends where
Sendmail takes it and begins anew where it hands it on. What it stored, has
queued, gave to a command or returned is looked at by the ledger, message by
message; that one of several recipients was forgotten it does not notice.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

from maillab.errors import BadInput, TimedOut
from maillab.postfix import MailHost, QueueEntry

_AT_WORK_WITHIN_S = 10.0


class SendmailHost(MailHost):
    """A host that runs Sendmail; what is about Postfix alone is not for it."""

    mta = "Sendmail"
    configuration = ("/etc/mail/sendmail.cf", "/etc/mail/changes.m4", "/etc/aliases")

    def configure(self, **settings: str) -> None:
        """Define m4 macros such as confME_TOO (cf/README), build sendmail.cf and restart."""
        self.channel.call("configure", settings=settings)

    def table(self, name: str, entries: Mapping[str, str] | str, kind: str = "") -> str:
        """Not for Sendmail."""
        raise BadInput(f"{self.name}: no lookup tables of Postfix: {kind}:{name}, {len(entries)}")

    @property
    def version(self) -> str:
        """The version it reports."""
        said = self.run("sendmail", "-d0.1", "-bv", "root").stdout
        found = re.search(r"Version (\S+)", said)
        return found[1] if found else ""

    def reload(self) -> None:
        """Restart, which comes to the same."""
        self.restart()

    def flush(self, *, site: str = "", queue_id: str = "") -> None:
        """Try queued mail now, once no mail is in hand any more.

        All (sendmail -qf), that of one id (-qI), or for recipients of a site (-qR).
        """
        which = f"-qR{site}" if site else f"-qI{queue_id}" if queue_id else "-qf"
        if not self._withheld:
            with contextlib.suppress(TimedOut):
                self.record.stream.wait(
                    lambda: not self.channel.call("queue_files")["due"],
                    within_s=_AT_WORK_WITHIN_S,
                    what=f"the end of all deliveries on {self.name}",
                    announced=False,
                )
            self.mark()
        self.run("sendmail", which)

    def queue(self) -> list[QueueEntry]:
        """What is queued: which queue, which id."""
        return [QueueEntry(one.queue, one.queue_id, "", 0, (), ()) for one in self.queued()]

    def _build(self, what: str, *argv: str, statuses: tuple[int, ...] = (0,)) -> None:
        # newaliases(1) prints what it did.
        del what, statuses
        self.run(*argv)
