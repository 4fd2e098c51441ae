"""A plugin for runs of pytest inside pytest: no fault of the registry does anything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from maillab.faults import REGISTRY, Dialup
from maillab.faults.line import Call
from maillab.host import Fault, Host
from maillab.lab import Lab
from maillab.record import Mail, Witness

SEEN_BY = "times, since it was patched to do nothing"
# What only the fault would bring about is waited for in vain, which is no verdict either.
PATIENCE_S = 3.0


@contextlib.contextmanager
def nothing(fault: Fault, host: Host) -> Iterator[Witness]:
    """In place of ``on``: the fault is told of, and nobody sees it act."""
    yield Witness(repr(fault), host.name, SEEN_BY)


@contextlib.contextmanager
def no_call(*_: object, **__: object) -> Iterator[Call]:
    """In place of ``call``: without a line nobody can be called."""
    yield Call()


def pytest_configure() -> None:
    """Patch the faults before any test sees them."""
    patient = Lab.settle

    def settle(lab: Lab, *mails: Mail, until: Callable[[], object] | None = None) -> None:
        patient(lab, *mails, until=until, within_s=PATIENCE_S)

    setattr(Lab, "settle", settle)  # noqa: B010  # for this run alone
    for fault in REGISTRY.values():
        setattr(fault, "on", nothing)  # noqa: B010  # as above
    setattr(Dialup, "call", no_call)  # noqa: B010  # as above
    setattr(Dialup, "rang", lambda *_: 0)  # noqa: B010  # as above
