"""The labs of one run: kept for the next scenario, and gone with the run."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from maillab.engine import compose
from maillab.engine.watchdog import Watchdog
from maillab.errors import MaillabError
from maillab.lab import Lab, start
from maillab.record import Withheld
from maillab.topology import Topology


class Labs:
    """The labs of one run: kept for the next scenario, the least recently used going first."""

    def __init__(self, *, keep_max: int = 2, by_hand: bool = False) -> None:
        self._keep_max = keep_max
        self._by_hand = by_hand
        self._labs: OrderedDict[tuple[Path, str, str], Lab] = OrderedDict()
        self._watchdog: Watchdog | None = None

    def get(self, site: Topology, version: str, pool: str = "", withhold: Withheld = "") -> Lab:
        """A lab in its first state; one that cannot be reset is replaced."""
        if self._watchdog is None:
            compose.sweep()
            self._watchdog = Watchdog(compose.owner())
        key = (site.path, version, pool)
        lab = self._labs.pop(key, None)
        if lab is not None:
            try:
                lab.reset(withhold)
            except MaillabError:
                lab.down()
                lab = None
        if lab is None:
            while len(self._labs) >= self._keep_max:
                self._labs.popitem(last=False)[1].down()
            lab = start(site, version, by_hand=self._by_hand, pool=pool)
            lab.record.withhold = withhold
        self._labs[key] = lab
        return lab

    def discard(self, lab: Lab) -> None:
        """Remove a lab that is not to be used again."""
        self._forget(lab)
        lab.down()

    def release(self, lab: Lab) -> None:
        """Leave a lab up for somebody to look at; from now on it is theirs."""
        self._forget(lab)
        lab.resume()
        lab.detach()

    def close(self) -> None:
        """Remove all labs."""
        while self._labs:
            self._labs.popitem()[1].down()
        if self._watchdog is not None:
            self._watchdog.dismiss()

    def _forget(self, lab: Lab) -> None:
        self._labs = OrderedDict(item for item in self._labs.items() if item[1] is not lab)
