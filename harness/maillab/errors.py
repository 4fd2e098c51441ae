"""Every error of maillab, and the exit code of a command or a run that ends with it.

    MaillabError             1
    ├── BadInput             2   a wrong name, file or value from the caller
    │   ├── UnknownName          unknown topology, version, host, parameter …
    │   ├── BadTopology          a Compose file that does not describe a lab
    │   └── BadTable             a lookup table or alias file that does not build
    ├── NoEngine            10   no Docker engine answers
    │   ├── EngineSilent         the engine accepts requests but does not answer
    │   ├── NoRights        11   the engine refuses access to this user
    │   └── EngineTooOld    12   the engine lacks a feature that every lab needs
    ├── NoDisk              13   a disk is full or not writable
    ├── ImageError          14   an image could not be built
    ├── LabError            15   a lab did not start, or broke while it ran
    │   ├── NoSubnet        16   every subnet of the pool is taken
    │   ├── HostGone        17   a container went away during the run
    │   │   └── EngineGone       the engine went away during the run
    │   ├── Unsupported          the engine or its kernel lacks what a fault needs
    │   ├── CommandFailed        a command on a host failed
    │   └── TimedOut             a wait reached its time limit
    ├── Void                20   no witness saw the fault act: no verdict
    └── NotConserved        21   mail was lost, altered or wrongly duplicated

A pytest run ends with pytest's own codes (0 to 5). It ends with 20 if no test failed but
one was void, and with 10 to 14 or 17 if no test, or no further test, can have a lab.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import ClassVar


class MaillabError(Exception):
    """The base of all errors that maillab reports: what is wrong, where, what to do next."""

    exit_code: ClassVar[int] = 1


class BadInput(MaillabError):
    """A name, file or value from the caller that maillab cannot use."""

    exit_code = 2


class UnknownName(BadInput):
    """An unknown topology, version, host or parameter; the message lists the known ones.

    ``names`` are the unknown names if there may be several.
    """

    def __init__(self, message: str, names: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)

    @classmethod
    def among(cls, kind: str, name: str, known: list[str], *, of: str = "") -> UnknownName:
        """Return the error for an unknown name; the message lists the known names.

        ``of`` is the thing that has these names, if there are several such things.
        """
        choice = f"choose from {', '.join(known)}" if known else "there is none"
        return cls(f"unknown {kind} {name!r}{of and f' of {of}'} ({choice})")


class BadTopology(BadInput):
    """A Compose file that does not parse or does not describe a lab."""


class BadTable(BadInput):
    """A lookup table or alias file that postmap or newaliases refuses."""


class NoEngine(MaillabError):
    """No Docker engine answers."""

    exit_code = 10


class EngineSilent(NoEngine):
    """The engine accepts requests but does not answer."""


class NoRights(NoEngine):
    """The engine refuses access to this user."""

    exit_code = 11


class EngineTooOld(NoEngine):
    """The engine lacks a feature that every lab needs."""

    exit_code = 12


class NoDisk(MaillabError):
    """The disk of the engine or of this machine is full or not writable."""

    exit_code = 13


class ImageError(MaillabError):
    """An image could not be built."""

    exit_code = 14


class LabError(MaillabError):
    """A lab did not start or broke while it ran: never a verdict on Postfix."""

    exit_code = 15


class NoSubnet(LabError):
    """Every subnet of the address pool is taken."""

    exit_code = 16


class HostGone(LabError):
    """A container went away during the run."""

    exit_code = 17


class EngineGone(HostGone):
    """The engine went away during the run."""


class Unsupported(LabError):
    """The engine or its kernel lacks a feature that only some faults need."""


class CommandFailed(LabError):
    """A command on a host failed or exceeded its time limit."""


class TimedOut(LabError):
    """A wait that reached its time limit."""


class Void(MaillabError):
    """A fault that no witness saw act: the test has no verdict."""

    exit_code = 20


class NotConserved(MaillabError):
    """Mail that the ledger found lost, altered, duplicated or unexpected, and not declared."""

    exit_code = 21


NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


def of_os(error: OSError, what: str = "") -> MaillabError:
    """Return the maillab error for an OSError: NoDisk, or BadInput if a file is named.

    ``what`` names the file if the OSError does not.
    """
    place = what if error.filename is None else str(error.filename)
    text = f"{place}: {error.strerror or error}" if place else str(error)
    if error.errno in NO_ROOM:
        return NoDisk(text)
    return BadInput(text) if place else MaillabError(text)
