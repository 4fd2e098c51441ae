"""DNS blocklists: clients that they list, and lists that answer everybody with an error.

Each scenario shows a list at work, or one of the ways to keep a public list's error answers
from blocking all mail. postscreen(8) asks lists by dnsblog(8), smtpd(8) by itself.
"""

import pytest

from maillab import Blocklisted, Complaint, Host, Lab, Mail, Screened
from maillab.faults import BlocklistError, DnsDrop

pytestmark = pytest.mark.topology("published")

LIST = "bl.example"
KEYED = "0123456789.key.example"
REAL_ANSWERS = "127.0.0.[2..11]"
# Debian's master.cf has these rows as comments.
POSTSCREEN = (
    "smtp inet n - n - 1 postscreen",
    "smtpd pass - - n - - smtpd",
    "dnsblog unix - - n - 0 dnsblog",
    "tlsproxy unix - - n - 0 tlsproxy",
)


def entry(host: Host, zone: str = LIST) -> str:
    """Return the name under which a list has a host's address (RFC 5782 section 2.1)."""
    return f"{'.'.join(reversed(host.address.split('.')))}.{zone}"


def list_the_stranger(lab: Lab, zone: str = LIST) -> None:
    """Publish the stranger's address on a list, with a text."""
    lab.remote.publish(entry(lab.stranger, zone), "A", "127.0.0.2")
    lab.remote.publish(entry(lab.stranger, zone), "TXT", "Listed by hand")


def sent(lab: Lab, client: Host) -> Mail:
    """Send a message from a client; settle."""
    mail = client.smtp("alice@example.com", server=lab.front)
    lab.settle(mail)
    return mail


def use_postscreen(lab: Lab, **settings: str) -> None:
    """Put postscreen(8) before smtpd(8), which enforces what lists say."""
    for row in POSTSCREEN:
        lab.mail.service(row)
    # postscreen(8) waits that long for the lists; on a busy machine dnsblog(8) takes a second.
    lab.mail.configure(postscreen_greet_wait="4s", postscreen_dnsbl_action="enforce", **settings)


def answers(lab: Lab) -> list[tuple[str, str, str]]:
    """Return what dnsblog(8) logged: address, list and answer."""
    found = lab.events(Blocklisted, lab.mail)
    return [(event.client_address, event.domain, event.answer) for event in found]


def test_symptom_a_listed_client_is_refused(lab: Lab) -> None:
    """The refusal has the list's text; other clients may write."""
    list_the_stranger(lab)
    lab.mail.misconfigure(smtpd_client_restrictions=f"reject_rbl_client {LIST}")

    listed = sent(lab, lab.stranger)
    other = sent(lab, lab.client)

    refusal = f"Client host [{lab.stranger.address}] blocked using {LIST}; Listed by hand"
    assert listed.rejected(554, "5.7.1", saying=f"Service unavailable; {refusal}")
    assert other.delivered_to(lab.mail, mailbox="alice")


def test_cure_only_real_answers_count(lab: Lab) -> None:
    """With a filter on the answer, the list's errors block no client; its entries still do."""
    list_the_stranger(lab)
    lab.mail.configure(smtpd_client_restrictions=f"reject_rbl_client {LIST}")
    lab.mail.cure.configure(smtpd_client_restrictions=f"reject_rbl_client {LIST}={REAL_ANSWERS}")

    with lab.mail.faulty(BlocklistError(LIST)):
        mail = sent(lab, lab.client)
    listed = sent(lab, lab.stranger)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert listed.rejected(554, "5.7.1", saying=f"blocked using {LIST}; Listed by hand")


