"""Commands, files and :include: in virtual maps do not work.

A virtual map turns addresses into addresses only; a command, a file or an :include:
becomes the address of an unknown user. Map the virtual address to an alias, and write the
command or the list into the alias. The alternative is a pipe(8) service for the domain: it
runs as a user of its own, and no other address reaches it.

Since the FAQ:
- The answer is unchanged.
"""

import pytest

from maillab import Delivery, Lab, message

pytestmark = pytest.mark.topology("standalone")

BOX = "/tmp/box"  # noqa: S108  # on a host of the lab
COMMAND = f'"|cat > {BOX}"'
TAKEN = "/tmp/taken"  # noqa: S108  # on a host of the lab
LIST = "/etc/postfix/members"
IN_A_FILE = "the command stores the message in a file, outside any mailbox"
OWN = "$myhostname, localhost.$mydomain, localhost, $mydomain"


def virtual(lab: Lab, entries: dict[str, str]) -> dict[str, str]:
    """Return the settings of the hosted domain with these addresses."""
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
    """Postfix accepts the mail, then bounces it; it runs, writes and reads nothing."""
    lab.mail.write(LIST, "alice\n")
    lab.mail.configure(**virtual(lab, {"cmd@virtual.example": "carol"}))
    table = lab.mail.table("commands", {"cmd@virtual.example": value})
    lab.mail.misconfigure(virtual_alias_maps=table)

    mail = lab.client.smtp("cmd@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying=f'unknown user: "{name}"')
    assert lab.mail.read(BOX) is None
    assert lab.mail.mailbox("alice") == []


UIDS = """
for process in /proc/[0-9]*; do
  [ "$(cat "$process/comm" 2>/dev/null)" = "$0" ] && sed -n 's/^Uid:\\t//p' "$process/status"
done
true
"""


def users_of(lab: Lab, daemon: str) -> set[str]:
    """Return the user ids that a daemon's processes have or can return to (proc(5) status)."""
    return set(lab.mail.run("sh", "-c", UIDS, daemon).stdout.split())


@pytest.mark.faq("commands-in-virtual-maps", "42-S1")
def test_behaviour_the_daemon_that_maps_addresses_has_no_privileges(lab: Lab) -> None:
    """cleanup(8) expands virtual aliases and can never become another user; local(8) can."""
    lab.mail.configure(**virtual(lab, {"cmd@virtual.example": "carol"}))

    mail = lab.client.smtp("cmd@virtual.example", server=lab.mail)
    lab.settle(mail)

    postfix = lab.mail.run("id", "-u", "postfix").stdout.strip()
    assert mail.delivered_to(lab.mail, mailbox="carol")
    assert users_of(lab, "cleanup") == {postfix}
    assert users_of(lab, "local") == {"0", postfix}


@pytest.mark.faq("commands-in-virtual-maps", "42-S2")
@pytest.mark.parametrize("target", ["vcmd", "vcmd@localhost"])
def test_cure_an_alias_stands_behind_the_virtual_address(lab: Lab, target: str) -> None:
    """The alias runs the command as user nobody; X-Original-To: has the virtual address."""
    lab.mail.aliases({"vcmd": COMMAND})
    lab.mail.configure(**virtual(lab, {"cmd@virtual.example": COMMAND}))
    table = lab.mail.table("cured", {"cmd@virtual.example": target})
    lab.mail.cure.configure(virtual_alias_maps=table)
    lab.expects(consumed=1, because=IN_A_FILE)

    mail = lab.client.smtp("cmd@virtual.example", server=lab.mail)
    lab.settle(mail)

    line, *_ = lab.events(Delivery, lab.mail)
    assert (line.status, line.reply) == ("sent", f"delivered to command: cat > {BOX}")
    assert lab.mail.run("stat", "-c", "%U", BOX).stdout == "nobody\n"
    assert (
        message.parse((lab.mail.read(BOX) or "").encode())["X-Original-To"] == "cmd@virtual.example"
    )


@pytest.mark.faq("commands-in-virtual-maps", "42-S2")
def test_cure_an_alias_includes_a_list(lab: Lab) -> None:
    """A mailing list of a virtual domain also works as a local alias."""
    lab.mail.write(LIST, "alice\njoe@example.net\n")
    lab.mail.aliases({"vlist": f":include:{LIST}"})
    lab.mail.configure(**virtual(lab, {"list@virtual.example": f":include:{LIST}"}))
    table = lab.mail.table("cured", {"list@virtual.example": "vlist"})
    lab.mail.cure.configure(virtual_alias_maps=table)

    mail = lab.client.smtp("list@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("commands-in-virtual-maps", "42-S2")
@pytest.mark.parametrize("target", ["vcmd", "vcmd@localhost"])
def test_behaviour_the_alias_is_reachable_from_outside(lab: Lab, target: str) -> None:
    """An alias is an address in every mydestination domain, whatever the map says."""
    lab.mail.mistake.aliases({"vcmd": COMMAND})
    lab.mail.configure(**virtual(lab, {"cmd@virtual.example": target}))
    lab.expects(consumed=1, because=IN_A_FILE)

    mail = lab.client.smtp("vcmd@example.com", server=lab.mail)
    lab.settle(mail)

    replies = [line.reply for line in lab.events(Delivery, lab.mail)]
    assert replies == [f"delivered to command: cat > {BOX}"]


@pytest.mark.faq("commands-in-virtual-maps", "42-S3")
def test_cure_the_domain_is_one_of_our_own(lab: Lab) -> None:
    """Sendmail's way: in mydestination the alias is the address, in every domain."""
    lab.mail.aliases({"cmd": COMMAND})
    lab.mail.configure(**virtual(lab, {"cmd@virtual.example": COMMAND}))
    lab.mail.cure.configure(
        virtual_alias_domains="", virtual_alias_maps="", mydestination=f"{OWN}, virtual.example"
    )
    lab.expects(consumed=2, because=IN_A_FILE)

    mails = [
        lab.client.smtp(f"cmd@{domain}", server=lab.mail)
        for domain in ("virtual.example", "mail.example.com")
    ]
    lab.settle(*mails)

    replies = [line.reply for line in lab.events(Delivery, lab.mail)]
    assert replies == [f"delivered to command: cat > {BOX}"] * 2


@pytest.mark.faq("commands-in-virtual-maps", "42-S4")
def test_cure_a_pipe_service_of_the_domains_own(lab: Lab) -> None:
    """With virtual_transport set to a pipe(8) service, other users of the domain are refused."""
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
    lab.expects(consumed=1, because=IN_A_FILE)

    mail = lab.client.smtp("cmd@virtual.example", server=lab.mail)
    unknown = lab.client.smtp("nosuch@virtual.example", server=lab.mail)
    lab.settle(mail, unknown)

    line, *_ = lab.events(Delivery, lab.mail)
    assert (line.service, line.reply) == ("pipe", "delivered via vcmd service")
    assert lab.mail.run("stat", "-c", "%U", f"{TAKEN}.cmd").stdout == "vscan\n"
    assert unknown.rejected(550, "5.1.1", saying="User unknown in virtual mailbox table")
