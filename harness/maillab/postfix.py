"""A host with Postfix: its configuration, tables, queue and mailboxes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from maillab import maincf, message
from maillab.engine.channel import Answer, Channel
from maillab.errors import BadInput, BadTable, TimedOut, UnknownName
from maillab.history import Queued, Stored, Submission
from maillab.host import Host, Nothing
from maillab.jail import Jail
from maillab.message import body_digest
from maillab.record import Mail, Record
from maillab.topology import Role

_NEEDS_POSTMAP = {"btree", "cdb", "dbm", "hash", "lmdb", "sdbm"}
_NOTICED_BY_TIME = {"btree", "hash"}
_MARK_WITHIN_S = 10.0
_DEFERRAL_WITHIN_S = 2.0
_PICKED_UP_WITHIN_S = 10.0
# The queues of mail that is being worked on (postconf(5) queue_directory), and what
# came by UUCP and is about to be handed in.
UNDER_WAY = {"maildrop", "incoming", "active", "uuxqt"}


@dataclass(frozen=True)
class QueueEntry:
    """One message of the queue (postqueue(1) -j)."""

    queue: str
    queue_id: str
    sender: str
    size: int
    recipients: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What was found in a host's mailboxes and queue directories."""

    stored: list[Stored]
    queued: list[Queued]


