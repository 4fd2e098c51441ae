"""Unknown users in a virtual domain: not refused, looping back, or relay denied.

The three symptoms have one cause: the domain is not declared as virtual. List it in
virtual_alias_domains, and do not list it in mydestination or relay_domains as well. The
FAQ's line "virtual.domain anything" in the virtual map still works.

Since the FAQ:
- 2.0: virtual_alias_domains, whose default is $virtual_alias_maps; virtual_maps is the old
  name of virtual_alias_maps.
- 2.10: an undeclared domain is refused with 454 (defer_unauth_destination); before, with 554.
"""

import pytest

from maillab import Complaint, Lab

pytestmark = pytest.mark.topology("standalone")

ENTRIES = {"info@virtual.example": "alice", "sales@virtual.example": "joe@example.net"}
OWN = "$myhostname, localhost.$mydomain, localhost, $mydomain"
UNKNOWN = "Recipient address rejected: User unknown in"


def virtual(lab: Lab, **more: str) -> str:
    """Build the map of the hosted domain."""
    return lab.mail.table("virtual", ENTRIES | more)


@pytest.mark.faq("virtual-unknown-users", "41-S1")
@pytest.mark.parametrize(
    ("judge", "code", "dsn"),
    [("defer_unauth_destination", 454, "4.7.1"), ("reject_unauth_destination", 554, "5.7.1")],
)
def test_symptom_an_undeclared_domain_is_relaying(
    lab: Lab, judge: str, code: int, dsn: str
) -> None:
    """The map alone does not declare the domain: Postfix refuses all its mail."""
    table = virtual(lab)
    lab.mail.configure(
        virtual_alias_maps=table,
        virtual_alias_domains="virtual.example",
        smtpd_relay_restrictions=f"permit_mynetworks, {judge}",
    )
    lab.mail.misconfigure(virtual_alias_domains="")

    mail = lab.client.smtp("info@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(code, dsn, saying="<info@virtual.example>: Relay access denied")
    assert not mail.reached(lab.mail)


@pytest.mark.faq("virtual-unknown-users", "41-S2")
def test_symptom_unknown_users_of_a_relayed_domain_loop_back(lab: Lab) -> None:
    """relay_domains accepts every user, and mail for those not in the map loops back."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="virtual.example")
    lab.mail.misconfigure(virtual_alias_domains="", relay_domains="virtual.example")

    known = lab.client.smtp("info@virtual.example", server=lab.mail)
    unknown = lab.client.smtp("nosuch@virtual.example", server=lab.mail, sender="joe@example.net")
    lab.settle(known, unknown)

    assert known.delivered_to(lab.mail, mailbox="alice")
    assert unknown.bounced(dsn="5.4.6", saying="mail for virtual.example loops back to myself")
    (notice,) = lab.remote.mailbox("joe")
    assert "mail for virtual.example loops back to myself" in str(notice)


@pytest.mark.faq("virtual-unknown-users", "41-S2")
def test_symptom_own_mail_for_an_undeclared_domain_loops_back(lab: Lab) -> None:
    """Local submission is not refused, and the machine itself is the domain's MX."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="virtual.example")
    lab.mail.misconfigure(virtual_alias_domains="")

    mail = lab.mail.send(to="nosuch@virtual.example", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail for virtual.example loops back to myself")
    assert len(lab.mail.mailbox("bob")) == 1


def check_refusals(lab: Lab) -> None:
    """Check that a declared virtual domain accepts listed users only."""
    known = lab.client.smtp("info@virtual.example", server=lab.mail)
    away = lab.client.smtp("sales@virtual.example", server=lab.mail)
    unknown = [
        lab.client.smtp(f"{name}@virtual.example", server=lab.mail)
        # alice's local account is not an address in that domain.
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
    """With virtual_alias_domains unknown users are refused, and so are local ones."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="")
    lab.mail.cure.configure(virtual_alias_domains="virtual.example")

    check_refusals(lab)


@pytest.mark.faq("virtual-unknown-users", "41-S3")
def test_cure_own_mail_for_unknown_users_bounces_at_once(lab: Lab) -> None:
    """Local submission to an unknown user bounces because of the same table."""
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
    """Sendmail's way, the domain in mydestination: every local user is then in it, too."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="")
    lab.mail.cure.configure(mydestination=f"{OWN}, virtual.example")

    known = lab.client.smtp("info@virtual.example", server=lab.mail)
    unknown = lab.client.smtp("nosuch@virtual.example", server=lab.mail)
    local = lab.client.smtp("carol@virtual.example", server=lab.mail)
    lab.settle()

    assert known.delivered_to(lab.mail, mailbox="alice")
    assert unknown.rejected(550, "5.1.1", saying=f"{UNKNOWN} local recipient table")
    assert local.delivered_to(lab.mail, mailbox="carol")


@pytest.mark.faq("virtual-unknown-users", "41-S4")
def test_symptom_both_ways_at_once(lab: Lab) -> None:
    """With both mydestination wins, and trivial-rewrite(8) logs a warning."""
    lab.mail.configure(virtual_alias_maps=virtual(lab), virtual_alias_domains="virtual.example")
    lab.mail.misconfigure(mydestination=f"{OWN}, virtual.example")

    mail = lab.client.smtp("carol@virtual.example", server=lab.mail)
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
    """A catch-all accepts every address; Postfix does not check a target before delivery."""
    lab.mail.configure(virtual_alias_domains="virtual.example", virtual_alias_maps=virtual(lab))
    lab.mail.misconfigure(virtual_alias_maps=lab.mail.table("catching", ENTRIES | entry))

    mail = lab.client.smtp("nosuch@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert not mail.rejected()
    if bounce:
        assert mail.bounced(dsn="5.1.1", saying=f'unknown user: "{bounce}"')
    else:
        assert mail.delivered_to(lab.mail, mailbox="bob")


@pytest.mark.faq("virtual-unknown-users")
def test_behaviour_the_old_name_is_deprecated_since_3_11(lab: Lab) -> None:
    """The old virtual_maps works on every version; 3.11 warns of its removal."""
    lab.mail.configure(virtual_maps="")

    done = lab.mail.run("postconf", "-n")

    warning = 'support for parameter "virtual_maps" will be removed; instead, specify'
    assert (warning in done.stderr) == lab.has("virtual_maps deprecated")
