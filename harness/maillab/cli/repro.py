"""A reported problem, tried in a lab: ``maillab repro``."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from maillab.cli.arguments import Add
from maillab.cli.output import print_json, print_table
from maillab.engine import images
from maillab.engine.images import SUITES, VERSION_DEFAULT
from maillab.errors import BadInput
from maillab.hosts.postfix import PostfixHost
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.repro import plan, play, report, verdicts
from maillab.repro.plan import Plan
from maillab.repro.play import Outcome
from maillab.repro.reading import decoding
from maillab.repro.report import Fate, Report
from maillab.repro.verdicts import CANNOT_TELL, DIFFERENT, NOT_REPORTED, THE_SAME
from maillab.site import topology
from maillab.site.versions import Version

_DIFFERS = 3
_TELLS_NOTHING = 4
_TOPOLOGY_DEFAULT = "standalone"
_STANDARD_INPUT = "-"
_SHOWN_CHARS = 120
_LINES_SHOWN = 5


def register(add: Add) -> None:
    """Declare the commands of this family and their arguments."""
    parser = add(
        repro,
        "maillab repro report.txt --table /etc/postfix/virtual=./virtual",
        details="A report holds 'postconf -n', master.cf entries, tables below their path, log\n"
        "lines, delivery notices or queue listings, in any order and form. --explain shows what\n"
        "each line was read as. Names and addresses are mapped to the lab's own. Settings that\n"
        "the lab cannot provide are left out and listed. Remote servers give the replies of the\n"
        "report. Exits with 3 if the outcome differs from the report, with 4 if the lab only\n"
        "repeated another server's reply.",
        json='{"postfix": {"reported", "here"}, "read", "not_read", "others", "mapped", '
        '"left_out", "recipients": [{"recipient", '
        '"verdict", "same", "reported": {"status", "dsn", "relay", "reply", "code"}, "here"}], '
        '"fatal", "settled", "journey"}',
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="files of the report; '-' or none for standard input",
    )
    parser.add_argument(
        "--topology",
        metavar="NAME",
        help="topology (default: that of the issue form, else standalone)",
    )
    parser.add_argument(
        "--host",
        metavar="HOST",
        default="",
        help="host that the report is about (default: the first with Postfix)",
    )
    parser.add_argument(
        "--postfix",
        metavar="VERSION",
        help="Postfix version (default: the nearest to the report's)",
    )
    parser.add_argument(
        "--table", metavar="PATH=FILE", action="append", default=[],
        help="content of a lookup table that main.cf names; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--from", dest="sender", metavar="ADDR", help="envelope sender; '' for the null sender"
    )
    parser.add_argument("--to", metavar="ADDR", nargs="+", default=[], help="recipients")
    parser.add_argument(
        "--queue-id",
        metavar="ID",
        default="",
        help="message of the report to try (default: a failed one with the most log lines)",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="show what each line of the report was read as, and try nothing",
    )
    parser.add_argument(
        "--allow-commands",
        action="store_true",
        help="run the commands that its configuration names",
    )
    parser.add_argument("--keep", action="store_true", help="keep the lab running afterwards")


def repro(arguments: Namespace) -> int:
    """Read a report, try it in a lab, and print both results side by side."""
    reported = report.read(_text(arguments.files), queue_id=arguments.queue_id)
    if arguments.explain:
        _explain(reported, as_json=arguments.json)
        return 0
    plan.check(reported, arguments.to or [fate.recipient for fate in reported.fates])
    for option, addresses in (("--to", arguments.to), ("--from", [arguments.sender or "none"])):
        for address in addresses:
            if not address or not address.isprintable():
                raise BadInput(
                    f"{option} must be an address such as user@example.com, not {address!r}"
                )
    tables = _tables(arguments.table)
    site = topology.load(arguments.topology or _of_the_form(reported))
    name = arguments.host or next(iter(site.postfix_hosts)).name
    if site.role(name).server != "postfix":
        raise BadInput(f"--host must be a host with Postfix, not {name}")
    version = arguments.postfix or nearest(reported.version)
    images.postfix(version)
    _announce_build(reported, version, is_chosen=bool(arguments.postfix))
    labs = Labs(keep_max=1)
    try:
        running = labs.get(site, version)
        host = running.hosts[name]
        assert isinstance(host, PostfixHost)  # noqa: S101  # the role has Postfix
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
    found_to_be = {
        recipient: verdicts.verdict(
            planned.reported.get(recipient),
            outcome.fates.get(recipient),
            played=bool(outcome.played),
        )
        for recipient in planned.recipients
    }
    if arguments.json:
        print_json(_told(reported, planned, outcome, found_to_be, found))
    else:
        _show(reported, planned, outcome, found_to_be, f"Postfix {found}, {site.name}, host {name}")
        if arguments.keep:
            print(f"\nthe lab is still up: maillab shell {name} --lab {lab_name}")
        if arguments.keep and outcome.played:
            print(
                "the reply is no longer played; to play it while a command runs:\n"
                f"  {outcome.played} --lab {lab_name} -- COMMAND"
            )
    return _status(list(found_to_be.values()))


def _status(found_to_be: list[str]) -> int:
    """Return the exit status of the verdicts: a difference counts before a doubt."""
    if DIFFERENT in found_to_be or set(found_to_be) == {NOT_REPORTED}:
        return _DIFFERS
    return _TELLS_NOTHING if CANNOT_TELL in found_to_be else 0


def _explain(reported: Report, *, as_json: bool) -> None:
    """Print the reading line by line, and its summary."""
    if as_json:
        print_json({
            "postfix": reported.version,
            "lines": [asdict(line) for line in reported.reading.lines],
            "not_read": reported.reading.not_read,
            "others": list(reported.reading.others),
            "recipients": [asdict(fate) for fate in reported.fates],
        })  # fmt: skip
        return
    print_table(
        [
            (str(line.number), line.kind, line.form, line.text[:_SHOWN_CHARS])
            for line in reported.reading.lines
        ]
    )
    print()
    _show_reading(reported)
    for fate in reported.fates:
        how, text = _words(fate)
        print(f"{fate.recipient}: {how}  {text}".rstrip())
    if not reported.fates:
        print("no recipient: name one with --to")


def _show_reading(reported: Report) -> None:
    """Print what the report says, how many lines were read as what, and which were not."""
    reading = reported.reading
    settings, logged = len(reported.settings), reported.lines
    print(
        f"report: {_version_words(reported)}, {settings} setting{'s'[: settings != 1]}, "
        f"{logged} log line{'s'[: logged != 1]}"
    )
    for title, lines in (
        ("read", reading.counted),
        ("not read", reading.not_read + _cut(reported)),
        ("the report also has (try one with --queue-id)", _first(reading.others)),
        ("without a recipient", _first(reading.complaints)),
    ):
        if lines:
            print(f"\n{title}:")
            for line in lines:
                print(f"  {line}")
    if reading.others and reading.chosen:
        print(f"\ntried: {reading.chosen}")


def _cut(reported: Report) -> list[str]:
    cut = reported.reading.cut
    if not cut:
        return []
    return [f"the end of {cut} log line{'s'[: cut != 1]}: cut off (journalctl --no-pager has it)"]


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _LINES_SHOWN
    return [*lines[:_LINES_SHOWN], *([f"and {more} more (--explain --json)"] if more > 0 else [])]


def _version_words(reported: Report) -> str:
    if not reported.version:
        return "Postfix of unknown version"
    reading = reported.reading
    others = f"; also named: {', '.join(reading.other_versions)}" if reading.other_versions else ""
    return f"Postfix {reported.version} (by {reading.version_source}{others})"


def _announce_build(reported: Report, version: str, *, is_chosen: bool) -> None:
    """Say that an image will be built, why, and which version is there already."""
    if images.packages_of(images.postfix(version)) is not None:
        return
    why = "--postfix names it" if is_chosen else f"nearest to {_version_words(reported)}"
    there = [name for name in SUITES if images.packages_of(images.postfix(name)) is not None]
    offer = f"; --postfix {_closest(there, version)} is there already" if there else ""
    print(f"building the image of Postfix {version} ({why}){offer}", file=sys.stderr)


def _of_the_form(reported: Report) -> str:
    if reported.topology in topology.names():
        return reported.topology
    if reported.topology:
        print(
            f"the form's topology {reported.topology!r} is unknown (choose from "
            f"{', '.join(topology.names())}); using {_TOPOLOGY_DEFAULT}, see --topology",
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
        parts.append(decoding.decoded(raw, name))
    return "\n\n".join(parts)


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise BadInput(f"{name}: {error.strerror}") from error


def _tables(given: list[str]) -> Mapping[str, str]:
    tables = {}
    for option in given:
        path, equals, file = option.partition("=")
        if not (path and equals and file):
            raise BadInput(
                f"--table must be PATH=FILE, such as /etc/postfix/virtual=./virtual, not {option!r}"
            )
        tables[path] = _content(file).decode(errors="backslashreplace")
    return tables


def nearest(wanted: str) -> str:
    """Return the nearest version that maillab has; of two equally near ones, the newer."""
    try:
        Version(wanted)
    except BadInput:
        return VERSION_DEFAULT
    return _closest(list(SUITES), wanted)


def _closest(names: Sequence[str], wanted: str) -> str:
    asked = Version(wanted)

    def far(name: str) -> tuple[int, int, int]:
        ours = Version(name)
        (major, minor), (asked_major, asked_minor) = ours.series, asked.series
        distance = abs((major - asked_major) * 100 + minor - asked_minor)
        # A full version stands for itself and older releases, a series for its newest.
        is_full, has_patch_level = bool(ours.numbers[2:]), bool(asked.numbers[2:])
        rank = 1 if not is_full else 0 if has_patch_level and asked <= ours else 2
        return distance, -minor, rank

    return min(names, key=far)


def _told(
    reported: Report, planned: Plan, outcome: Outcome, found_to_be: Mapping[str, str], version: str
) -> dict[str, object]:
    def fate(status: Fate | None) -> object:
        return asdict(status) if status else None

    return {
        "postfix": {"reported": reported.version, "here": version},
        "read": reported.reading.counted,
        "not_read": reported.reading.not_read,
        "others": list(reported.reading.others),
        "mapped": planned.mapped + outcome.mapped,
        "left_out": planned.left_out + outcome.left_out,
        "recipients": [
            {
                "recipient": recipient,
                "verdict": found_to_be[recipient],
                "same": {THE_SAME: True, DIFFERENT: False}.get(found_to_be[recipient]),
                "reported": fate(planned.reported.get(recipient)),
                "here": fate(outcome.fates.get(recipient)),
            }
            for recipient in planned.recipients
        ],
        "fatal": outcome.fatal,
        "settled": outcome.settled,
        "journey": outcome.journey,
    }


def _show(
    reported: Report, planned: Plan, outcome: Outcome, found_to_be: Mapping[str, str], where: str
) -> None:
    _show_reading(reported)
    print(f"\nlab: {where}")
    if outcome.fatal:
        print("\ndied in the lab:")
        for line in outcome.fatal:
            print(f"  {line}")
    for title, lines in (
        ("mapped", planned.mapped + outcome.mapped),
        ("left out", planned.left_out + outcome.left_out),
    ):
        if lines:
            print(f"\n{title}:")
            for line in lines:
                print(f"  {line}")
    for recipient in planned.recipients:
        reported_fate = planned.reported.get(recipient)
        print(f"\n{recipient}: {found_to_be[recipient]}")
        rows = [("reported", reported_fate), ("here", outcome.fates.get(recipient))]
        print_table(
            [(when, *_words(fate)) for when, fate in rows if fate is not None or when == "here"],
            indent="  ",
        )
    if not outcome.settled:
        print("\nthe mail did not settle; this is its state so far")
    print(f"\n{outcome.journey.rstrip()}")


def _words(fate: Fate | None) -> tuple[str, str]:
    if fate is None:
        return "nothing", ""
    how = " ".join(filter(None, (fate.status, str(fate.code or ""), fate.dsn)))
    via = f"relay {fate.relay}: " if fate.relay else ""
    return how, f"{via}{fate.reply}"
