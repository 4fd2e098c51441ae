"""Mail in a lab by hand: send it, look into queues, follow it through the logs."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict

from maillab.cli.arguments import Add, add_lab, size
from maillab.cli.labs import choose, site_of
from maillab.cli.output import print_json
from maillab.errors import BadInput, UnknownName
from maillab.hosts.mailserver import MailServer
from maillab.lab import lab
from maillab.lab.lab import Lab
from maillab.mail.leg import Leg
from maillab.mail.tracing import Journeys


def register(add: Add) -> None:
    """Declare the commands of this family and their arguments."""
    parser = add(
        queue,
        "maillab queue mail",
        json='[{"queue", "queue_id", "sender", "size", "recipients", "reasons"}]',
    )
    parser.add_argument("host", metavar="HOST", help="a mail host of the lab")
    add_lab(parser)

    parser = add(
        send,
        "maillab send --from-host mail --to joe@example.net --wait",
        details="Uses the host's sendmail(1), or SMTP with --server.\n"
        "Exits with 1 if the message was not acknowledged.",
        json='{"message_id", "outcome": "acknowledged|refused|unknown", "code", "dsn", "reply", '
        '"accepted", "rejections": [{"recipient", "code", "dsn", "reply"}], "journey"}',
    )
    parser.add_argument("--from-host", metavar="HOST", required=True, help="the sending host")
    parser.add_argument(
        "--to", metavar="ADDR", required=True, nargs="+", action="extend", help="recipients"
    )
    parser.add_argument(
        "--sender",
        metavar="ADDR",
        help="envelope sender; '' for the null sender",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--user", default="bob", help="user that runs sendmail (default: bob)")
    how.add_argument("--server", metavar="HOST", help="speak SMTP to this host's port 25")
    parser.add_argument("--subject", default="probe", help="subject (default: probe)")
    parser.add_argument(
        "--body", default="", help="text of the message (default: one generated line)"
    )
    parser.add_argument(
        "--size-bytes", type=size, default=0, metavar="N", help="pad the message to N bytes"
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait until the mail settles, then print its journey"
    )
    add_lab(parser)

    parser = add(
        trace,
        "maillab trace 4F21433",
        details="Starts at the original message; includes forwarded copies and bounces.",
        json='[{"host", "queue_id", "message_id", "sender", "size", "state": '
        '"alive|removed|deleted|requeued", "waits", "from": {"host", "queue_id", "how"} or null, '
        '"attempts": [{"to", "orig_to", "status", "dsn", "relay", "reply"}]}]',
    )
    parser.add_argument("message", metavar="MESSAGE", help="a Message-ID or a queue id")
    add_lab(parser)


@contextlib.contextmanager
def _lab(name: str, *hosts: str, follow: bool = False) -> Iterator[Lab]:
    """Return the lab for a block; raise UnknownName for hosts that it lacks.

    Following all logs from now on needs every host to work; the rest does not.
    """
    project = choose(name)
    site = site_of(project)
    for host in hosts:
        site.role(host)
    attached = lab.attach(project) if follow else lab.look_into(site, project)
    try:
        yield attached
    finally:
        attached.detach()


def _mail_host(running: Lab, name: str, otherwise: str = "") -> MailServer:
    host = running.hosts[name]
    if not isinstance(host, MailServer):
        known = ", ".join(other.name for other in running.mail_hosts)
        raise BadInput(f"{name} runs no Postfix{otherwise} (choose from {known})")
    return host


def queue(arguments: Namespace) -> int:
    """Show the queue of a host."""
    with _lab(arguments.lab, arguments.host) as running:
        host = _mail_host(running, arguments.host)
        if arguments.json:
            print_json([asdict(entry) for entry in host.queue()])
        else:
            print(host.run("mailq").stdout, end="")
    return 0


def send(arguments: Namespace) -> int:
    """Send a message; return 0 if it was acknowledged."""
    hosts = filter(None, (arguments.from_host, arguments.server))
    with _lab(arguments.lab, *hosts, follow=arguments.wait) as running:
        what = {
            "sender": arguments.sender,
            "subject": arguments.subject,
            "body": arguments.body,
            "size_bytes": arguments.size_bytes,
        }
        if arguments.server:
            server = _mail_host(running, arguments.server)
            mail = running.hosts[arguments.from_host].smtp(arguments.to, server=server, **what)
        else:
            host = _mail_host(
                running, arguments.from_host, "; add --server, or send from a mail host"
            )
            mail = host.send(arguments.to, user=arguments.user, **what)
        if arguments.wait:
            running.settle(mail)
        journey = mail.journey.text() if arguments.wait else None
    sent = mail.submission
    if arguments.json:
        keys = ("recipient", "code", "dsn", "reply")
        print_json(
            {
                "message_id": mail.message_id,
                "outcome": sent.outcome,
                "code": sent.code,
                "dsn": sent.dsn,
                "reply": sent.reply,
                "accepted": sent.accepted,
                "rejections": [
                    dict(zip(keys, rejection, strict=True)) for rejection in sent.rejections
                ],
                "journey": journey,
            }
        )
    else:
        print(mail.message_id)
        if sent.outcome != "acknowledged" and not journey:
            print(f"{sent.outcome}: {sent.code} {sent.reply}")
        if journey:
            print(journey)
    return 0 if sent.outcome == "acknowledged" else 1


def trace(arguments: Namespace) -> int:
    """Print the legs of a message from its beginning."""
    wanted = arguments.message
    with _lab(arguments.lab, follow=True) as running:
        legs = Journeys(running.history_of(wanted)).legs
        name = running.project.name
    meant = (wanted, f"<{wanted}>")
    roots = list(
        dict.fromkeys(
            _root(leg) for leg in legs if wanted == leg.queue_id or leg.message_id in meant
        )
    )
    if not roots:
        raise UnknownName(f"no message {wanted!r} in the logs of {name}; see 'maillab logs all'")
    if arguments.json:
        rows: dict[Leg, dict[str, object]] = {}
        for root in roots:
            _tell(root, None, rows)
        print_json(list(rows.values()))
        return 0
    for root in roots:
        print(f"message {root.message_id or 'without Message-ID'}, from <{root.sender}>")
        print("\n".join(root.describe("  ")))
    return 0


def _root(leg: Leg) -> Leg:
    while isinstance(leg.parent, Leg):
        leg = leg.parent
    return leg


def _tell(leg: Leg, came: dict[str, str] | None, rows: dict[Leg, dict[str, object]]) -> None:
    """Add a leg and its continuations, each once, in the order of the text."""
    if leg in rows:
        return
    rows[leg] = {
        "host": leg.host,
        "queue_id": leg.queue_id,
        "message_id": leg.message_id,
        "sender": leg.sender,
        "size": leg.size,
        "state": leg.state,
        "waits": leg.waits(),
        "from": came,
        "attempts": [
            {
                key: getattr(attempt, key)
                for key in ("to", "orig_to", "status", "dsn", "relay", "reply")
            }
            for attempt in leg.deliveries
        ],
    }
    for edge in leg.edges:
        how = f"{edge.kind} notice" if edge.notice else edge.kind
        _tell(edge.leg, {"host": leg.host, "queue_id": leg.queue_id, "how": how}, rows)