class MailHost(Host):
    """A host that runs Postfix."""

    mta = "Postfix"
    # What tells most about it, for the evidence.
    configuration: tuple[str, ...] = ("/etc/postfix/main.cf", "/etc/postfix/master.cf")

    def __init__(
        self, role: Role, net: str, agent: Channel, postfix: Channel, record: Record
    ) -> None:
        super().__init__(role, net, agent, record)
        self._postfix = postfix
        self._withheld = False
        # Its container is killed or paused, so that nothing can be asked of it.
        self.away = False

    @property
    def channel(self) -> Channel:
        """Into the container of Postfix."""
        return self._postfix

    def _withhold(self) -> None:
        super()._withhold()
        self._postfix = Nothing()
        self._withheld = True

    # What is said of the configuration.

    def configure(self, **settings: str) -> None:
        """Set main.cf parameters and restart, so that every daemon knows them.

        Raises UnknownName for a parameter that this Postfix does not have.
        """
        for name, value in settings.items():
            if not isinstance(value, str):
                raise BadInput(f"{self.name}: {name}: write the value as main.cf has it, a text")
        unknown = self.channel.call("configure", settings=settings)["unknown"]
        if unknown:
            raise UnknownName(
                f"{self.name}: Postfix {self.version} has no parameter {', '.join(unknown)}; "
                "see postconf(5), or 'postconf -d' on the host"
            )

    def main_cf(self, text: str, **instead: str) -> None:
        """Set what a whole main.cf sets, on top of the lab's; ``instead`` goes before it.

        Its maillog_file is left out: the lab reads the log that it knows. Raises
        BadInput for a line that is none, and as ``configure`` does.
        """
        settings = maincf.settings(text) | instead
        settings.pop("maillog_file", None)
        self.configure(**settings)

    def misconfigure(self, **settings: str) -> None:
        """The mistake that a symptom is about; left out when faults are withheld."""
        self.mistake.configure(**settings)

    def table(self, name: str, entries: Mapping[str, str] | str, kind: str = "") -> str:
        """Write a lookup table and build it; returns it as main.cf names it, ``kind:path``.

        ``kind`` is the version's default_database_type unless given; ``inline``
        needs no file. Raises BadTable with postmap's words.
        """
        kind = kind or self.postconf("default_database_type")
        if isinstance(entries, str):
            text = entries
        else:
            text = "".join(f"{key}\t{value}\n" for key, value in entries.items())
            if kind == "inline":
                pairs = ", ".join(f"{{{key}={value}}}" for key, value in entries.items())
                return f"inline:{{ {pairs} }}"
        kinds = self.run("postconf", "-m").stdout.split()
        if kinds and kind not in kinds:
            raise UnknownName.among(f"table type in Postfix {self.version}", kind, kinds)
        path = f"/etc/postfix/{name}"
        self.write(path, text)
        if kind in _NEEDS_POSTMAP:
            self._build(path, "postmap", f"{kind}:{path}")
        if kind in _NOTICED_BY_TIME:
            # In whole seconds: a change within the second it was made in would be missed.
            self.run("touch", "-d", "10 seconds ago", f"{path}.db")
        self._build(path, "postmap", "-q", "maillab", f"{kind}:{path}", statuses=(0, 1))
        return f"{kind}:{path}"

    def aliases(self, entries: Mapping[str, str]) -> None:
        """Replace /etc/aliases (aliases(5)) and rebuild it; postmaster goes to root."""
        lines = {"postmaster": "root", **entries}
        self.write("/etc/aliases", "".join(f"{name}: {to}\n" for name, to in lines.items()))
        self._build("/etc/aliases", "newaliases")

    def service(self, row: str) -> None:
        """Add or replace a row of master.cf (master(5)) and restart."""
        name, kind = row.split()[:2]
        self.run("postconf", "-M", f"{name}/{kind}={row}")
        self.restart()

    def no_service(self, name: str) -> None:
        """Take the row ``name/type`` out of master.cf and restart."""
        self.run("postconf", "-MX", name)
        self.restart()

    @property
    def jail(self) -> Jail:
        """Its chroot, and which daemons are in it."""
        return Jail(self)

    def user(self, name: str) -> None:
        """Add a user with a home directory."""
        self.run("useradd", "--create-home", "--shell", "/bin/sh", name)

    def postconf(self, name: str) -> str:
        """A parameter's value as Postfix sees it, defaults included."""
        return self.run("postconf", "-xh", name).stdout.strip()

    @property
    def version(self) -> str:
        """The mail_version it reports."""
        return self.run("postconf", "-h", "mail_version").stdout.strip()

    def _build(self, what: str, *argv: str, statuses: tuple[int, ...] = (0,)) -> None:
        done = self.run(*argv, check=False)
        if done.stderr or done.status not in statuses:
            words = done.stderr.strip().splitlines()[-1:] or [f"status {done.status}"]
            raise BadTable(f"{self.name}: {what} does not build: {words[0]}")

    # What is done to Postfix.

    def start(self) -> None:
        """Start Postfix; it accepts connections on return."""
        self.channel.call("start")

    def stop(self) -> None:
        """Stop Postfix; no process of it is left on return."""
        self.channel.call("stop")

    def restart(self) -> None:
        """Stop and start; a stopped Postfix stays stopped."""
        self.channel.call("restart")

    def reload(self) -> None:
        """Have master read its configuration anew (postfix(1) reload).

        On return every daemon that had nothing to do has made way for a new one.
        """
        self.channel.call("reload")

    def flush(self, *, site: str = "", queue_id: str = "") -> None:
        """Try all deferred mail now (postqueue(1) -f), or that for a site (-s), or one (-i).

        Raises CommandFailed for a site of which Postfix keeps no list (fast_flush_domains).
        """
        if not self._withheld:
            self.record.flushed[self.name] = self.before_flush()
        which = ("-s", site) if site else ("-i", queue_id) if queue_id else ("-f",)
        self.run("postqueue", *which)

    def before_flush(self) -> int:
        """Where its log stands once a flush would find all that was deferred by now.

        Mail just deferred is in the active queue for a moment, where a flush
        would miss it; so this waits for that first, as long as it takes little.
        """
        with contextlib.suppress(TimedOut):
            self.record.stream.wait(
                lambda: not any(entry.queue in UNDER_WAY for entry in self.queued()),
                within_s=_DEFERRAL_WITHIN_S,
                what=f"an empty active queue on {self.name}",
                announced=False,
            )
        self.mark()
        return self.record.stream.position

    def pick_up(self) -> None:
        """Have pickup(8) look into maildrop now, which it does once a minute by itself."""
        # A pickup that is just being started, or that ends, may hang up.
        self.record.stream.wait(
            lambda: self.run("postkick", "public", "pickup", "W", check=False).status == 0,
            within_s=_PICKED_UP_WITHIN_S,
            what=f"pickup(8) of {self.name} taking a request",
            announced=False,
        )

    # What is sent and what arrived.

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

        The envelope sender is the user's own unless ``sender`` names another;
        ``options`` are more of the command's. What it printed is the reply.
        ``user`` is as for ``run``.
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
            # Nothing of the message is read, cleanup(8) makes up a Message-ID.
            probe = replace(probe, message_id="")
        before = self.record.stream.position - 1
        identity = [] if sender is None else ["-f", sender]
        done = self.run(
            *("sendmail", "-i", *identity, *words, "--", *recipients),
            user=user,
            stdin=probe.raw.decode("latin-1"),
            check=False,
        )
        taken = done.status == 0
        return self.record.add(
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
        """Words of a command line that are a mistake's or a cure's: none when it is withheld."""
        return () if self._withheld else words

    def queue(self) -> list[QueueEntry]:
        """The queue as postqueue(1) shows it."""
        lines = self.run("postqueue", "-j").stdout.splitlines()
        return [_queue_entry(json.loads(line)) for line in lines]

    def queued(self) -> list[Queued]:
        """The files in the queue directories, for waiting: quicker than the queue itself."""
        return _queued(self.name, self.channel.call("queue_files")["queued"])

    def queue_lengths(self) -> dict[str, int]:
        """How many files are in each queue directory: cheap, however many there are."""
        lengths: dict[str, int] = self.channel.call("queue_lengths")["lengths"]
        return lengths

    def stored(self) -> list[Stored]:
        """Every message in every mailbox of the host."""
        return self.contents(self.channel.call("collect")).stored

    def mailbox(self, user: str) -> list[message.EmailMessage]:
        """A user's messages, mbox or maildir, parsed; oldest first."""
        return [message.parse(copy.raw) for copy in self.stored() if copy.mailbox == user]

    # For the lab.

    def begin_mark(self, token: str) -> Answer:
        """Have a sentinel line logged behind everything logged by now."""
        return self.channel.begin("mark", text=f"mark {token}")

    def mark(self) -> None:
        """Wait until all that was logged by now has arrived."""
        stream = self.record.stream
        since, token = stream.position, stream.new_token()
        for last in (False, True):
            self.begin_mark(token).result()
            try:
                stream.wait_for_marks({self.name: token}, since=since, within_s=_MARK_WITHIN_S)
            except TimedOut:
                # A postlogd(8) that is killed takes along what it has in hand.
                if last:
                    raise
            else:
                return

    def contents(self, collected: Mapping[str, Any]) -> Contents:
        """Mailboxes and queue as the host handed them over."""
        stored = [
            _stored(self.name, self.fqdn, owner, raw)
            for owner, form, content in collected["mailboxes"]
            for raw in _messages(content.encode("latin-1"), form)
        ]
        return Contents(stored, _queued(self.name, collected["queued"]))


def _queue_entry(entry: dict[str, Any]) -> QueueEntry:
    return QueueEntry(
        entry["queue_name"],
        entry["queue_id"],
        entry["sender"],
        entry["message_size"],
        tuple(recipient["address"] for recipient in entry["recipients"]),
        tuple(recipient.get("delay_reason", "") for recipient in entry["recipients"]),
    )


def _queued(host: str, found: list[list[str]]) -> list[Queued]:
    return [Queued(host, queue_id, queue, message_id) for queue, queue_id, message_id in found]


def _messages(content: bytes, form: str) -> list[bytes]:
    """Split an mbox where Postfix separates messages: a From line after an empty one.

    procmail(1) that does not trust whoever runs it quotes the From line it was given.
    """
    if form == "maildir":
        return [content]
    parts = re.split(rb"(?m)(?:\A|(?<=\n\n))From [^\n]*\n(?:>From [^\n]*\n)?", content)
    return [part for part in parts if part.strip()]


def _stored(host: str, fqdn: str, owner: str, raw: bytes) -> Stored:
    headers = message.parse_headers(raw)
    received = headers.get("received", "")
    by = re.search(rf"by {re.escape(fqdn)} \(.*?\bid (\w+)", received, re.DOTALL)
    return Stored(
        host=host,
        mailbox=owner,
        message_id=headers.get("message-id", "").strip(),
        queue_id=by[1] if by else "",
        delivered_to=headers.get("delivered-to", "").strip(),
        original_to=headers.get("x-original-to", "").strip(),
        digest=body_digest(raw),
        raw=raw,
    )
