"""The occasions, by number, on which a fault acts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Turns:
    """Counts the occasions that match a fault, and selects those to act on.

    Occasions after the ``after``th count. The fault acts on every ``every``th of these, and
    stops after the ``first`` it acted on (0: no limit).
    """

    first: int = 0
    every: int = 1
    after: int = 0
    matched: int = field(default=0, init=False)

    def count(self) -> bool:
        """Count an occasion; return True if the fault acts on it."""
        self.matched += 1
        behind = self.matched - self.after
        turn, rest = divmod(behind, self.every)
        return behind > 0 and not rest and not 0 < self.first < turn
