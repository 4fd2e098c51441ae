"""A reported problem, tried in a lab: ``maillab repro``."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from maillab import topology
from maillab.cli.output import print_json, print_table
from maillab.engine import images
from maillab.engine.images import SUITES, VERSION_DEFAULT
from maillab.errors import BadInput
from maillab.lab import Lab
from maillab.labs import Labs
from maillab.postfix import MailHost
from maillab.repro import plan, play, report
from maillab.repro.plan import Plan
from maillab.repro.play import Outcome
from maillab.repro.report import Fate, Report

_DIFFERS = 3
_TOPOLOGY_DEFAULT = "standalone"
_STANDARD_INPUT = "-"


def repro(arguments: Namespace) -> int:
    """Read a report, play it, and print what happened beside what was reported."""
    reported = report.read(_text(arguments.files))
    if not (reported.fates or arguments.to):
        raise BadInput("the log lines name no recipient; say to whom with --to")
    for option, addresses in (("--to", arguments.to), ("--from", [arguments.sender or "none"])):
        for address in addresses:
            if not address or not address.isprintable():
                raise BadInput(f"{option} {address!r}: not an address; write user@domain")
    tables = _tables(arguments.table)
    site = topology.load(arguments.topology or _of_the_form(reported))
    name = arguments.host or next(iter(site.mail_hosts)).name
    if not site.role(name).has_postfix:
        raise BadInput(f"{name} runs no Postfix; name one that does with --host")
    version = arguments.postfix or nearest(reported.version)
    images.postfix(version)
    labs = Labs(keep_max=1, by_hand=arguments.keep)
    try:
        running = labs.get(site, version)
        host = running.hosts[name]
        assert isinstance(host, MailHost)  # noqa: S101  # the role has Postfix
        scene = play.scene_of(running, host)
        planned = plan.make(
            reported,
            scene,
            tables=tables,
            sender=arguments.sender,
            recipients=arguments.to,
            allow_commands=arguments.allow_commands,
        )
        outcome = play.play(running, host, scene, planned)
        found = host.version
        if arguments.keep:
            lab_name = _kept(labs, running)
    finally:
        labs.close()
    differs = list(report.differences(planned.reported, outcome.fates))
    if arguments.json:
        print_json(_told(reported, planned, outcome, differs, found))
    else:
        _show(reported, planned, outcome, differs, f"Postfix {found}, {site.name}, host {name}")
        if arguments.keep:
            print(f"\nthe lab is still up: maillab shell {name} --lab {lab_name}")
    return _DIFFERS if differs or not planned.reported else 0


def _of_the_form(reported: Report) -> str:
    if reported.topology in topology.names():
        return reported.topology
    if reported.topology:
        print(
            f"the form's topology {reported.topology!r} is none of "
            f"{', '.join(topology.names())}; tried in {_TOPOLOGY_DEFAULT}, see --topology",
            file=sys.stderr,
        )
    return _TOPOLOGY_DEFAULT


def _kept(labs: Labs, running: Lab) -> str:
    name = running.project.name
    labs.release(running)
    return name


def _text(files: list[str]) -> str:
    parts = []
    for name in files or [_STANDARD_INPUT]:
        if name == _STANDARD_INPUT:
            if sys.stdin.isatty():
                print("paste the report, then Ctrl-D", file=sys.stderr)
            raw = sys.stdin.buffer.read()
        else:
            raw = _content(name)
        if b"\0" in raw:
            raise BadInput(f"{name}: not a text (byte {raw.index(0)} is NUL)")
        try:
            parts.append(raw.decode())
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{name}: not text in UTF-8 (byte {error.start}); save it as such"
            ) from error
    return "\n\n".join(parts)


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise BadInput(f"{name}: {error.strerror}") from error


def _tables(given: list[str]) -> Mapping[str, str]:
    tables = {}
    for one in given:
        path, equals, file = one.partition("=")
        if not (path and equals and file):
            raise BadInput(f"--table {one}: write it as /etc/postfix/virtual=./virtual")
        tables[path] = _content(file).decode(errors="backslashreplace")
    return tables


def nearest(wanted: str) -> str:
    """The version we have that comes nearest, the newer one of two."""
    numbers = wanted.split(".")
    if len(numbers) < 2 or not all(one.isdecimal() for one in numbers[:2]):  # noqa: PLR2004  # major.minor
        return VERSION_DEFAULT
    major, minor = (int(one) for one in numbers[:2])

    def far(version: str) -> tuple[int, int]:
        ours = [int(one) for one in version.split(".")]
        return abs((ours[0] - major) * 100 + ours[1] - minor), -ours[1]

    return min(SUITES, key=far)


def _told(
    reported: Report, planned: Plan, outcome: Outcome, differs: list[str], version: str
) -> dict[str, object]:
    def fate(one: Fate | None) -> object:
        return asdict(one) if one else None

    return {
        "postfix": {"reported": reported.version, "here": version},
        "mapped": planned.mapped + outcome.mapped,
        "left_out": planned.left_out + outcome.left_out,
        "recipients": [
            {
                "recipient": recipient,
                "same": recipient not in differs if recipient in planned.reported else None,
                "reported": fate(planned.reported.get(recipient)),
                "here": fate(outcome.fates.get(recipient)),
            }
            for recipient in planned.recipients
        ],
        "settled": outcome.settled,
        "journey": outcome.journey,
    }


def _show(
    reported: Report, planned: Plan, outcome: Outcome, differs: list[str], where: str
) -> None:
    version = reported.version or "an unknown version"
    print(f"reported of {version}, {len(reported.settings)} settings, {reported.lines} log lines")
    print(f"tried with {where}")
    for title, lines in (
        ("mapped", planned.mapped + outcome.mapped),
        ("left out", planned.left_out + outcome.left_out),
    ):
        if lines:
            print(f"\n{title}:")
            for line in lines:
                print(f"  {line}")
    for recipient in planned.recipients:
        told = planned.reported.get(recipient)
        verdict = "nothing was reported of it" if told is None else "the same"
        print(f"\n{recipient}: {'DIFFERENT' if recipient in differs else verdict}")
        rows = [("reported", told), ("here", outcome.fates.get(recipient))]
        print_table(
            [(when, *_words(one)) for when, one in rows if one is not None or when == "here"],
            indent="  ",
        )
    if not outcome.settled:
        print("\nit has not come to rest; this is how far it got")
    print(f"\n{outcome.journey.rstrip()}")


def _words(one: Fate | None) -> tuple[str, str]:
    if one is None:
        return "nothing", ""
    how = " ".join(filter(None, (one.status, str(one.code or ""), one.dsn)))
    via = f"relay {one.relay}: " if one.relay else ""
    return how, f"{via}{one.reply}"
