"""Setting up a fax gateway.

Give mail for NUMBER@fax.example.com a transport of its own. Its pipe(8) service runs the
fax program as a separate user, without a shell; one job at a time (maxproc 1) and one
number per job (fax_destination_recipient_limit = 1). Restrict who may send there: hiding
the domain from DNS does not stop outsiders.

Debian's faxmail (HylaFAX 6) queues a job for a server with a modem, which the lab does not
have; a program that keeps a log replaces it.

Since the FAQ:
- ${user} omits the part after a recipient_delimiter; ${mailbox} is the whole number.
"""

from collections import Counter

import pytest

from maillab import Delivery, Lab

pytestmark = pytest.mark.topology("standalone")

FAXMAIL = "/usr/local/bin/faxmail"
JOURNAL = "/tmp/fax.log"  # noqa: S108  # on a host of the lab
PWNED = "/tmp/pwned"  # noqa: S108  # on a host of the lab
# Each call logs its start and end, and sleeps in between so that others could start.
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
FAXED = "the fax program sends the message by telephone"


def gateway(lab: Lab, script: str = _STAND_IN) -> None:
    """Set up the fax program, its user, its transport, and a client that may relay."""
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
    """Return the log's begin and end lines, each with the call's arguments."""
    lines = (lab.mail.read(JOURNAL) or "").splitlines()
    return [line for line in lines if not line.startswith("argument ")]


