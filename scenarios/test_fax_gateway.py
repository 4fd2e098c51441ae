"""Setting up a fax gateway.

Mail for NUMBER@fax.example.com goes by a transport of its own to pipe(8), which
runs the fax program: as a user of its own, without a shell, one job at a time and
one number a job. Today's Postfix has nothing to add, but that ${user} leaves out
what follows a recipient_delimiter, where ${mailbox} is the whole number. Debian's
faxmail (HylaFAX 6) makes a job for a server with a modem, which the lab does not
have: a program that keeps a log stands in for it.
"""

from collections import Counter

import pytest

from maillab.lab import Lab
from maillab.maillog import Delivery

pytestmark = pytest.mark.topology("standalone")

FAXMAIL = "/usr/local/bin/faxmail"
JOURNAL = "/tmp/fax.log"  # noqa: S108  # on a host of the lab
PWNED = "/tmp/pwned"  # noqa: S108  # on a host of the lab
# Each call says when it begins and ends, and hands over to whoever waits in between.
_STAND_IN = f"""#!/bin/sh
cat >/dev/null
{{ echo "begin $*"; for word; do echo "argument $word"; done; }} >>{JOURNAL}
sleep 0.3
echo "end $*" >>{JOURNAL}
exit ${{STATUS:-0}}
"""
ONE_AT_A_TIME = (
    "fax unix - n n - 1 pipe flags= user=faxer argv=/usr/local/bin/faxmail -d -n ${user}"
)
MANY = ONE_AT_A_TIME.replace(" 1 pipe", " - pipe")
NUMBERS = ("5551234", "5559999")


def gateway(lab: Lab, script: str = _STAND_IN) -> None:
    """The fax program, its user, the transport, and a client who may use it."""
    lab.mail.user("faxer")
    lab.mail.write(FAXMAIL, script, mode=0o755)
    lab.mail.write(JOURNAL, "", mode=0o666)
    lab.mail.service(ONE_AT_A_TIME)
    lab.mail.configure(
        transport_maps=lab.mail.table("transport", {"fax.example.com": "fax:localhost"}),
        fax_destination_recipient_limit="1",
        mynetworks=f"127.0.0.0/8, {lab.client.address}",
    )


def calls(lab: Lab) -> list[str]:
    """What the fax program was called with, and when it ended."""
    lines = (lab.mail.read(JOURNAL) or "").splitlines()
    return [line for line in lines if not line.startswith("argument ")]


