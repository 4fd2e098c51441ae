"""Unknown users in a virtual domain: not refused, looping back, or relay denied.

The three symptoms have one cause: Postfix was not told that the domain is virtual.
The FAQ's "virtual.domain anything" line in the virtual map is since 2.0 a parameter
of its own, virtual_alias_domains; the line still works, since that parameter's
default is $virtual_alias_maps, and virtual_maps is virtual_alias_maps by its old
name. An undeclared domain is refused with 454 since 2.10 (defer_unauth_destination),
before with 554.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Complaint

pytestmark = pytest.mark.topology("standalone")

ENTRIES = {"info@virtual.example": "alice", "sales@virtual.example": "joe@example.net"}
OWN = "$myhostname, localhost.$mydomain, localhost, $mydomain"
UNKNOWN = "Recipient address rejected: User unknown in"


def virtual(lab: Lab, **more: str) -> str:
    """The map of the hosted domain."""
    return lab.mail.table("virtual", ENTRIES | more)


@pytest.mark.faq("virtual-unknown-users", "41-S1")
@pytest.mark.parametrize(
    ("judge", "code", "dsn"),
    [("defer_unauth_destination", 454, "4.7.1"), ("reject_unauth_destination", 554, "5.7.1")],
)
def test_symptom_an_undeclared_domain_is_relaying(
    lab: Lab, judge: str, code: int, dsn: str
) -> None:
    """The map alone does not make the domain ours: all its mail is refused."""
    table = virtual(lab)
    lab.mail.configure(
        virtual_alias_maps=table,
        virtual_alias_domains="virtual.example",
        smtpd_relay_restrictions=f"permit_mynetworks, {judge}",
    )
    lab.mail.misconfigure(virtual_alias_domains="")

    mail = lab.client.submit("info@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(code, dsn, saying="<info@virtual.example>: Relay access denied")
    assert not mail.reached(lab.mail)


@pytest.mark.faq("virtual-unknown-users", "41-S2")
def test_symptom_unknown_users_of_a_relayed_domain_loop_back(lab: Lab) -> None:
    """In relay_domains every user is accepted, and those not in the map come back to us."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="virtual.example")
    lab.mail.misconfigure(virtual_alias_domains="", relay_domains="virtual.example")

    known = lab.client.submit("info@virtual.example", server=lab.mail)
    unknown = lab.client.submit("nosuch@virtual.example", server=lab.mail, sender="joe@example.net")
    lab.settle(known, unknown)

    assert known.delivered_to(lab.mail, mailbox="alice")
    assert unknown.bounced(dsn="5.4.6", saying="mail for virtual.example loops back to myself")
    (notice,) = lab.remote.mailbox("joe")
    assert "mail for virtual.example loops back to myself" in str(notice)


@pytest.mark.faq("virtual-unknown-users", "41-S2")
def test_symptom_own_mail_for_an_undeclared_domain_loops_back(lab: Lab) -> None:
    """Nobody refuses what a user of the machine sends; it is we who are the domain's MX."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="virtual.example")
    lab.mail.misconfigure(virtual_alias_domains="")

    mail = lab.mail.send(to="nosuch@virtual.example", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail for virtual.example loops back to myself")
    assert len(lab.mail.mailbox("bob")) == 1


def check_refusals(lab: Lab) -> None:
    """What a declared virtual domain takes and what it refuses."""
    known = lab.client.submit("info@virtual.example", server=lab.mail)
    away = lab.client.submit("sales@virtual.example", server=lab.mail)
    unknown = [
        lab.client.submit(f"{name}@virtual.example", server=lab.mail)
        # alice has an account here, which is no address in that domain.
        for name in ("nosuch", "alice")
    ]
    lab.settle()

    assert known.delivered_to(lab.mail, mailbox="alice")
    (copy,) = lab.mail.mailbox("alice")
    assert copy["X-Original-To"] == "info@virtual.example"
    assert away.delivered_to(lab.remote, mailbox="joe")
    for mail in unknown:
        assert mail.rejected(550, "5.1.1", saying=f"{UNKNOWN} virtual alias table")
        assert not mail.reached(lab.mail)


@pytest.mark.faq("virtual-unknown-users", "41-S3")
def test_cure_the_domain_is_declared(lab: Lab) -> None:
    """With virtual_alias_domains unknown users are refused, local ones, too."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="")
    lab.mail.cure.configure(virtual_alias_domains="virtual.example")

    check_refusals(lab)


