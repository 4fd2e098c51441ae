"""The command ``maillab``: what can be asked of it, and how it ends.

What a subcommand does is in the modules beside this one. They are imported when
asked for, since the engine's libraries take longer to load than most answers.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from maillab.errors import MaillabError

_INTERRUPTED = 130
_NOBODY_READS = 141
_Command = Callable[..., argparse.ArgumentParser]
_LAB = "part of a lab's name, or its topology; needed when several were brought up by hand"


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line; returns the exit status, see ``maillab.errors``."""
    arguments = _parse(list(sys.argv[1:] if argv is None else argv))
    module, _, name = arguments.does.partition(".")
    try:
        do: Callable[[argparse.Namespace], int] = getattr(
            importlib.import_module(f"maillab.cli.{module}"), name
        )
        status = do(arguments)
        sys.stdout.flush()
    except MaillabError as error:
        print(f"maillab: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # As in "maillab logs all | head"; the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    return status


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _parser()
    if not argv:
        parser.print_help()
        parser.exit()
    command: list[str] = []
    if argv[0] in ("shell", "fault") and "--" in argv:
        # argparse would take the command's own options for ours.
        cut = argv.index("--")
        argv, command = argv[:cut], argv[cut + 1 :]
    arguments = parser.parse_args(argv)
    arguments.command = command
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="maillab",
        description="Mail labs on real Postfix: bring one up, look into it, send mail through it.",
        epilog="'maillab COMMAND --help' tells more. Exit status: 0, or that of an error:\n"
        "2 bad input, 10-12 no usable Docker engine, 13 no disk space, 14 no image, 15-17 the lab.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        does: str, purpose: str, example: str, *, details: str = "", json: str = ""
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            does.partition(".")[2],
            help=purpose,
            description=f"{purpose[:1].upper()}{purpose[1:]}.\n{details}".rstrip(),
            epilog=f"example:\n  {example}" + (json and f"\n\nwith --json:\n  {json}"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(does=does)
        if json:
            added.add_argument("--json", action="store_true", help="print JSON, see below")
        return added

    for family in (_labs, _mail, _faults, _reports, _project):
        family(command)
    return parser


def _labs(command: _Command) -> None:
    images = command(
        "images.images",
        "list the images of the labs, make what is missing",
        "maillab images --make --postfix 3.10",
        details="State: present, missing, or stale (the sources changed since).",
        json='[{"tag", "state": "present|missing|stale|removed", "in_use", "size_bytes", '
        '"created"}]',
    )
    images.add_argument("--make", action="store_true", help="make what is missing")
    images.add_argument(
        "--postfix",
        metavar="VERSION",
        action="append",
        help="only what labs of this version need, such as 3.10; may be repeated (default: all)",
    )
    images.add_argument(
        "--prune",
        action="store_true",
        help="remove what is stale by these sources and no container uses",
    )

    up = command(
        "labs.up",
        "bring up a lab that stays until 'maillab down'",
        "maillab up backup-mx --postfix 3.7",
        json='{"name", "topology", "postfix", "net", "hosts": [{"name", "fqdn", "addresses", '
        '"postfix"}]}',
    )
    up.add_argument("topology", metavar="TOPOLOGY", help="its name, or a Compose file's path")
    up.add_argument("--postfix", metavar="VERSION", help="the version (default: 3.10)")

    command(
        "labs.ps",
        "list the labs in the engine, and whose they are",
        "maillab ps",
        json='[{"name", "topology", "owner": "hand|compose|run|dead run|elsewhere", "net", '
        '"running", "containers"}]',
    )

    down = command(
        "labs.down",
        "remove a lab",
        "maillab down standalone",
        details="A test run's lab goes only by its full name.",
    )
    which = down.add_mutually_exclusive_group()
    which.add_argument("lab", metavar="LAB", nargs="?", default="", help=_LAB)
    which.add_argument("--all", action="store_true", help="all that were brought up by hand")

    shell = command(
        "labs.shell",
        "a shell on a host, or one command",
        "maillab shell primary -- postconf -n",
        details="A command's exit status becomes that of maillab. Without a terminal the shell\n"
        "reads commands from standard input.",
    )
    shell.usage = "maillab shell [-h] [--lab LAB] [--agent] HOST [-- COMMAND ...]"
    shell.add_argument("host", metavar="HOST", help="a host of the lab, such as mail")
    shell.add_argument(
        "--agent",
        action="store_true",
        help="enter the agent, which owns the host's network, not Postfix",
    )

    logs = command("labs.logs", "the mail log of a host, or of all", "maillab logs all --follow")
    logs.add_argument(
        "host", metavar="HOST", help="a host of the lab; 'all': every host, by time, named per line"
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what comes")

    for parser_of_lab in (shell, logs):
        parser_of_lab.add_argument("--lab", default="", help=_LAB)


def _mail(command: _Command) -> None:
    queue = command(
        "mail.queue",
        "the queue of a host, as postqueue(1) shows it",
        "maillab queue mail",
        json='[{"queue", "queue_id", "sender", "size", "recipients", "reasons"}]',
    )
    queue.add_argument("host", metavar="HOST", help="a mail host of the lab")

    send = command(
        "mail.send",
        "send a message and print its Message-ID",
        "maillab send --from-host mail --to joe@example.net --wait",
        details="By the host's own sendmail(1), or by SMTP when a server is named.\n"
        "Exit status 1 when it was not acknowledged.",
        json='{"message_id", "outcome": "acknowledged|refused|unknown", "code", "dsn", "reply", '
        '"accepted", "rejections": [{"recipient", "code", "dsn", "reply"}], "journey"}',
    )
    send.add_argument("--from-host", metavar="HOST", required=True, help="the host that sends")
    send.add_argument(
        "--to", metavar="ADDR", required=True, nargs="+", action="extend", help="recipients"
    )
    send.add_argument("--sender", metavar="ADDR", help="envelope sender; '' for the null sender")
    how = send.add_mutually_exclusive_group()
    how.add_argument("--user", default="bob", help="whose sendmail it is (default: bob)")
    how.add_argument("--server", metavar="HOST", help="speak SMTP to this host's port 25")
    send.add_argument("--subject", default="probe")
    send.add_argument("--body", default="", help="text (default: a line of its own)")
    send.add_argument("--size-bytes", type=int, default=0, metavar="N", help="pad it up to this")
    send.add_argument(
        "--wait", action="store_true", help="wait until it came to rest, and print its journey"
    )

    trace = command(
        "mail.trace",
        "the way of a message through a lab, out of its logs",
        "maillab trace 4F21433",
        details="From the message it began with, forwarded copies and notices included.",
        json='[{"host", "queue_id", "message_id", "sender", "size", "state": '
        '"alive|removed|deleted|requeued", "waits", "from": {"host", "queue_id", "how"} or null, '
        '"attempts": [{"to", "orig_to", "status", "dsn", "relay", "reply"}]}]',
    )
    trace.add_argument("message", metavar="MESSAGE", help="a Message-ID or a queue id")

    load = command(
        "load.load",
        "send many messages in many sessions, and account for each",
        "maillab load --from-host client --to-host mail --sessions 300 --messages 3000",
        details="Ctrl-C ends it; the report then tells what was done. Exit status 1 when mail was\n"
        "not conserved. Nothing is sent to an address outside the lab.",
        json='{"asked", "messages", "outcomes", "rate_per_s", "took_s", "open_max", "replies", '
        '"counts", "latency_s": {PHASE: {"p50", "p90", "p99", "p100"}}, "rss_kb", "bands", '
        '"complaints", "ledger"}',
    )
    load.add_argument(
        "--from-host", metavar="HOST", nargs="+", required=True, help="the hosts that send"
    )
    load.add_argument("--to-host", metavar="HOST", required=True, help="the one that receives")
    for option, default, what in (
        ("--sessions", 100, "how many are busy at once"),
        ("--messages", 1000, "how many in all"),
        ("--messages-per-session", 1, "before it says QUIT"),
        ("--retries", 0, "how often a message that was put off is tried anew"),
        ("--workers", 1, "processes on each sending host"),
        ("--port", 25, "where the server listens"),
        ("--seed", 1, "of sizes and recipients"),
    ):
        load.add_argument(
            option, type=int, default=default, metavar="N", help=f"{what} (default: {default})"
        )
    load.add_argument("--held", action="store_true", help="all connected before any sends")
    load.add_argument(
        "--rate", type=float, default=0.0, metavar="N", help="messages due a second (open loop)"
    )
    for option, usual, what in (
        ("--size-bytes", "1000", "sizes"),
        ("--recipients-each", "1", "numbers of recipients"),
    ):
        load.add_argument(
            option, nargs="+", default=[usual], metavar="N[:WEIGHT]", help=f"{what}, by weight"
        )
    load.add_argument("--to", nargs="+", default=[], metavar="ADDR", help="recipients to draw from")
    load.add_argument("--tls", action="store_true", help="STARTTLS in every session")
    load.add_argument("--auth", default="", metavar="USER:PASSWORD", help="AUTH PLAIN")
    load.add_argument("--drain-s", type=float, default=120.0, metavar="S", help=argparse.SUPPRESS)
    load.add_argument("--plot", metavar="FILE", help="a picture of it, such as load.png")

    for parser_of_lab in (queue, send, trace, load):
        parser_of_lab.add_argument("--lab", default="", help=_LAB)


def _faults(command: _Command) -> None:
    fault = command(
        "faults.fault",
        "break a host for as long as a command runs, or until Ctrl-C",
        "maillab fault MtuBlackHole router peer=receiver -- maillab send --from-host sender ...",
        details="Without a host: what the fault does and its settings. Without a fault: all there\n"
        "are. Ends by telling how often the fault was seen to act. A host's name stands for its\n"
        "address in the settings peer and client.",
        json='{"fault", "host", "source", "count"}; of all faults: [{"name", "summary", '
        '"settings": [{"name", "form", "default"}]}]',
    )
    fault.usage = (
        "maillab fault [-h] [--json] [--lab LAB] [FAULT [HOST [NAME=VALUE ...]]] [-- COMMAND ...]"
    )
    fault.add_argument("fault", metavar="FAULT", nargs="?", default="", help="such as Greeting")
    fault.add_argument("host", metavar="HOST", nargs="?", default="", help="a host of the lab")
    fault.add_argument("settings", metavar="NAME=VALUE", nargs="*", default=[], help="of the fault")

    warp = command(
        "faults.warp",
        "let time pass for all mail hosts of a lab",
        "maillab warp +4h",
        details="Deferred mail that became due is tried again. There is no way back but a new lab.",
        json='{HOST: "its time now"}',
    )
    warp.add_argument("step", metavar="STEP", help="such as +4h, +5d, +1h30m")

    for parser_of_lab in (fault, warp):
        parser_of_lab.add_argument("--lab", default="", help=_LAB)


def _reports(command: _Command) -> None:
    repro = command(
        "repro.repro",
        "try a reported problem in a lab, and say whether it is the same",
        "maillab repro report.txt --table /etc/postfix/virtual=./virtual",
        details="A report has 'postconf -n', rows of master.cf and log lines in any order,\n"
        "quoted or not. Names and addresses become the lab's own; what\n"
        "cannot be had here is left out, and said. What another server is said to have replied\n"
        "is replied here, too. Exit status 3 when something else happens than was reported.",
        json='{"postfix": {"reported", "here"}, "mapped", "left_out", "recipients": [{"recipient", '
        '"same", "reported": {"status", "dsn", "relay", "reply", "code"}, "here"}], "settled", '
        '"journey"}',
    )
    repro.add_argument(
        "files", metavar="FILE", nargs="*", help="the report; none, or '-': standard input"
    )
    repro.add_argument(
        "--topology", metavar="NAME", help="the lab's (what the form says, else standalone)"
    )
    repro.add_argument("--host", metavar="HOST", default="", help="which of its hosts it is about")
    repro.add_argument(
        "--postfix", metavar="VERSION", help="(default: the nearest to the report's)"
    )
    repro.add_argument(
        "--table", metavar="PATH=FILE", action="append", default=[],
        help="content of a lookup table that main.cf names; may be repeated",
    )  # fmt: skip
    repro.add_argument("--from", dest="sender", metavar="ADDR", help="envelope sender; '' for none")
    repro.add_argument("--to", metavar="ADDR", nargs="+", default=[], help="recipients")
    repro.add_argument(
        "--allow-commands", action="store_true", help="run what its configuration runs, here"
    )
    repro.add_argument("--keep", action="store_true", help="leave the lab up to look at")


def _project(command: _Command) -> None:
    faq = command(
        "faq.faq",
        "the FAQ's entries, their scenarios and how they stood in the last run",
        "maillab faq mx-greetings",
        details="With an entry: today's answer, and each scenario's claim and results by version.",
        json='[{"slug", "title", "topology", "scenarios": [{"id", "kind": '
        '"symptom|cure|behaviour|historic", "claim", "results": {"3.10": "passed", ...}}]}]',
    )
    faq.add_argument("slug", metavar="ENTRY", nargs="?", default="", help="its slug, or its number")
    faq.add_argument(
        "--uncovered", action="store_true", help="the bullets of the catalogue without a scenario"
    )
    faq.add_argument("--scenarios", metavar="DIR", default="scenarios", help="where they are")
    faq.add_argument(
        "--runs", metavar="DIR", nargs="+", default=["runs"], help="where results are kept"
    )
    faq.add_argument(
        "--durations", metavar="FILE", help="write how long each test took, for pytest --shard"
    )
    faq.add_argument("--markdown", action="store_true", help="the list as a table in Markdown")

    sweep = command(
        "labs.sweep",
        "remove the labs that dead test runs left",
        "maillab sweep",
        json='{"removed": [name]}',
    )
    sweep.add_argument(
        "--all",
        action="store_true",
        help="every lab there is: living runs', other machines' and those by hand, too",
    )
