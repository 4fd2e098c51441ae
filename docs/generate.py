"""Writes the generated pages: docs/faults.md, docs/topologies.md and docs/versions.md.

``--check`` writes nothing and exits with 1 if a page is not current.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

from maillab.engine.images import VERSION_DEFAULT
from maillab.faults import REGISTRY
from maillab.faults.settings import settings
from maillab.site import changes, resources, topology, versions
from maillab.suite import differences

HERE = Path(__file__).parent
MADE = "<!-- Made by docs/generate.py; change the sources, not this page. -->\n\n"


def faults() -> str:
    """Return a heading for each fault, with its docstring and its settings."""
    parts = [
        "# Faults\n\n" + MADE + "Each acts for the length of a block, "
        '`with lab.primary.faulty(Greeting("421 busy")):`, or of a command, '
        '`maillab fault Greeting primary reply="421 busy" -- …`. One that no witness saw acting '
        "makes its test void; by hand the status is 20. A fault by hand ends with its command, "
        "even if that is killed; `maillab inspect` shows those in force, `maillab lift` lifts "
        "them. "
        "How to add one: `harness/maillab/faults/README.md`.\n"
    ]
    for name, fault in sorted(REGISTRY.items()):
        text = (inspect.getdoc(fault) or "").replace("``", "`")
        rows = [
            f"| `{setting.name}` | {setting.form.replace('|', ' or ')} | "
            f"{'required' if setting.default is None else setting.usual} |"
            for setting in settings(fault)
        ]
        table = ["", "| setting | form | default |", "| --- | --- | --- |", *rows] if rows else []
        parts.append("\n".join([f"## {name}", "", text, *table]) + "\n")
    return "\n".join(parts)


def topologies() -> str:
    """Return a heading for each topology, with the header of its Compose file."""
    parts = [
        "# Topologies\n\n" + MADE + "Each is one Compose file; `maillab up NAME` brings it up, and "
        "so does plain `docker compose -f compose/NAME.yaml up` after `make setup`, which writes "
        "the names of this checkout's images to `compose/.env`. `make setup POSTFIX=3.5` chooses "
        "another version; the first `maillab up NAME` makes the images that only one topology "
        "runs. For a Compose file elsewhere add `--env-file PATH/compose/.env`. Every lab "
        "has a name server of its own at `.2`, and no way out.\n"
    ]
    for name in topology.names():
        site = topology.load(name)
        hosts = ", ".join(f"`{role.name}` ({role.fqdn})" for role in site.roles.values())
        parts.append(f"## {name}\n\n```text\n{site.header.strip()}\n```\n\nHosts: {hosts}.\n")
    return "\n".join(parts)


VERSIONS = """\
`--postfix` chooses the Postfix version of every mail host in a lab. Each version comes from a
Debian suite, security updates included, as of the day when the image is built. `maillab up` and
`maillab images` print the full version, and a run's evidence keeps it. Debian's testing suite may
change its version any day.

{suites}

The agents, the name server and the other MTAs come from Debian 13, whatever Postfix is tested.

Nearly all scenarios make the same claims on all versions. Where a claim differs, the scenario asks
`lab.has("…")` with the name of a change, and `harness/maillab/site/changes.py` says which releases
have it. Postfix's authors change several release series at a time, so a change may have a release
in each of them: 3.9.8 does not have what 3.7.20 has. Later series have it, too.

{rows}

The releases are those that Postfix's history, or Debian's changelog, states; `scenarios/` shows
both sides on the versions above. See how each entry does on each version:

```console
$ maillab faq                  # after a run on each
$ maillab faq --markdown       # as a table; the CI's job page has it
```
"""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def postfix_versions() -> str:
    """Return a row for each version, and one for each change with the scenarios that show it."""
    suites = [
        (
            f"{version} (default)" if version == VERSION_DEFAULT else version,
            str(changes.DEBIAN[versions.release_of(suite)]),
            suite,
        )
        for version, suite in versions.SUITES.items()
    ]
    shown = differences.shown(resources.scenarios())
    rows = [
        (
            change.first,
            change.before,
            change.after,
            ", ".join(f"`{name}`" for name in shown.get(key, [])),
        )
        for key, change in changes.CHANGES.items()
    ]
    text = VERSIONS.format(
        suites=_table(("`--postfix`", "Debian", "suite"), suites),
        rows=_table(("since", "before", "since then", "shown by `scenarios/`"), rows),
    )
    return f"# Postfix versions and their differences\n\n{MADE}{text}"


PAGES = {"faults.md": faults, "topologies.md": topologies, "versions.md": postfix_versions}


def main() -> int:
    """Write the pages, or check them."""
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
