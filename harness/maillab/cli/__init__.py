"""The command ``maillab``: the list of its commands, their dispatch, and its exit status.

Each family of commands is a module of this package. It declares the arguments of its
commands (``register``) next to the functions that carry them out. Only the family of the given
command is imported, since the engine's libraries take longer to load than most commands run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

from maillab.errors import NO_ROOM, MaillabError, of_os

_INTERRUPTED = 130
_NOBODY_READS = 141
# Each command's family, and its line in 'maillab --help'.
COMMANDS = {
    "images": ("images", "list the labs' images; build missing or old ones"),
    "up": ("labs", "bring up a lab that stays until 'maillab down'"),
    "ps": ("labs", "list the labs in the engine and their owners"),
    "inspect": ("labs", "show a lab's hosts, addresses, states and active faults"),
    "down": ("labs", "remove a lab"),
    "shell": ("labs", "open a shell on a host, or run one command"),
    "logs": ("labs", "print the mail log of one host or all hosts"),
    "queue": ("mail", "print a host's queue as postqueue(1) does"),
    "send": ("mail", "send a message and print its Message-ID"),
    "trace": ("mail", "follow a message through a lab by its logs"),
    "load": ("load", "send many messages in many sessions and account for each"),
    "fault": ("faults", "break a host while a command runs, or until Ctrl-C"),
    "lift": ("faults", "lift the active faults of a lab"),
    "warp": ("faults", "move the clock of all mail hosts forward"),
    "repro": ("repro", "reproduce a problem report in a lab and compare the outcome"),
    "faq": ("faq", "list the FAQ's entries, their scenarios and last results"),
    "sweep": ("labs", "remove labs that dead test runs left behind"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line; return the exit status, see ``maillab.errors``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Print a character that the terminal cannot show by its number.
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _carry_out(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except MaillabError as error:
        return _end(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # As in "maillab logs all | head"; the interpreter would print an error at its end.
        _print_no_more()
        return _NOBODY_READS
    except OSError as error:
        if error.filename is None and error.errno in NO_ROOM:
            _print_no_more()
            return _end(of_os(error, "standard output"))
        return _end(of_os(error))
    return status


def _carry_out(argv: list[str]) -> int:
    try:
        arguments = _parse(argv)
    except SystemExit as end:
        # argparse exits after its help or its error message.
        return int(end.code or 0)
    function: Callable[[argparse.Namespace], int] = arguments.function
    return function(arguments)


def _end(error: MaillabError) -> int:
    with contextlib.suppress(OSError):
        print(f"maillab: {error}", file=sys.stderr)
    return error.exit_code


def _print_no_more() -> None:
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _parser(next((word for word in argv if word in COMMANDS), ""))
    if not argv:
        parser.print_help()
        parser.exit()
    command: list[str] = []
    if argv[0] in ("shell", "fault") and "--" in argv:
        # Otherwise argparse would take the command's own options for ours.
        cut = argv.index("--")
        argv, command = argv[:cut], argv[cut + 1 :]
    for word in argv:
        if not word.isascii() and any("\ud800" <= character <= "\udfff" for character in word):
            parser.error(f"argument {word!r}: not in UTF-8")
    arguments = parser.parse_args(argv)
    arguments.command = command
    return arguments


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Return the parser of all commands; only the family of the chosen one has its arguments."""
    parser = argparse.ArgumentParser(
        prog="maillab",
        description="Mail labs on real Postfix: bring one up, look inside, send mail through it.",
        epilog="See 'maillab COMMAND --help' for a command's arguments.\n\n"
        "exit status:\n  0 success, 2 bad input, 10-12 no usable Docker engine, 13 no disk space,\n"
        "  14 no image, 15-17 the lab failed, 20 a fault that never acted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parsers = {
        name: commands.add_parser(
            name, help=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        for name, (_, purpose) in COMMANDS.items()
    }

    def add(
        function: Callable[[argparse.Namespace], int],
        example: str,
        *,
        details: str = "",
        json: str = "",
    ) -> argparse.ArgumentParser:
        name = function.__name__
        _, purpose = COMMANDS[name]
        added = parsers[name]
        added.description = f"{purpose[:1].upper()}{purpose[1:]}.\n{details}".rstrip()
        added.epilog = f"example:\n  {example}" + (json and f"\n\nwith --json:\n  {json}")
        added.set_defaults(function=function)
        if json:
            added.add_argument("--json", action="store_true", help="print JSON (form below)")
        return added

    if chosen:
        family, _ = COMMANDS[chosen]
        importlib.import_module(f"maillab.cli.{family}").register(add)
    return parser
