"""A plugin for pytest inside pytest that disables every fault in the registry."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from maillab.faults import REGISTRY, Dialup
from maillab.faults.path.dialup import Call
from maillab.hosts.host import Fault, Host
from maillab.lab.lab import Lab
from maillab.scenario.state import Mail, Witness

SEEN_BY = "times, since it was patched to do nothing"
# Waits for the fault's effects time out, which is no verdict either.
PATIENCE_S = 3.0


@contextlib.contextmanager
def nothing(fault: Fault, host: Host) -> Iterator[Witness]:
    """Replace ``on``: register a witness and do nothing."""
    yield Witness(repr(fault), host.name, SEEN_BY)


@contextlib.contextmanager
def no_call(*_: object, **__: object) -> Iterator[Call]:
    """Replace ``call``: return an empty call, because there is no line."""
    yield Call()


def pytest_configure() -> None:
    """Patch the faults before any test uses them."""
    patient = Lab.settle

    def settle(lab: Lab, *mails: Mail, until: Callable[[], object] | None = None) -> None:
        patient(lab, *mails, until=until, within_s=PATIENCE_S)

    setattr(Lab, "settle", settle)  # noqa: B010  # for this run alone
    for fault in REGISTRY.values():
        setattr(fault, "on", nothing)  # noqa: B010  # as above
    setattr(Dialup, "call", no_call)  # noqa: B010  # as above
    setattr(Dialup, "rang", lambda *_: 0)  # noqa: B010  # as above