def in_turn(lab: Lab) -> bool:
    """Whether no call of the fax program began before another had ended."""
    words = [line.split()[0] for line in calls(lab)]
    return words == ["begin", "end"] * (len(words) // 2)


def fax(*numbers: str) -> list[str]:
    """Addresses of the gateway."""
    return [f"{number}@fax.example.com" for number in numbers]


@pytest.mark.faq("fax-gateway", "48-S1")
def test_cure_each_number_is_a_job_of_its_own(lab: Lab) -> None:
    """With both limits the program runs once a number, and strictly in turn."""
    gateway(lab)
    lab.mail.service(MANY)
    lab.mail.configure(fax_destination_recipient_limit="50")
    lab.mail.cure.configure(fax_destination_recipient_limit="1")
    lab.mail.cure.service(ONE_AT_A_TIME)

    mail = lab.client.submit(fax(*NUMBERS), server=lab.mail)
    lab.settle(mail)

    assert sorted(line for line in calls(lab) if line.startswith("begin")) == [
        f"begin -d -n {number}" for number in NUMBERS
    ]
    assert in_turn(lab)
    lines = lab.events(Delivery, lab.mail)
    assert Counter((line.service, line.relay, line.reply) for line in lines) == {
        ("pipe", "fax", "delivered via fax service"): 2
    }


@pytest.mark.faq("fax-gateway", "48-S2")
def test_symptom_without_the_recipient_limit_one_job_has_all_numbers(lab: Lab) -> None:
    """The program is called once with every number of a message."""
    gateway(lab)
    lab.mail.misconfigure(fax_destination_recipient_limit="50")

    mail = lab.client.submit(fax(*NUMBERS), server=lab.mail)
    lab.settle(mail)

    numbers = " ".join(NUMBERS)
    assert calls(lab) == [f"begin -d -n {numbers}", f"end -d -n {numbers}"]


@pytest.mark.faq("fax-gateway", "48-S2")
def test_symptom_without_the_process_limit_jobs_run_side_by_side(lab: Lab) -> None:
    """Two calls at once want the one modem; each of these waits until there is another."""
    # Ends in vain after some seconds where no other comes.
    gateway(
        lab,
        f"#!/bin/sh\ncat >/dev/null\necho begin >>{JOURNAL}\n"
        f"timeout 4 sh -c 'until [ $(grep -c begin {JOURNAL}) = 2 ]; do sleep 0.05; done'\n"
        f"echo end >>{JOURNAL}\n",
    )
    lab.mail.mistake.service(MANY)

    mails = [lab.client.submit(fax(number), server=lab.mail) for number in NUMBERS]
    lab.settle(*mails)

    assert calls(lab) == ["begin", "begin", "end", "end"]


@pytest.mark.faq("fax-gateway", "48-S3")
@pytest.mark.parametrize(
    ("setting", "value"), [("mynetworks", "0.0.0.0/0"), ("relay_domains", "fax.example.com")]
)
def test_symptom_an_outsider_faxes_at_our_expense(lab: Lab, setting: str, value: str) -> None:
    """Who trusts everybody, or lists the domain as one to relay to, pays for everybody.

    That the domain is not in DNS protects nothing.
    """
    gateway(lab)
    lab.mail.configure(mynetworks="127.0.0.0/8")
    lab.mail.misconfigure(**{setting: value})

    mail = lab.client.submit(fax("5551234"), server=lab.mail)
    lab.settle(mail)

    assert calls(lab)[:1] == ["begin -d -n 5551234"]


@pytest.mark.faq("fax-gateway", "48-S3")
def test_cure_outsiders_may_not_fax(lab: Lab) -> None:
    """The domain is no destination of ours: to strangers it is relaying."""
    gateway(lab)
    lab.mail.configure(mynetworks="127.0.0.0/8", relay_domains="fax.example.com")
    lab.mail.cure.configure(relay_domains="")

    mail = lab.client.submit(fax("5551234"), server=lab.mail)
    own = lab.mail.send(to=fax("5559999"))
    lab.settle(mail, own)

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")
    assert calls(lab) == ["begin -d -n 5559999", "end -d -n 5559999"]


@pytest.mark.faq("fax-gateway", "48-S3")
@pytest.mark.parametrize("address", ["+31(0)20-123@fax.example.com", "-d@fax.example.com"])
def test_behaviour_what_is_no_number_is_no_address(lab: Lab, address: str) -> None:
    """A comment in parentheses, and what a program would take for an option, are refused."""
    gateway(lab)

    mail = lab.client.submit(address, server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(501, "5.1.3", saying="Bad recipient address syntax")
    assert calls(lab) == []


@pytest.mark.faq("fax-gateway", "48-S3")
def test_behaviour_no_shell_reads_the_number(lab: Lab) -> None:
    """Whatever the address is, it reaches the program as one argument."""
    gateway(lab)

    mail = lab.client.submit(f'"; touch {PWNED}"@fax.example.com', server=lab.mail)
    lab.settle(mail)

    lines = (lab.mail.read(JOURNAL) or "").splitlines()
    assert f"argument ; touch {PWNED}" in lines
    assert lab.mail.read(PWNED) is None


@pytest.mark.faq("fax-gateway", "48-S3")
@pytest.mark.parametrize(("macro", "number"), [("${user}", "555"), ("${mailbox}", "555+1234")])
def test_behaviour_the_delimiter_cuts_the_number(lab: Lab, macro: str, number: str) -> None:
    """With a recipient_delimiter only ${mailbox} is what was dialled."""
    gateway(lab)
    lab.mail.configure(recipient_delimiter="+")
    lab.mail.service(ONE_AT_A_TIME.replace("${user}", macro))

    mail = lab.client.submit(fax("555+1234"), server=lab.mail)
    lab.settle(mail)

    assert calls(lab) == [f"begin -d -n {number}", f"end -d -n {number}"]


BUSY = f"""#!/bin/sh
cat >/dev/null
echo "begin $*" >>{JOURNAL}
case "$*" in *5559999*) exit STATUS;; esac
"""


@pytest.mark.faq("fax-gateway", "48-S4")
@pytest.mark.parametrize(
    ("status", "failed"),
    [
        (75, ("deferred", "4.3.0", "temporary failure")),
        (69, ("bounced", "5.3.0", "service unavailable")),
    ],
    ids=["tempfail", "unavailable"],
)
@pytest.mark.parametrize("limit", ["1", "50"])
def test_behaviour_the_exit_status_is_for_one_number_or_for_all(
    lab: Lab, status: int, failed: tuple[str, str, str], limit: str
) -> None:
    """With one number a call a busy line concerns nobody else."""
    gateway(lab, BUSY.replace("STATUS", str(status)))
    lab.mail.configure(fax_destination_recipient_limit=limit)

    mail = lab.client.submit(fax(*NUMBERS), server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    ends = {d.to: (d.status, d.dsn, d.reply) for d in mail.journey.deliveries}
    fine = ("sent", "2.0.0", "delivered via fax service")
    assert ends == dict(
        zip(fax(*NUMBERS), (failed if limit == "50" else fine, failed), strict=True)
    )