@pytest.mark.faq("virtual-unknown-users", "41-S3")
def test_cure_own_mail_for_unknown_users_bounces_at_once(lab: Lab) -> None:
    """What a user of the machine sends is returned by the same table."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="")
    lab.mail.cure.configure(virtual_alias_domains="virtual.example")

    mail = lab.mail.send(to="nosuch@virtual.example", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying="User unknown in virtual alias table")


@pytest.mark.faq("virtual-unknown-users", "41-S3")
@pytest.mark.parametrize("parameter", ["virtual_alias_maps", "virtual_maps"])
def test_historic_the_faqs_own_words_still_work(lab: Lab, parameter: str) -> None:
    """A line for the domain itself in the map declares it, as before 2.0."""
    table = virtual(lab, **{"virtual.example": "anything"})
    lab.mail.configure(virtual_alias_maps="", virtual_alias_domains="$virtual_alias_maps")
    if parameter == "virtual_maps":
        lab.mail.configure(virtual_alias_maps="$virtual_maps")
    lab.mail.cure.configure(**{parameter: table})

    check_refusals(lab)


@pytest.mark.faq("virtual-unknown-users", "41-S4")
def test_cure_the_domain_is_one_of_our_own(lab: Lab) -> None:
    """Sendmail's way, the domain in mydestination: then every local user is in it, too."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="")
    lab.mail.cure.configure(mydestination=f"{OWN}, virtual.example")

    known = lab.client.submit("info@virtual.example", server=lab.mail)
    unknown = lab.client.submit("nosuch@virtual.example", server=lab.mail)
    local = lab.client.submit("carol@virtual.example", server=lab.mail)
    lab.settle()

    assert known.delivered_to(lab.mail, mailbox="alice")
    assert unknown.rejected(550, "5.1.1", saying=f"{UNKNOWN} local recipient table")
    assert local.delivered_to(lab.mail, mailbox="carol")


@pytest.mark.faq("virtual-unknown-users", "41-S4")
def test_symptom_both_ways_at_once(lab: Lab) -> None:
    """Mydestination wins, and trivial-rewrite(8) warns of it."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="virtual.example")
    lab.mail.misconfigure(mydestination=f"{OWN}, virtual.example")

    mail = lab.client.submit("carol@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="carol")
    (warning, *_) = [w.text for w in lab.events(Complaint, lab.mail) if "BOTH" in w.text]
    assert warning == (
        "do not list domain virtual.example in BOTH mydestination and virtual_alias_domains"
    )


@pytest.mark.faq("virtual-unknown-users", "41-S4")
@pytest.mark.parametrize(
    ("entry", "bounce"),
    [({"@virtual.example": "bob"}, ""), ({"nosuch@virtual.example": "gone"}, "gone")],
    ids=["catch-all", "alias-to-nobody"],
)
def test_symptom_the_map_itself_says_that_everybody_exists(
    lab: Lab, entry: dict[str, str], bounce: str
) -> None:
    """A catch-all takes every address; what the map names is not looked at before it is due."""
    lab.mail.configure(virtual_alias_domains="virtual.example", virtual_alias_maps=virtual(lab))
    lab.mail.misconfigure(virtual_alias_maps=lab.mail.table("catching", ENTRIES | entry))

    mail = lab.client.submit("nosuch@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert not mail.rejected()
    if bounce:
        assert mail.bounced(dsn="5.1.1", saying=f'unknown user: "{bounce}"')
    else:
        assert mail.delivered_to(lab.mail, mailbox="bob")


@pytest.mark.faq("virtual-unknown-users")
def test_behaviour_the_old_name_is_deprecated_since_3_11(lab: Lab) -> None:
    """virtual_maps works everywhere; 3.11 says that it will not for ever."""
    lab.mail.configure(virtual_maps="")

    done = lab.mail.run("postconf", "-n")

    warning = 'support for parameter "virtual_maps" will be removed; instead, specify'
    assert (warning in done.stderr) == (lab.version == "3.11")
