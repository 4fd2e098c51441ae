"""The labs of one run: kept for the next scenario, and removed with the run."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from maillab.errors import MaillabError
from maillab.lab.lab import Lab
from maillab.lab.mail_lab import GUARD, MailLab
from maillab.scenario.state import Withheld
from maillab.site.topology import Topology

# The topology's file, the Postfix version, the range of addresses.
_Key = tuple[Path, str, str]


class Labs:
    """The labs of one run, kept for the next scenario; the least recently used is removed first."""

    def __init__(self, *, keep_max: int = 2) -> None:
        self._keep_max = keep_max
        self._labs: OrderedDict[_Key, MailLab] = OrderedDict()
        self._guarded = False

    def get(self, site: Topology, version: str, pool: str = "", withhold: Withheld = "") -> Lab:
        """Return a lab in its initial state; replace a lab that cannot be reset.

        The reset does not wait for its Postfix: one that does not start fails the test that
        first needs it.
        """
        if not self._guarded:
            GUARD.hold()
            self._guarded = True
        key = (site.path, version, pool)
        kept = self._labs.pop(key, None)
        if kept is not None:
            try:
                kept.lab.reset(withhold, start=False)
            except MaillabError:
                kept.stop()
                kept = None
        if kept is None:
            wanted = MailLab(site, postfix=version, pool=pool)
            while len(self._labs) >= self._keep_max:
                self._labs.popitem(last=False)[1].stop()
            kept = wanted.start()
            kept.lab.scenario.withhold = withhold
            kept.lab.starts.delayed = True
        self._labs[key] = kept
        return kept.lab

    def discard(self, lab: Lab) -> None:
        """Remove a lab that must not be used again."""
        self._labs.pop(self._key(lab)).stop()

    def release(self, lab: Lab) -> None:
        """Leave a lab up for a user to look at, until ``maillab down``."""
        key = self._key(lab)
        self._labs[key].hand_over()
        del self._labs[key]

    def close(self) -> None:
        """Remove all labs."""
        while self._labs:
            self._labs.popitem()[1].stop()
        if self._guarded:
            GUARD.let_go()
            self._guarded = False

    def _key(self, lab: Lab) -> _Key:
        return next(key for key, kept in self._labs.items() if kept.lab is lab)
