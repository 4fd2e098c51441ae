"""Restricting what users can send off-site.

The FAQ's answer was a restriction class: a name for a list of restrictions,
which an access table may give to some senders. It works to this day. What it
never was is safe, since it believes the sender address: whoever says another
name, or none, is not restricted, and what a user hands to sendmail(1) never
meets the SMTP server. For those the answers are newer: a login that binds the
address (see mobile-users) and authorized_submit_users, since 2.2. The refusal
names the sender today, where the FAQ's sample named the recipient.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Complaint

pytestmark = pytest.mark.topology("standalone")

LOCAL_ONLY = ("example.com", "OK")
NOT_ALLOWED = "Sender address rejected: Access denied"

POLICY = """#!/usr/bin/env python3
import sys
asked = dict(line.rstrip("\\n").partition("=")[::2] for line in iter(sys.stdin.readline, "\\n"))
joe = asked["sender"] == "joe@example.com"
offsite = not asked["recipient"].endswith("@example.com")
print("action=REJECT off-site mail not allowed\\n" if joe and offsite else "action=DUNNO\\n")
"""


def restrict(lab: Lab, senders: dict[str, str], *, cure: bool = False) -> None:
    """The FAQ's class and tables; the machine relays for the client, which it trusts."""
    mail = lab.mail
    mail.configure(
        mynetworks=lab.client.address,
        mydestination="$myhostname, localhost, $mydomain, sub.$mydomain",
        smtpd_restriction_classes="local_only",
        local_only=f"check_recipient_access {mail.table('local', dict([LOCAL_ONLY]))}, reject",
    )
    asking = f"check_sender_access {mail.table('restricted', senders)}"
    (mail.cure if cure else mail).configure(smtpd_recipient_restrictions=asking)


JOE = {"joe@example.com": "local_only"}
ALL_BUT_ALICE = {"alice@example.com": "OK", "example.com": "local_only"}


@pytest.mark.faq("offsite-restriction", "16a")
def test_symptom_whoever_is_trusted_sends_anywhere(lab: Lab) -> None:
    """Who may relay is a question of the client; which user it is does not matter."""
    restrict(lab, JOE)
    lab.mail.misconfigure(smtpd_recipient_restrictions="")

    mail = lab.client.submit("joe@example.net", server=lab.mail, sender="joe@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16a")
@pytest.mark.parametrize("sender", ["joe@example.com", "JOE@Example.COM"])
def test_cure_a_class_keeps_a_user_from_sending_off_site(lab: Lab, sender: str) -> None:
    """The sender named in the table reaches the machine's own domain and no other."""
    restrict(lab, JOE, cure=True)

    offsite = lab.client.submit("joe@example.net", server=lab.mail, sender=sender)
    local = lab.client.submit("alice@example.com", server=lab.mail, sender=sender)
    lab.settle(offsite, local)

    assert offsite.rejected(554, "5.7.1", saying=f"<{sender}>: {NOT_ALLOWED}")
    assert not offsite.reached(lab.remote)
    assert local.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("offsite-restriction", "16a")
def test_behaviour_subdomains_are_local_and_others_are_free(lab: Lab) -> None:
    """A domain in an access table stands for what is below it (parent_domain_matches_…)."""
    restrict(lab, JOE)

    below = lab.client.submit("alice@sub.example.com", server=lab.mail, sender="joe@example.com")
    other = lab.client.submit("joe@example.net", server=lab.mail, sender="alice@example.com")
    lab.settle(below, other)

    assert below.delivered_to(lab.mail, mailbox="alice")
    assert other.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16b")
def test_cure_all_but_some_are_kept(lab: Lab) -> None:
    """The inverse: the domain is restricted, and a user in the table is excepted."""
    restrict(lab, ALL_BUT_ALICE, cure=True)

    offsite = lab.client.submit("joe@example.net", server=lab.mail, sender="joe@example.com")
    local = lab.client.submit("bob@example.com", server=lab.mail, sender="joe@example.com")
    free = lab.client.submit("joe@example.net", server=lab.mail, sender="alice@example.com")
    lab.settle(offsite, local, free)

    assert offsite.rejected(554, "5.7.1", saying=f"<joe@example.com>: {NOT_ALLOWED}")
    assert local.delivered_to(lab.mail, mailbox="bob")
    assert free.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16c")
@pytest.mark.parametrize("sender", ["", "joe+ext@example.com", "bob@example.com", "x@y.example"])
def test_behaviour_who_says_another_name_is_not_restricted(lab: Lab, sender: str) -> None:
    """No sender, one with an extension, a colleague, a stranger: none is in the table."""
    restrict(lab, JOE)

    mail = lab.client.submit("joe@example.net", server=lab.mail, sender=sender)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16c")
