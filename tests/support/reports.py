"""Problem reports for tests of maillab.repro."""

from __future__ import annotations

from pathlib import Path

from maillab.repro import plan
from maillab.repro.names import Scene, Spot
from maillab.repro.plan import Plan
from maillab.repro.report import Report, read

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "tests/support/data/reports"
SCENE = Scene(
    Spot("mail", "mail.example.com", "198.18.0.10"),
    Spot("client", "client.example.net", "198.18.0.30"),
    Spot("remote", "remote.example.net", "198.18.0.20"),
)
LOGGED = (
    "Jan  1 00:00:00 h postfix/qmgr[1]: ABCDEF1: from=<bob@example.net>, size=1, nrcpt=1"
    " (queue active)\n"
    "Jan  1 00:00:00 h postfix/smtp[1]: ABCDEF1: to=<a@example.com>,"
    " relay=mx.example.com[192.0.2.1]:25, delay=1, dsn=4.4.1, status=deferred (x)\n"
)

SUBMITTED = (
    "Jan  1 00:00:00 h postfix/submission/smtpd[1]: ABCDEF1: client=pc.example.org[192.0.2.7],"
    " sasl_method=PLAIN, sasl_username=bob\n"
)
# Ways to make Postfix run a command; each runs the command when allowed.
RUN = "/usr/bin/touch /tmp/maillab-ran"
WAYS = {
    "mailbox_command": f"mailbox_command = {RUN}\n",
    "option": f"local unix - n n - - local -o {{ mailbox_command = {RUN} }}\n",
    "option without space": f"local unix - n n - - local {{-omailbox_command={RUN}}}\n",
    "its alias_maps": f"local unix - n n - - local -o {{ alias_maps = static:{{|{RUN}}} }}\n",
    "pipe": f"local unix - n n - - pipe user=nobody argv={RUN}\n",
    "pipe by another path": f"local unix - n n - - ./pipe user=nobody argv={RUN}\n",
    "a shell": "local unix - n n - - ../../../bin/sh -c /bin/true\n",
    "a script of Postfix": "local unix - n n - - postfix-script -v\n",
}


def reported(name: str) -> Report:
    return read((REPORTS / f"{name}.txt").read_text())


def planned(name: str, *, allow_commands: bool = False, **tables: str) -> Plan:
    given = {path.replace("__", "/"): text for path, text in tables.items()}
    return plan.make(reported(name), SCENE, tables=given, allow_commands=allow_commands)


def drawn_from(text: str, **tables: str) -> Plan:
    given = {path.replace("__", "/"): content for path, content in tables.items()}
    return plan.make(read(text), SCENE, tables=given)