def in_turn(lab: Lab) -> bool:
    """Return True if each call of the fax program ended before the next one began."""
    words = [line.split()[0] for line in calls(lab)]
    return words == ["begin", "end"] * (len(words) // 2)


def fax(*numbers: str) -> list[str]:
    """Return the gateway's address for each number."""
    return [f"{number}@fax.example.com" for number in numbers]


@pytest.mark.faq("fax-gateway", "48-S1")
def test_cure_each_number_is_a_job_of_its_own(lab: Lab) -> None:
    """With both limits the program runs once per number, one run at a time."""
    gateway(lab)
    lab.expects(consumed=2, because=FAXED)
    lab.mail.service(MANY)
    lab.mail.configure(fax_destination_recipient_limit="50")
    lab.mail.cure.configure(fax_destination_recipient_limit="1")
    lab.mail.cure.service(ONE_AT_A_TIME)

    mail = lab.client.smtp(fax(*NUMBERS), server=lab.mail)
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
    """Postfix calls the program once with every number of a message."""
    gateway(lab)
    lab.expects(consumed=2, because=FAXED)
    lab.mail.misconfigure(fax_destination_recipient_limit="50")

    mail = lab.client.smtp(fax(*NUMBERS), server=lab.mail)
    lab.settle(mail)

    numbers = " ".join(NUMBERS)
    assert calls(lab) == [f"begin -d -n {numbers}", f"end -d -n {numbers}"]


@pytest.mark.faq("fax-gateway", "48-S2")
def test_symptom_without_the_process_limit_jobs_run_side_by_side(lab: Lab) -> None:
    """Two calls run at once for one modem: each call here waits for the other."""
    # Each call gives up after some seconds if there is no other.
    gateway(
        lab,
        f"#!/bin/sh\ncat >/dev/null\necho begin >>{JOURNAL}\n"
        f"timeout 4 sh -c 'until [ $(grep -c begin {JOURNAL}) = 2 ]; do sleep 0.05; done'\n"
        f"echo end >>{JOURNAL}\n",
    )
    lab.expects(consumed=2, because=FAXED)
    lab.mail.mistake.service(MANY)

    mails = [lab.client.smtp(fax(number), server=lab.mail) for number in NUMBERS]
    lab.settle(*mails)

    assert calls(lab) == ["begin", "begin", "end", "end"]


@pytest.mark.faq("fax-gateway", "48-S3")
@pytest.mark.parametrize(
    ("setting", "value"), [("mynetworks", "0.0.0.0/0"), ("relay_domains", "fax.example.com")]
)
def test_symptom_an_outsider_faxes_at_our_expense(lab: Lab, setting: str, value: str) -> None:
    """Trusting every client, or listing the domain in relay_domains, lets outsiders fax.

    The domain's absence from DNS protects nothing.
    """
    gateway(lab)
    lab.expects(consumed=1, because=FAXED)
    lab.mail.configure(mynetworks="127.0.0.0/8")
    lab.mail.misconfigure(**{setting: value})

    mail = lab.client.smtp(fax("5551234"), server=lab.mail)
    lab.settle(mail)

    assert calls(lab) == ["begin -d -n 5551234", "end -d -n 5551234"]


@pytest.mark.faq("fax-gateway", "48-S3")
def test_cure_outsiders_may_not_fax(lab: Lab) -> None:
    """The fax domain is not a destination of ours, so strangers may not relay to it."""
    gateway(lab)
    lab.expects(consumed=1, because=FAXED)
    lab.mail.configure(mynetworks="127.0.0.0/8", relay_domains="fax.example.com")
    lab.mail.cure.configure(relay_domains="")

    mail = lab.client.smtp(fax("5551234"), server=lab.mail)
    own = lab.mail.send(to=fax("5559999"))
    lab.settle(mail, own)

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")
    assert calls(lab) == ["begin -d -n 5559999", "end -d -n 5559999"]


@pytest.mark.faq("fax-gateway", "48-S3")
@pytest.mark.parametrize("address", ["+31(0)20-123@fax.example.com", "-d@fax.example.com"])
def test_behaviour_what_is_no_number_is_no_address(lab: Lab, address: str) -> None:
    """Postfix refuses a comment in parentheses, and a recipient that looks like an option."""
    gateway(lab)

    mail = lab.client.smtp(address, server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(501, "5.1.3", saying="Bad recipient address syntax")
    assert calls(lab) == []


@pytest.mark.faq("fax-gateway", "48-S3")
def test_behaviour_no_shell_reads_the_number(lab: Lab) -> None:
    """The program gets any local part as one argument."""
    gateway(lab)
    lab.expects(consumed=1, because=FAXED)

    mail = lab.client.smtp(f'"; touch {PWNED}"@fax.example.com', server=lab.mail)
    lab.settle(mail)

    lines = (lab.mail.read(JOURNAL) or "").splitlines()
    assert lines == [
        f"begin -d -n ; touch {PWNED}",
        "argument -d",
        "argument -n",
        f"argument ; touch {PWNED}",
        f"end -d -n ; touch {PWNED}",
    ]
    assert lab.mail.read(PWNED) is None


@pytest.mark.faq("fax-gateway", "48-S3")
def test_behaviour_the_delimiter_cuts_the_number(lab: Lab) -> None:
    """With a recipient_delimiter only ${mailbox} is the number dialled."""
    gateway(lab)
    lab.expects(consumed=2, because=FAXED)
    lab.mail.misconfigure(recipient_delimiter="+")
    mails = []
    for macro in ("${user}", "${mailbox}"):
        lab.mail.service(ONE_AT_A_TIME.replace("${user}", macro))
        mails.append(lab.client.smtp(fax("555+1234"), server=lab.mail))
        lab.settle(*mails)

    assert calls(lab) == [
        "begin -d -n 555",
        "end -d -n 555",
        "begin -d -n 555+1234",
        "end -d -n 555+1234",
    ]


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
    """With one number per call a busy line affects no other number."""
    gateway(lab, BUSY.replace("STATUS", str(status)))
    if limit != "1":
        lab.mail.misconfigure(fax_destination_recipient_limit=limit)
    lab.expects(consumed=1 if limit == "1" else 0, because=FAXED)

    mail = lab.client.smtp(fax(*NUMBERS), server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    ends = {d.to: (d.status, d.dsn, d.reply) for d in mail.journey.deliveries}
    fine = ("sent", "2.0.0", "delivered via fax service")
    assert ends == dict(
        zip(fax(*NUMBERS), (failed if limit == "50" else fine, failed), strict=True)
    )
