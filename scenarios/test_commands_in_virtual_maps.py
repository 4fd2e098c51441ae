"""Commands, files and :include: in virtual maps do not work.

A virtual map turns addresses into addresses, and into nothing else; what looks
like a command is the address of an unknown user. The cure is an alias of
local(8) behind the virtual address. Today a pipe(8) service of the domain's own
is the other way: it runs as a user of its own and is not reachable by another name.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Delivery
from maillab.message import parse

pytestmark = pytest.mark.topology("standalone")

BOX = "/tmp/box"  # noqa: S108  # on a host of the lab
COMMAND = f'"|cat > {BOX}"'
TAKEN = "/tmp/taken"  # noqa: S108  # on a host of the lab
LIST = "/etc/postfix/members"
OWN = "$myhostname, localhost.$mydomain, localhost, $mydomain"


def virtual(lab: Lab, entries: dict[str, str]) -> dict[str, str]:
    """The settings of the hosted domain with these addresses."""
    return {
        "virtual_alias_domains": "virtual.example",
        "virtual_alias_maps": lab.mail.table("virtual", entries),
    }


@pytest.mark.faq("commands-in-virtual-maps", "42-S1")
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (COMMAND, f"|cat > {BOX}"),
        (BOX, BOX),
        (f":include:{LIST}", f":include:{LIST}"),
    ],
    ids=["command", "file", "include"],
)
def test_symptom_it_is_the_address_of_an_unknown_user(lab: Lab, value: str, name: str) -> None:
    """The mail is accepted, then bounces; nothing is run, written or read."""
    lab.mail.write(LIST, "alice\n")
    lab.mail.configure(**virtual(lab, {"cmd@virtual.example": "carol"}))
    table = lab.mail.table("commands", {"cmd@virtual.example": value})
    lab.mail.misconfigure(virtual_alias_maps=table)

    mail = lab.client.submit("cmd@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying=f'unknown user: "{name}"')
    assert lab.mail.read(BOX) is None
    assert lab.mail.mailbox("alice") == []


@pytest.mark.faq("commands-in-virtual-maps", "42-S2")
@pytest.mark.parametrize("target", ["vcmd", "vcmd@localhost"])
def test_cure_an_alias_stands_behind_the_virtual_address(lab: Lab, target: str) -> None:
    """The alias runs the command as nobody; X-Original-To: tells which address it was."""
    lab.mail.aliases({"vcmd": COMMAND})
    lab.mail.configure(**virtual(lab, {"cmd@virtual.example": COMMAND}))
    table = lab.mail.table("cured", {"cmd@virtual.example": target})
    lab.mail.cure.configure(virtual_alias_maps=table)

    mail = lab.client.submit("cmd@virtual.example", server=lab.mail)
    lab.settle(mail)

    line, *_ = lab.events(Delivery, lab.mail)
    assert (line.status, line.reply) == ("sent", f"delivered to command: cat > {BOX}")
    assert lab.mail.run("stat", "-c", "%U", BOX).stdout == "nobody\n"
    assert parse((lab.mail.read(BOX) or "").encode())["X-Original-To"] == "cmd@virtual.example"


@pytest.mark.faq("commands-in-virtual-maps", "42-S2")
def test_cure_an_alias_includes_a_list(lab: Lab) -> None:
    """A mailing list of a virtual domain is a local alias, too."""
    lab.mail.write(LIST, "alice\njoe@example.net\n")
    lab.mail.aliases({"vlist": f":include:{LIST}"})
    lab.mail.configure(**virtual(lab, {"list@virtual.example": f":include:{LIST}"}))
    table = lab.mail.table("cured", {"list@virtual.example": "vlist"})
    lab.mail.cure.configure(virtual_alias_maps=table)

    mail = lab.client.submit("list@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("commands-in-virtual-maps", "42-S2")
@pytest.mark.parametrize("target", ["vcmd", "vcmd@localhost"])
def test_behaviour_the_alias_is_reachable_from_outside(lab: Lab, target: str) -> None:
    """Whatever the map says, an alias is an address in each domain of mydestination."""
    lab.mail.aliases({"vcmd": COMMAND})
    lab.mail.configure(**virtual(lab, {"cmd@virtual.example": target}))

    mail = lab.client.submit("vcmd@example.com", server=lab.mail)
    lab.settle(mail)

    (line,) = lab.events(Delivery, lab.mail)
    assert line.reply == f"delivered to command: cat > {BOX}"


@pytest.mark.faq("commands-in-virtual-maps", "42-S3")
def test_cure_the_domain_is_one_of_our_own(lab: Lab) -> None:
    """Sendmail's way: in mydestination the alias itself is the address, in every domain."""
    lab.mail.aliases({"cmd": COMMAND})
    lab.mail.configure(**virtual(lab, {"cmd@virtual.example": COMMAND}))
    lab.mail.cure.configure(
        virtual_alias_domains="", virtual_alias_maps="", mydestination=f"{OWN}, virtual.example"
    )

    mails = [
        lab.client.submit(f"cmd@{domain}", server=lab.mail)
        for domain in ("virtual.example", "mail.example.com")
    ]
    lab.settle(*mails)

    replies = [line.reply for line in lab.events(Delivery, lab.mail)]
    assert replies == [f"delivered to command: cat > {BOX}"] * 2


@pytest.mark.faq("commands-in-virtual-maps", "42-S4")
def test_cure_a_pipe_service_of_the_domains_own(lab: Lab) -> None:
    """virtual_transport names a pipe(8) service; the domain's other users are refused."""
    lab.mail.user("vscan")
    lab.mail.write("/usr/local/bin/take", f'#!/bin/sh\ncat >"{TAKEN}.$1"\n', mode=0o755)
    lab.mail.service(
        "vcmd unix - n n - - pipe flags=DRXq user=vscan argv=/usr/local/bin/take ${mailbox}"
    )
    lab.mail.configure(
        vcmd_destination_recipient_limit="1", **virtual(lab, {"cmd@virtual.example": COMMAND})
    )
    lab.mail.cure.configure(
        virtual_alias_domains="",
        virtual_alias_maps="",
        virtual_mailbox_domains="virtual.example",
        virtual_mailbox_maps=lab.mail.table("vmailbox", {"cmd@virtual.example": "x"}),
        virtual_transport="vcmd",
    )

    mail = lab.client.submit("cmd@virtual.example", server=lab.mail)
    unknown = lab.client.submit("nosuch@virtual.example", server=lab.mail)
    lab.settle(mail, unknown)

    line, *_ = lab.events(Delivery, lab.mail)
    assert (line.service, line.reply) == ("pipe", "delivered via vcmd service")
    assert lab.mail.run("stat", "-c", "%U", f"{TAKEN}.cmd").stdout == "vscan\n"
    assert unknown.rejected(550, "5.1.1", saying="User unknown in virtual mailbox table")
