"""Writes the pages that are made of the code: docs/faults.md and docs/topologies.md.

``--check`` writes nothing and ends with 1 when a page is not current.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from maillab import topology
from maillab.faults import REGISTRY
from maillab.faults.settings import settings

HERE = Path(__file__).parent
MADE = "<!-- Made by docs/generate.py; change the sources, not this page. -->\n\n"


def faults() -> str:
    """One heading a fault: its docstring and its settings."""
    parts = [
        "# Faults\n\n" + MADE + "Each acts for the length of a block, "
        '`with lab.primary.faulty(Greeting("421 busy")):`, or of a command, '
        '`maillab fault Greeting primary reply="421 busy" -- …`. One that no witness saw acting '
        "makes its test void. How to add one: `harness/maillab/faults/README.md`.\n"
    ]
    for name, fault in sorted(REGISTRY.items()):
        text = (inspect.getdoc(fault) or "").replace("``", "`")
        rows = [
            f"| `{one.name}` | {one.form.replace('|', ' or ')} | "
            f"{'needed' if one.default is None else f'`{one.default!r}`'} |"
            for one in settings(fault)
        ]
        table = ["", "| setting | form | default |", "| --- | --- | --- |", *rows] if rows else []
        parts.append("\n".join([f"## {name}", "", text, *table]) + "\n")
    return "\n".join(parts)


def topologies() -> str:
    """One heading a topology: the header of its Compose file."""
    parts = [
        "# Topologies\n\n" + MADE + "Each is one Compose file; `maillab up NAME` brings it up, and "
        "so does plain `docker compose -f compose/NAME.yaml up` after `make setup`. Every lab has "
        "a name server of its own at `.2`, and no way out.\n"
    ]
    for name in topology.names():
        site = topology.load(name)
        hosts = ", ".join(f"`{role.name}` ({role.fqdn})" for role in site.roles.values())
        parts.append(f"## {name}\n\n```text\n{site.header.strip()}\n```\n\nHosts: {hosts}.\n")
    return "\n".join(parts)


PAGES = {"faults.md": faults, "topologies.md": topologies}


def main() -> int:
    """Write, or check."""
    stale = []
    for name, make in PAGES.items():
        path = HERE / name
        if not path.is_file() or path.read_text() != make():
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(make())
    print("\n".join(f"{'stale' if '--check' in sys.argv else 'written'}: {name}" for name in stale))
    return bool(stale) and "--check" in sys.argv


if __name__ == "__main__":
    sys.exit(main())
