"""Every error of maillab, and the exit code it ends a command or a run with.

    MaillabError             1
    ├── BadInput             2   a name, file or value the caller got wrong
    │   ├── UnknownName          no such topology, version, host, parameter …
    │   ├── BadTopology          a Compose file that cannot be read as a lab
    │   └── BadTable             a lookup table or alias file that does not build
    ├── NoEngine            10   no Docker engine answers
    │   ├── NoRights        11   it answers, but not to this user
    │   └── EngineTooOld    12   it answers, but lacks what a lab needs
    ├── NoDisk              13   the engine or this machine has no room left
    ├── ImageError          14   an image could not be made
    ├── LabError            15   a lab did not start, or broke while it ran
    │   ├── NoSubnet        16   every subnet of the pool is taken
    │   ├── HostGone        17   a container or the engine went away in mid-run
    │   ├── CommandFailed        a command on a host ended badly
    │   └── TimedOut             a fact that was waited for did not come
    ├── Void                20   a fault that no witness saw: no verdict
    └── NotConserved        21   mail was lost, altered or wrongly duplicated

A pytest run ends with pytest's own codes (0 to 5), or with 20 when nothing
failed but a test was void.
"""

from __future__ import annotations

from typing import ClassVar


class MaillabError(Exception):
    """Something went wrong that maillab can name: what, where, what to do next."""

    exit_code: ClassVar[int] = 1


class BadInput(MaillabError):
    """The caller named or wrote something that cannot be used."""

    exit_code = 2


class UnknownName(BadInput):
    """No such topology, version, host or parameter; the message lists what there is."""

    @classmethod
    def among(cls, kind: str, name: str, known: list[str]) -> UnknownName:
        """The usual wording: the kind of thing, the name given, the names that exist."""
        return cls(f"no {kind} named {name!r}; there is: {', '.join(known) or 'none'}")


class BadTopology(BadInput):
    """A Compose file that does not parse, or does not describe a lab."""


class BadTable(BadInput):
    """A lookup table or alias file that postmap or newaliases refuses."""


class NoEngine(MaillabError):
    """No Docker engine answers."""

    exit_code = 10


class NoRights(NoEngine):
    """The engine is there, but this user may not speak to it."""

    exit_code = 11


class EngineTooOld(NoEngine):
    """The engine lacks something every lab needs."""

    exit_code = 12


class NoDisk(MaillabError):
    """No room left where images and containers are kept."""

    exit_code = 13


class ImageError(MaillabError):
    """An image could not be made."""

    exit_code = 14


class LabError(MaillabError):
    """A lab did not start or broke while it ran: never a verdict on Postfix."""

    exit_code = 15


class NoSubnet(LabError):
    """Every subnet of the address pool is taken."""

    exit_code = 16


class HostGone(LabError):
    """A container, or the engine itself, went away in mid-run."""

    exit_code = 17


class CommandFailed(LabError):
    """A command on a host ended with another status than the one asked for."""


class TimedOut(LabError):
    """A fact that was waited for did not come within its bound."""


class Void(MaillabError):
    """A fault was set and no witness saw it act: the test says nothing."""

    exit_code = 20


class NotConserved(MaillabError):
    """The ledger does not add up, and the scenario did not declare it."""

    exit_code = 21