def test_cure_the_extension_is_known_as_such(lab: Lab) -> None:
    """With recipient_delimiter the table is asked for joe when joe+ext sends."""
    restrict(lab, JOE)
    lab.mail.cure.configure(recipient_delimiter="+")

    mail = lab.client.submit("joe@example.net", server=lab.mail, sender="joe+ext@example.com")
    lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying=f"<joe+ext@example.com>: {NOT_ALLOWED}")


@pytest.mark.faq("offsite-restriction", "16c")
def test_symptom_mail_from_a_users_own_shell_is_not_restricted(lab: Lab) -> None:
    """The restrictions are the SMTP server's; sendmail(1) never meets it."""
    restrict(lab, JOE)
    lab.mail.configure(authorized_submit_users="!joe, static:all")
    lab.mail.misconfigure(authorized_submit_users="static:all")

    mail = lab.mail.send("joe@example.net", user="joe", sender="joe@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16c")
def test_cure_a_user_may_not_submit_at_all(lab: Lab) -> None:
    """authorized_submit_users goes by who the user is, not by who it claims to be."""
    restrict(lab, JOE)
    lab.mail.cure.configure(authorized_submit_users="!joe, static:all")

    as_joe = lab.mail.send("joe@example.net", user="joe")
    as_alice = lab.mail.send("joe@example.net", user="joe", sender="alice@example.com")
    alice = lab.mail.send("joe@example.net", user="alice")
    lab.settle(as_joe, as_alice, alice)

    for mail in (as_joe, as_alice):
        assert mail.rejected(75, saying="is not allowed to submit mail")
        assert "sendmail: fatal: User joe(" in mail.submission.reply
    assert alice.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16d")
def test_symptom_a_class_that_is_not_declared_refuses_all(lab: Lab) -> None:
    """Without its name in smtpd_restriction_classes the class is a restriction nobody knows."""
    restrict(lab, JOE)
    lab.mail.misconfigure(smtpd_restriction_classes="")

    offsite = lab.client.submit("joe@example.net", server=lab.mail, sender="joe@example.com")
    local = lab.client.submit("alice@example.com", server=lab.mail, sender="joe@example.com")
    free = lab.client.submit("joe@example.net", server=lab.mail, sender="alice@example.com")
    lab.settle(offsite, local, free)

    for mail in (offsite, local):
        assert mail.rejected(451, "4.3.5", saying="4.3.5 Server configuration error")
    assert free.delivered_to(lab.remote, mailbox="joe")
    complaints = {event.text for event in lab.events(Complaint, lab.mail)}
    assert complaints == {'unknown smtpd restriction: "local_only"'}


@pytest.mark.faq("offsite-restriction", "16d")
def test_cure_the_class_is_declared(lab: Lab) -> None:
    """With the name in the list the same tables do what they were made for."""
    restrict(lab, JOE)
    lab.mail.configure(smtpd_restriction_classes="")
    lab.mail.cure.configure(smtpd_restriction_classes="local_only")

    offsite = lab.client.submit("joe@example.net", server=lab.mail, sender="joe@example.com")
    local = lab.client.submit("alice@example.com", server=lab.mail, sender="joe@example.com")
    lab.settle(offsite, local)

    assert offsite.rejected(554, "5.7.1", saying=f"<joe@example.com>: {NOT_ALLOWED}")
    assert local.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("offsite-restriction", "16d")
def test_behaviour_a_class_may_say_why(lab: Lab) -> None:
    """A table that answers always gives the refusal a text of one's own."""
    restrict(lab, JOE)
    table = lab.mail.table("local", dict([LOCAL_ONLY]))
    lab.mail.configure(
        local_only=f"check_recipient_access {table}, "
        "check_sender_access static:{REJECT off-site mail not allowed}"
    )

    mail = lab.client.submit("joe@example.net", server=lab.mail, sender="joe@example.com")
    lab.settle(mail)

    refusal = "<joe@example.com>: Sender address rejected: off-site mail not allowed"
    assert mail.rejected(554, "5.7.1", saying=refusal)


@pytest.mark.faq("offsite-restriction")
def test_cure_a_policy_service_decides(lab: Lab) -> None:
    """What no table can say a program may: it is asked about sender and recipient at once."""
    lab.mail.configure(mynetworks=lab.client.address)
    lab.mail.write("/usr/local/bin/policy", POLICY, mode=0o755)
    lab.mail.service("policy unix - n n - 0 spawn user=nobody argv=/usr/local/bin/policy")
    lab.mail.cure.configure(smtpd_recipient_restrictions="check_policy_service unix:private/policy")

    offsite = lab.client.submit("joe@example.net", server=lab.mail, sender="joe@example.com")
    local = lab.client.submit("alice@example.com", server=lab.mail, sender="joe@example.com")
    lab.settle(offsite, local)

    refusal = "<joe@example.net>: Recipient address rejected: off-site mail not allowed"
    assert offsite.rejected(554, "5.7.1", saying=refusal)
    assert local.delivered_to(lab.mail, mailbox="alice")
