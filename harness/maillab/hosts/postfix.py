"""A host with Postfix: its configuration, tables and queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from maillab.errors import BadInput, BadTable, UnknownName
from maillab.hosts.jail import Jail
from maillab.hosts.mailserver import MailServer, QueueEntry
from maillab.site import maincf

_NEEDS_POSTMAP = {"btree", "cdb", "dbm", "hash", "lmdb", "sdbm"}
_NOTICED_BY_TIME = {"btree", "hash"}
_PICKED_UP_WITHIN_S = 10.0
_READ_AT_START = ("/main.cf", "/master.cf")


class PostfixHost(MailServer):
    """A host that runs Postfix."""

    mta = "Postfix"
    configuration = ("/etc/postfix/main.cf", "/etc/postfix/master.cf")

    # Configuration.

    def configure(self, **settings: str) -> None:
        """Set main.cf parameters; Postfix restarts before the next request to the lab.

        Raise UnknownName for a parameter that this Postfix does not have.
        """
        for name, value in settings.items():
            if not isinstance(value, str):
                raise BadInput(f"{self.name}: {name} must be a string as in main.cf, not {value!r}")
        lines = [f"{name} = {value}" for name, value in settings.items()]
        self._instruct(*lines)
        self._advise("main.cf", "\n".join(lines))
        unknown = self.channel.call("configure", settings=settings)["unknown"]
        if unknown:
            raise UnknownName(
                f"{self.name}: Postfix {self.version} has no parameter {', '.join(unknown)}; "
                "see postconf(5), or 'postconf -d' on the host",
                unknown,
            )
        self.channel.restart_later(f"configure {', '.join(settings)}")

    def write(self, path: str, content: str, *, mode: int | None = None, owner: str = "") -> None:
        """Write a file, and the folders above it."""
        if path.endswith(_READ_AT_START):
            # An earlier setting must not become effective together with this file.
            self.channel.starts.make()
        super().write(path, content, mode=mode, owner=owner)

    def main_cf(self, text: str, **instead: str) -> None:
        """Set the parameters of a complete main.cf, in addition to the lab's.

        ``instead`` overrides parameters of the text. maillog_file is ignored because the
        lab reads its own log file. Raise BadInput for an invalid line, and as
        ``configure`` does.
        """
        settings = maincf.settings(text) | instead
        settings.pop("maillog_file", None)
        self.configure(**settings)

    def table(self, name: str, entries: Mapping[str, str] | str, kind: str = "") -> str:
        """Write and build a lookup table; return its name for main.cf, ``kind:path``.

        ``kind`` defaults to the version's default_database_type; ``inline`` needs no
        file. Raise BadTable with postmap's words.
        """
        kind = kind or self.postconf("default_database_type")
        if isinstance(entries, str):
            text = entries
        else:
            text = "".join(f"{key}\t{value}\n" for key, value in entries.items())
            if kind == "inline":
                pairs = ", ".join(f"{{{key}={value}}}" for key, value in entries.items())
                return f"inline:{{ {pairs} }}"
        kinds = self._run_tool("postconf", "-m").stdout.split()
        if kinds and kind not in kinds:
            raise UnknownName.among("table type", kind, kinds, of=f"Postfix {self.version}")
        path = f"/etc/postfix/{name}"
        self.write(path, text)
        if kind in _NEEDS_POSTMAP:
            self._advise("", f"postmap {kind}:{path}")
            self._build(path, "postmap", f"{kind}:{path}")
        if kind in _NOTICED_BY_TIME:
            # Postfix compares whole seconds, and would miss a change within the same second.
            self._run_tool("touch", "-d", "10 seconds ago", f"{path}.db")
        self._build(path, "postmap", "-q", "maillab", f"{kind}:{path}", statuses=(0, 1))
        return f"{kind}:{path}"

    def service(self, row: str) -> None:
        """Add or replace a row of master.cf (master(5)); Postfix restarts as in ``configure``."""
        name, kind = row.split()[:2]
        self._instruct(row)
        self._advise("master.cf", row)
        self._run_tool("postconf", "-M", f"{name}/{kind}={row}")
        self.channel.restart_later(f"service {name}/{kind}")

    def no_service(self, name: str) -> None:
        """Remove the row ``name/type`` from master.cf; Postfix restarts as in ``configure``."""
        self.run_tool("postconf", "-MX", name)
        self.channel.restart_later(f"no_service {name}")

    @property
    def jail(self) -> Jail:
        """The chroot jail of this host's daemons."""
        return Jail(self)

    def postconf(self, name: str) -> str:
        """Return a parameter's value as Postfix sees it, defaults included."""
        return self._run_tool("postconf", "-xh", name).stdout.strip()

    @property
    def version(self) -> str:
        """The mail_version that Postfix reports."""
        return self._run_tool("postconf", "-dh", "mail_version").stdout.strip()

    def _build_aliases(self) -> None:
        self._advise("", "newaliases")
        self._build("/etc/aliases", "newaliases")

    def _build(self, what: str, *argv: str, statuses: tuple[int, ...] = (0,)) -> None:
        done = self._run_tool(*argv, check=False)
        if done.stderr or done.status not in statuses:
            words = done.stderr.strip().splitlines()[-1:] or [f"status {done.status}"]
            raise BadTable(f"{self.name}: {what} does not build: {words[0]}")

    # The daemons and the queue.

    def restart(self) -> None:
        """Restart Postfix before the next request to the lab; leave it stopped if it is stopped."""
        self._advise("", "postfix stop; postfix start")
        self.channel.restart_later("restart")

    def reload(self) -> None:
        """Make master(8) read its configuration again (postfix(1) reload).

        On return every idle daemon has been replaced by a new one.
        """
        self._advise("", "postfix reload")
        self.channel.call("reload")

    def flush(self, *, site: str = "", queue_id: str = "") -> None:
        """Try deferred mail now: all (postqueue(1) -f), for a site (-s), or one message (-i).

        Raise CommandFailed for a site that is not in fast_flush_domains.
        """
        if not self._withheld:
            self.scenario.flushed[self.name] = self.before_flush()
        which = ("-s", site) if site else ("-i", queue_id) if queue_id else ("-f",)
        self.run("postqueue", *which)

    def pick_up(self) -> None:
        """Make pickup(8) look into maildrop now; on its own it looks once a minute."""
        # A pickup(8) that is just starting or ending may hang up.
        self.scenario.stream.wait(
            lambda: self.run("postkick", "public", "pickup", "W", check=False).status == 0,
            within_s=_PICKED_UP_WITHIN_S,
            what=f"pickup(8) on {self.name} took no request",
            polled=True,
        )

    def queue(self) -> list[QueueEntry]:
        """Return the queue's messages as postqueue(1) lists them."""
        lines = self.run("postqueue", "-j").stdout.splitlines()
        return [_queue_entry(json.loads(line)) for line in lines]

    def queue_lengths(self) -> dict[str, int]:
        """Return the number of files in each queue directory; fast even for a long queue."""
        lengths: dict[str, int] = self.channel.call("queue_lengths")["lengths"]
        return lengths


def _queue_entry(entry: dict[str, Any]) -> QueueEntry:
    return QueueEntry(
        entry["queue_name"],
        entry["queue_id"],
        entry["sender"],
        entry["message_size"],
        tuple(recipient["address"] for recipient in entry["recipients"]),
        tuple(recipient.get("delay_reason", "") for recipient in entry["recipients"]),
    )


# The name of before 0.1.0, for one release.
MailHost = PostfixHost
