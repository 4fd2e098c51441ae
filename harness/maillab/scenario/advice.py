"""The steps of a cure, recorded as the scenario takes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """One step on a host: settings of a configuration file, a file, or a command.

    ``place`` is "main.cf", "master.cf", a file's path, or "options" for words of a command
    line; "" for a command.
    """

    host: str
    place: str
    text: str
