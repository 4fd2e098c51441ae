"""The chroot jail of a mail host's daemons: the chroot column of master.cf (master(5))."""

from __future__ import annotations

from typing import Protocol

from maillab.hosts.command import Done

# postconf(5) queue_directory: the root of a daemon in the jail.
ROOT = "/var/spool/postfix"
# The folders that Debian copies there; the queue itself stays.
_COPIES = ("etc", "lib", "lib64", "usr")


class Jailer(Protocol):
    """The parts of a Postfix host that its jail needs."""

    def run(self, *argv: str) -> Done:
        """Run a command; raise CommandFailed if it fails."""

    def run_tool(self, *argv: str) -> Done:
        """Run a command that works on files alone; raises as ``run`` does."""

    def restart(self) -> None:
        """Stop Postfix and start it."""


class Jail:
    """The daemons and the files of a host that are in its chroot jail.

    A daemon enters the jail when it starts, and reads some files only then. Restart
    Postfix after a change of files.
    """

    def __init__(self, host: Jailer) -> None:
        self._host = host

    def lock_in(self, *services: str) -> None:
        """Run services, by name and type as in ``smtp/inet``, in the jail; restarts Postfix."""
        self._set("y", services)

    def let_out(self, *services: str) -> None:
        """Run services outside the jail; restarts Postfix."""
        self._set("n", services)

    def copy(self, *paths: str) -> None:
        """Copy files of the host, with their permissions, to the same path in the jail.

        Raise CommandFailed if there is no such file.
        """
        self._host.run("cp", "-pL", "--parents", *paths, ROOT)

    def copy_library(self, name: str) -> None:
        """Copy a shared library that programs load on demand, such as ``libnss_dns``."""
        copy = f"cp -pL --parents /lib/*/{name}.so* {ROOT}"
        self._host.run("sh", "-c", copy)

    def empty(self) -> None:
        """Remove every file that the distribution copies into the jail."""
        self._host.run("rm", "-rf", *(f"{ROOT}/{folder}" for folder in _COPIES))

    def path(self, path: str) -> str:
        """Return the host's path of a path in the jail."""
        return f"{ROOT}{path}"

    def _set(self, chroot: str, services: tuple[str, ...]) -> None:
        self._host.run_tool(
            "postconf", "-F", *(f"{service}/chroot={chroot}" for service in services)
        )
        self._host.restart()
