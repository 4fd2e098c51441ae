"""A lab outside pytest, in the manner of a testcontainers module."""

from __future__ import annotations

import contextlib
import os
import threading
from types import TracebackType
from typing import Any, Self

from maillab.engine import compose, images
from maillab.engine.watchdog import Watchdog
from maillab.errors import BadInput, MaillabError, NotConserved, Void
from maillab.lab.lab import Lab, start
from maillab.mail.verdict import Verdict
from maillab.site import topology
from maillab.site.topology import Topology


class Guard:
    """The watchdog of this process: it runs while anything here holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._pid = 0
        self._watchdog: Watchdog | None = None

    def hold(self) -> None:
        """Start the watchdog unless it runs; before that remove the labs of dead owners."""
        with self._lock:
            # A forked child has its parent's watchdog, which knows nothing of the child's labs.
            if self._watchdog is None or self._pid != os.getpid():
                compose.sweep()
                self._watchdog = Watchdog(compose.owner())
                self._pid, self._holders = os.getpid(), 0
            self._holders += 1

    def let_go(self) -> None:
        """Dismiss the watchdog if this was its last holder."""
        with self._lock:
            if self._watchdog is None or self._pid != os.getpid():
                return
            self._holders -= 1
            if self._holders == 0:
                self._watchdog.dismiss()
                self._watchdog = None


GUARD = Guard()


class MailLab:
    """A lab for a ``with`` block, a unittest, a script or a notebook.

    A block gets the ``Lab``, with the hosts as attributes. At the block's end the lab's
    ledger is judged, unless the block raised or ``judge`` is False, and the lab is removed::

        with MailLab("backup-mx", postfix="3.10") as lab:
            lab.settle(lab.sender.send(to="alice@example.org"))

    Without a block, call ``start`` and ``stop``, and ``judge`` before ``stop``. In between
    the hosts and methods of the lab are attributes here, too. A killed program leaves no
    lab behind, as under pytest.

    ``topology`` is a name or the path of a Compose file. ``pool`` is the network from which
    the lab takes a /24. Raise UnknownName, BadTopology or BadInput before it starts anything.
    """

    def __init__(
        self,
        topology: str | os.PathLike[str] | Topology,
        *,
        postfix: str = images.VERSION_DEFAULT,
        pool: str = "",
        judge: bool = True,
    ) -> None:
        self.topology = topology if isinstance(topology, Topology) else _load(topology)
        self.postfix = str(postfix)
        images.needed(self.postfix, self.topology.own_images)
        compose.pool_of(pool)
        self._pool = pool
        self._judges = judge
        self._lab: Lab | None = None

    @property
    def lab(self) -> Lab:
        """The lab while it is up; raises BadInput before ``start`` and after ``stop``."""
        if self._lab is None:
            raise BadInput(
                f"the lab {self.topology.name} is not up: call start(), or use it in a with block"
            )
        return self._lab

    def __getattr__(self, name: str) -> Any:
        lab = self.__dict__.get("_lab")
        if lab is None or name.startswith("_"):
            raise AttributeError(
                f"MailLab has no attribute {name!r}" + ("" if lab else " while the lab is not up")
            )
        return getattr(lab, name)

    def __repr__(self) -> str:
        state = self._lab.project.name if self._lab else "not up"
        return f"<MailLab {self.topology.name}, Postfix {self.postfix}, {state}>"

    def __enter__(self) -> Lab:
        return self.start().lab

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                if self._judges and self._lab is not None:
                    self.judge()
            finally:
                self.stop()
            return
        try:
            self.stop()
        except MaillabError as left:
            # The watchdog removes the lab.
            error.add_note(f"and the lab is still there until the program ends: {left}")

    def start(self) -> Self:
        """Start the lab, and return once every mail server answers.

        Raises the errors of the lab, the images and the engine. None of them leaves half a lab.
        """
        if self._lab is not None:
            raise BadInput(f"the lab {self._lab.project.name} is up already: call stop() first")
        GUARD.hold()
        try:
            self._lab = start(self.topology, self.postfix, pool=self._pool)
        except BaseException:
            GUARD.let_go()
            raise
        return self

    def judge(self) -> Verdict:
        """End the scenario and return the ledger's verdict; this stops Postfix.

        Raise Void if no witness saw a fault act, and NotConserved if mail was not conserved.
        ``lab.reset()`` starts another scenario.
        """
        _, verdict = self.lab.conclude()
        if (failure := void(self.lab) or not_conserved(verdict)) is not None:
            raise failure
        return verdict

    def stop(self) -> None:
        """Remove the lab, if it is up. There is no verdict."""
        if self._lab is None:
            return
        lab, self._lab = self._lab, None
        # If this fails, the watchdog stays and removes the lab when the program ends.
        lab.down()
        GUARD.let_go()

    def hand_over(self) -> str:
        """Leave the lab up for a user to look at, until ``maillab down``; return its name.

        If an error prevents the hand-over, the lab is removed with this process.
        """
        lab = self.lab
        # A Postfix that does not start is one reason to look at the lab.
        with contextlib.suppress(MaillabError):
            lab.resume()
        with contextlib.suppress(MaillabError):
            lab.leave()
        compose.hand_over(lab.project.name)
        self._lab = None
        lab.detach()
        GUARD.let_go()
        return lab.project.name

    def get_logs(self, *hosts: str) -> tuple[str, str]:
        """Return the containers' output and errors, of the named hosts or of all."""
        return self.lab.project.compose.get_logs(*(self._service(host) for host in hosts))

    def exec_in_container(self, command: list[str], host: str) -> tuple[str, str, int]:
        """Run a command in a mail server's container; return output, errors and exit status."""
        return self.lab.project.compose.exec_in_container(command, self._service(host))

    def _service(self, host: str) -> str:
        return self.topology.role(host).service


def _load(name: str | os.PathLike[str]) -> Topology:
    return topology.load(str(name))


def void(lab: Lab) -> Void | None:
    """Return the error of a scenario with faults that no witness saw; None if all were seen."""
    unseen = lab.scenario.unwitnessed if lab.scenario.withhold != "faults" else []
    return Void("; ".join(witness.absence for witness in unseen)) if unseen else None


def not_conserved(verdict: Verdict) -> NotConserved | None:
    """Return the error of a scenario whose mail was not conserved."""
    return None if verdict.conserved else NotConserved(f"mail was not conserved: {verdict.text()}")
