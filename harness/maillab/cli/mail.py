"""Mail in a lab by hand: send it, look into queues, follow it through the logs."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict

from maillab import lab
from maillab.cli.labs import choose, site_of
from maillab.cli.output import print_json
from maillab.errors import BadInput, UnknownName
from maillab.history import Leg
from maillab.journeys import Journeys
from maillab.lab import Lab
from maillab.postfix import MailHost


@contextlib.contextmanager
def _lab(name: str, *hosts: str, read_log: bool = False) -> Iterator[Lab]:
    """The lab for the length of a block; raises UnknownName for hosts it lacks.

    Reading the whole log needs every host in working order, the rest does not.
    """
    project = choose(name)
    site = site_of(project)
    for host in hosts:
        site.role(host)
    attached = lab.attach(project) if read_log else Lab(site, project, version="")
    try:
        yield attached
    finally:
        attached.detach()


def _mail_host(running: Lab, name: str, otherwise: str = "") -> MailHost:
    host = running.hosts[name]
    if not isinstance(host, MailHost):
        known = ", ".join(other.name for other in running.mail_hosts)
        raise BadInput(f"{name} runs no Postfix{otherwise}; these do: {known}")
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
    """Send a message; returns 0 when it was acknowledged."""
    hosts = filter(None, (arguments.from_host, arguments.server))
    with _lab(arguments.lab, *hosts, read_log=arguments.wait) as running:
        what = {
            "sender": arguments.sender,
            "subject": arguments.subject,
            "body": arguments.body,
            "size_bytes": arguments.size_bytes,
        }
        if arguments.server:
            server = _mail_host(running, arguments.server)
            mail = running.hosts[arguments.from_host].submit(arguments.to, server=server, **what)
        else:
            host = _mail_host(running, arguments.from_host, ", so name a --server")
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
                "rejections": [dict(zip(keys, one, strict=True)) for one in sent.rejections],
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
    """Print the legs of a message from where it began."""
    wanted = arguments.message
    with _lab(arguments.lab, read_log=True) as running:
        legs = Journeys(running.record.history()).legs
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
        told: dict[Leg, dict[str, object]] = {}
        for root in roots:
            _tell(root, None, told)
        print_json(list(told.values()))
        return 0
    for root in roots:
        print(f"message {root.message_id or 'without Message-ID'}, from <{root.sender}>")
        print("\n".join(root.tell("  ")))
    return 0


def _root(leg: Leg) -> Leg:
    while isinstance(leg.parent, Leg):
        leg = leg.parent
    return leg


def _tell(leg: Leg, came: dict[str, str] | None, told: dict[Leg, dict[str, object]]) -> None:
    """Add a leg and what came of it, each once, in the order of the text."""
    if leg in told:
        return
    told[leg] = {
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
        _tell(edge.leg, {"host": leg.host, "queue_id": leg.queue_id, "how": how}, told)
