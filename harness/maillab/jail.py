"""The jail of a mail host's daemons: the chroot column of master.cf (master(5))."""

from __future__ import annotations

from typing import Protocol

from maillab.host import Done

# postconf(5) queue_directory: a daemon in the jail takes it for the root.
ROOT = "/var/spool/postfix"
# What Debian copies there; the queue itself stays.
_COPIES = ("etc", "lib", "lib64", "usr")


class Jailer(Protocol):
    """A host with Postfix, as far as its jail goes."""

    def run(self, *argv: str) -> Done:
        """Run a command; raises CommandFailed when it fails."""

    def restart(self) -> None:
        """Stop Postfix and start it."""


class Jail:
    """Which daemons of a host are in the jail, and which of the host's files are.

    A daemon goes into it when it starts, and reads some files only then, so
    follow a change of files by a restart.
    """

    def __init__(self, host: Jailer) -> None:
        self._host = host

    def lock_in(self, *services: str) -> None:
        """Run services, by name and type as in ``smtp/inet``, in the jail; restarts Postfix."""
        self._set("y", services)

    def let_out(self, *services: str) -> None:
        """Run services outside of it; restarts Postfix."""
        self._set("n", services)

    def copy(self, *paths: str) -> None:
        """Copy files of the host to the same path in the jail, rights and all.

        Raises CommandFailed when there is no such file.
        """
        self._host.run("cp", "-pL", "--parents", *paths, ROOT)

    def copy_library(self, name: str) -> None:
        """Copy a shared library that programs load at need, such as ``libnss_dns``."""
        copy = f"cp -pL --parents /lib/*/{name}.so* {ROOT}"
        self._host.run("sh", "-c", copy)

    def empty(self) -> None:
        """Take away every file of the host that a distribution puts there."""
        self._host.run("rm", "-rf", *(f"{ROOT}/{folder}" for folder in _COPIES))

    def path(self, path: str) -> str:
        """Where the host sees a path of the jail."""
        return f"{ROOT}{path}"

    def _set(self, chroot: str, services: tuple[str, ...]) -> None:
        self._host.run("postconf", "-F", *(f"{one}/chroot={chroot}" for one in services))
        self._host.restart()
