"""A host with a mail server: the verbs that every MTA has."""

from __future__ import annotations

import abc
import contextlib
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from maillab.engine.channel import Channel
from maillab.errors import TimedOut
from maillab.hosts.disk import Disk
from maillab.hosts.serverhost import ServerHost, queue_files
from maillab.mail import message
from maillab.mail.history import Queued, Submission
from maillab.scenario.state import Mail, ScenarioState
from maillab.site.topology import Role

_DEFERRAL_WITHIN_S = 2.0
# The queues of mail under way (postconf(5) queue_directory), and of mail that arrived by
# UUCP and is about to be submitted.
UNDER_WAY = {"maildrop", "incoming", "active", "uuxqt"}


@dataclass(frozen=True)
class QueueEntry:
    """One message of the queue, as postqueue(1) -j lists it."""

    queue: str
    queue_id: str
    sender: str
    size: int
    recipients: tuple[str, ...]
    reasons: tuple[str, ...]


class MailServer(ServerHost, abc.ABC):
    """A host with an MTA: queue, mailboxes, users and aliases; send, start and stop.

    `PostfixHost` and `SendmailHost` are the two kinds.
    """

    mta: str

    def __init__(
        self, role: Role, net: str, agent: Channel, server: Channel, scenario: ScenarioState
    ) -> None:
        super().__init__(role, net, agent, server, scenario)
        # The disks that the scenario has added.
        self.disks: list[Disk] = []

    # Configuration.

    @abc.abstractmethod
    def configure(self, **settings: str) -> None:
        """Apply settings of the server's own configuration and restart it."""

    def misconfigure(self, **settings: str) -> None:
        """Make the mistake behind a symptom; a no-op when faults are withheld."""
        self.mistake.configure(**settings)

    def aliases(self, entries: Mapping[str, str]) -> None:
        """Replace /etc/aliases (aliases(5)) and rebuild it; postmaster goes to root."""
        lines = {"postmaster": "root", **entries}
        self.write("/etc/aliases", "".join(f"{name}: {to}\n" for name, to in lines.items()))
        self._build_aliases()

    def _build_aliases(self) -> None:
        self.run("newaliases")

    def user(self, name: str) -> None:
        """Add a user with a home directory."""
        self._advise("", f"useradd --create-home {name}")
        self._run_tool("useradd", "--create-home", "--shell", "/bin/sh", name)

    def add_disk(self, path: str) -> None:
        """Move a folder to a disk (a block device) of its own, until the reset.

        Stop first what uses the folder. The disk writes each change of a directory at once, as
        that of the fault SlowDisk does, but is fast. Raise Unsupported if the engine or its
        kernel cannot do it.
        """
        self._advise("/etc/fstab", f"/dev/sdb1 {path} ext4 defaults 0 2")
        if not self._withheld:
            self.disks.append(Disk(self.name, self.channel, self.agent, path))

    def remove_disks(self) -> None:
        """Remove the disks, for the reset; what they held is lost."""
        while self.disks:
            self.disks.pop().remove()

    # The server's processes and queue.

    def reload(self) -> None:
        """Make the server read its configuration again."""
        self.restart()

    @abc.abstractmethod
    def flush(self, *, site: str = "", queue_id: str = "") -> None:
        """Try deferred mail now: all of it, the mail for one site, or one message."""

    def before_flush(self) -> int:
        """Return the log position after which a flush finds all mail deferred so far.

        Mail that was just deferred is still in the active queue for a moment, and a flush
        would miss it. So wait up to 2 s for the active queue to empty.
        """
        with contextlib.suppress(TimedOut):
            self.scenario.stream.wait(
                lambda: not any(entry.queue in UNDER_WAY for entry in self.queued()),
                within_s=_DEFERRAL_WITHIN_S,
                what=f"the active queue on {self.name} did not empty",
                polled=True,
            )
        self.catch_up()
        return self.scenario.stream.position

    # Mail sent and mail that arrived.

    def send(
        self,
        to: str | Iterable[str],
        *,
        user: str = "bob",
        sender: str | None = None,
        subject: str = "probe",
        body: str = "",
        size_bytes: int = 0,
        headers: Mapping[str, str] | None = None,
        options: Iterable[str] = (),
    ) -> Mail:
        """Send a message with the host's own sendmail(1), as a user of the host.

        The envelope sender is the user, unless ``sender`` names another. ``options`` are
        added to the command. The command's output is the reply. ``user`` is as for ``run``.
        """
        recipients = (to,) if isinstance(to, str) else tuple(to)
        probe = message.compose(
            sender=user if sender is None else sender,
            recipients=recipients,
            subject=subject,
            body=body,
            size_bytes=size_bytes,
            headers=headers,
        )
        words = tuple(options)
        if "-bv" in words:
            # Postfix does not read the message; cleanup(8) generates a Message-ID.
            probe = replace(probe, message_id="")
        before = self.scenario.stream.position - 1
        identity = [] if sender is None else ["-f", sender]
        done = self._run(
            *("sendmail", "-i", *identity, *words, "--", *recipients),
            user=user,
            stdin=probe.raw.decode("latin-1"),
            check=False,
        )
        taken = done.status == 0
        return self.scenario.add(
            Submission(
                number=0,
                probe=probe,
                host=self.name,
                via="sendmail",
                accepted=recipients if taken else (),
                outcome="acknowledged" if taken else "refused",
                code=done.status or 0,
                reply=(done.stdout + done.stderr).strip(),
                after_seq=before,
            )
        )

    def words(self, *words: str) -> tuple[str, ...]:
        """Return words of a command line that are a mistake or a cure; none if withheld."""
        if self._withheld:
            return ()
        self._advise("options", shlex.join(words))
        return words

    @abc.abstractmethod
    def queue(self) -> list[QueueEntry]:
        """Return the queue's messages."""

    def queued(self) -> list[Queued]:
        """Return the files in the queue directories; faster than ``queue``, for waits."""
        return queue_files(self.name, self.channel.call("queue_files")["queued"])

    def queue_lengths(self) -> dict[str, int]:
        """Return the number of files in each queue directory."""
        return dict(Counter(file.queue for file in self.queued()))