def test_cure_a_zone_with_a_key(lab: Lab) -> None:
    """A list for registered users has the key in its name, and answers any resolver."""
    list_the_stranger(lab, KEYED)
    lab.mail.configure(smtpd_client_restrictions=f"reject_rbl_client {LIST}")

    with lab.mail.faulty(BlocklistError(LIST)):
        before = sent(lab, lab.client)
        lab.mail.cure.configure(smtpd_client_restrictions=f"reject_rbl_client {KEYED}")
        after = sent(lab, lab.client)
        listed = sent(lab, lab.stranger)

    assert before.rejected(554, "5.7.1", saying="Error: open resolver")
    assert after.delivered_to(lab.mail, mailbox="alice")
    assert listed.rejected(554, "5.7.1", saying=f"blocked using {KEYED}; Listed by hand")


def test_behaviour_weights_decide_with_the_threshold(lab: Lab) -> None:
    """postscreen(8) adds the weights of the lists that have the client, and refuses from a sum."""
    list_the_stranger(lab)
    use_postscreen(lab, postscreen_dnsbl_sites=f"{LIST}*2, {KEYED}*1")
    lab.mail.configure(postscreen_dnsbl_threshold="3")
    lab.mail.misconfigure(postscreen_dnsbl_threshold="2")

    mail = sent(lab, lab.stranger)

    refusal = f"Service unavailable; client [{lab.stranger.address}] blocked using {LIST}"
    assert mail.rejected(550, "5.7.1", saying=refusal)
    assert answers(lab) == [(lab.stranger.address, LIST, "127.0.0.2")]
    (rank,) = (event for event in lab.events(Screened, lab.mail) if event.action == "DNSBL rank")
    assert rank.detail == "2"


def test_symptom_postscreen_blocks_everybody(lab: Lab) -> None:
    """dnsblog(8) logs the error as a listing."""
    use_postscreen(lab, postscreen_dnsbl_sites=LIST)

    with lab.mail.faulty(BlocklistError(LIST)):
        mail = sent(lab, lab.client)

    assert mail.rejected(550, "5.7.1", saying=f"blocked using {LIST}")
    assert answers(lab) == [(lab.client.address, LIST, "127.255.255.254")]


def test_cure_postscreen_counts_only_real_answers(lab: Lab) -> None:
    """The same filter in postscreen_dnsbl_sites; dnsblog(8) still logs the error."""
    use_postscreen(lab, postscreen_dnsbl_sites=LIST)
    lab.mail.cure.configure(postscreen_dnsbl_sites=f"{LIST}={REAL_ANSWERS}")

    with lab.mail.faulty(BlocklistError(LIST)):
        mail = sent(lab, lab.client)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert answers(lab) == [(lab.client.address, LIST, "127.255.255.254")]


def test_symptom_postscreen_waits_for_a_dead_list(lab: Lab) -> None:
    """It goes on without the answer after postscreen_dnsbl_timeout."""
    use_postscreen(lab, postscreen_dnsbl_sites=LIST, postscreen_dnsbl_timeout="3s")

    with lab.mail.faulty(DnsDrop(f".{LIST}")):
        mail = sent(lab, lab.client)
        late = f"dnsblog reply timeout 3s for {LIST}"
        warned = [e for e in lab.events(Complaint, lab.mail) if e.text == late]

    assert warned
    assert mail.delivered_to(lab.mail, mailbox="alice")


def test_symptom_tests_after_the_greeting_put_every_new_client_off(lab: Lab) -> None:
    """postscreen(8) has no queue: a client that passes such a test has to come again."""
    use_postscreen(lab)
    lab.mail.misconfigure(postscreen_pipelining_enable="yes")

    first = sent(lab, lab.client)
    second = sent(lab, lab.client)

    assert first.rejected(450, "4.3.2", saying="Service currently unavailable")
    assert second.delivered_to(lab.mail, mailbox="alice")


def test_cure_a_list_of_clients_that_need_no_test(lab: Lab) -> None:
    """A client in postscreen_access_list gets in at once."""
    use_postscreen(lab, postscreen_pipelining_enable="yes")
    known = f"inline:{{{lab.client.address}=permit}}"
    lab.mail.cure.configure(postscreen_access_list=f"permit_mynetworks, {known}")

    mail = sent(lab, lab.client)

    assert mail.delivered_to(lab.mail, mailbox="alice")
