"""A filter beside a mail host: a Milter or a policy service in its network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maillab.engine.channel import Channel
from maillab.hosts import command
from maillab.hosts.command import Done

_Note = Callable[[str, str], None]


class Filter:
    """One filter of a mail host, such as ``opendkim``, in the container with the host's filters.

    ``note`` records a step of the scenario: the file that it changes, or "", and the text.
    """

    def __init__(self, host: str, name: str, channel: Channel, note: _Note) -> None:
        self._host = host
        self.name = name
        self._channel = channel
        self._note = note

    def start(self) -> None:
        """Start the filter; it listens on return.

        Raise LabError with its own words if it does not start.
        """
        self._note("", f"systemctl start {self.name}")
        self._channel.call("part_start", name=self.name)

    def stop(self) -> None:
        """Stop the filter; none of its processes is left on return."""
        self._note("", f"systemctl stop {self.name}")
        self._channel.call("part_stop", name=self.name)

    def restart(self) -> None:
        """Start the filter again, with its present configuration; leave it if it is stopped."""
        self._note("", f"systemctl restart {self.name}")
        self._channel.call("part_restart", name=self.name)

    def configure(self, **settings: str) -> None:
        """Set values in the filter's configuration file, and restart the filter."""
        lines = [f"{name} {value}" for name, value in settings.items()]
        self._note(self.name, "\n".join(lines))
        self._channel.call("filter_configure", name=self.name, settings=settings)
        self._channel.call("part_restart", name=self.name)

    def write(self, path: str, content: str, *, mode: int | None = None, owner: str = "") -> None:
        """Write a file in the container of the host's filters."""
        self._note(path, content)
        self._channel.call("write", path=path, content=content, mode=mode, owner=owner)

    def read(self, path: str) -> str | None:
        """Return a file of the container with the host's filters, or None if there is none."""
        content: str | None = self._channel.call("read", path=path)["content"]
        return content

    def run(self, *argv: str, **options: Any) -> Done:
        """Run a command in the container of the host's filters; see ``Host.run``."""
        self._note("", " ".join(argv))
        return command.run(self._channel, self._host, argv, **options)
