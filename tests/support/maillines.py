"""Log lines as Postfix writes them, for tests without Postfix."""

from __future__ import annotations

from maillab.mail.maillog import Event, parse

MID = "<m1@t>"
ADDRESSES = {"198.18.0.1": "a", "198.18.0.2": "b", "198.18.0.3": "c"}
A, B, C = ADDRESSES
OUTSIDE = "203.0.113.9"
Log = list[tuple[str, str]]
HELD = "postsuper: AAAAAA1: placed on hold"
NOTICE = "bounce: AAAAAA1: sender delay notification: AAAAAA2"


def on(host: str, *lines: str | list[str]) -> Log:
    flat = [line for given in lines for line in ([given] if isinstance(given, str) else given)]
    return [(host, line) for line in flat]


def events(log: Log) -> tuple[Event, ...]:
    return tuple(
        parse(f"Nov 23 08:10:11 {host} postfix/{line.replace(':', '[1]:', 1)}", host=host, seq=seq)
        for seq, (host, line) in enumerate(log)
    )


def active(queue_id: str, nrcpt: int = 1, sender: str = "joe@a.test") -> str:
    return f"qmgr: {queue_id}: from=<{sender}>, size=300, nrcpt={nrcpt} (queue active)"


def arrives(queue_id: str, nrcpt: int = 1, mid: str = MID, client: str = OUTSIDE) -> list[str]:
    return [
        f"smtpd: {queue_id}: client=x[{client}]",
        f"cleanup: {queue_id}: message-id={mid or '<>'}",
        active(queue_id, nrcpt),
    ]


def made(queue_id: str, mid: str = "<n1@t>", sender: str = "") -> list[str]:
    return [f"cleanup: {queue_id}: message-id={mid}", active(queue_id, 1, sender)]


def picked_up(queue_id: str, mid: str = MID, orig_id: str = "") -> list[str]:
    origin = f" orig_id={orig_id}" if orig_id else ""
    return [
        f"pickup: {queue_id}: uid=1000 from=<joe>{origin}",
        f"cleanup: {queue_id}: message-id={mid}",
        active(queue_id),
    ]


def tried(
    queue_id: str, status: str, reply: str = "", to: str = "alice@b.test", **more: str
) -> str:
    given = {"service": "local", "relay": "local", "orig_to": "", "dsn": "0.0.0"} | more
    orig = f"orig_to=<{given['orig_to']}>, " if given["orig_to"] else ""
    return (
        f"{given['service']}: {queue_id}: to=<{to}>, {orig}relay={given['relay']}, delay=1,"
        f" delays=1/0/0/0, dsn={given['dsn']}, status={status} ({reply})"
    )


def mailbox(queue_id: str, to: str = "alice@b.test", **more: str) -> str:
    return tried(queue_id, "sent", "delivered to mailbox", to, dsn="2.0.0", **more)


def deferred(queue_id: str, to: str = "alice@b.test", **more: str) -> str:
    return tried(queue_id, "deferred", "Connection refused", to, **({"dsn": "4.4.1"} | more))


def hop(queue_id: str, address: str, next_id: str = "", to: str = "alice@b.test") -> str:
    reply = f"250 2.0.0 Ok: queued as {next_id}" if next_id else "250 2.0.0 Ok"
    return tried(queue_id, "sent", reply, to, service="smtp", relay=f"x[{address}]:25", dsn="2.0.0")


def spooled(queue_id: str, to: str = "alice@b.test", service: str = "uucp") -> str:
    """Return the line of pipe(8) for mail given to uux(1)."""
    reply = f"delivered via {service} service"
    return tried(queue_id, "sent", reply, to, service="pipe", relay=service, dsn="2.0.0")


def removed(queue_id: str) -> str:
    return f"qmgr: {queue_id}: removed"
