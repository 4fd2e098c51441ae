"""unable to find out your login name.

Give the user id an account, or name the sender with "sendmail -f". sendmail(1) makes the
sender address from the login name, and a user id without an entry in the password file has
none; containers run programs that way. Today the error says "no login name found for user
ID".

Since the FAQ:
- 3.6: local_login_sender_maps can list the senders that an id may use, with or without an
  account.
"""

import pytest

from maillab import Lab, PickedUp, UnknownName

pytestmark = pytest.mark.topology("standalone")

APP = "4242:4242"
PROGRAM = "/usr/local/bin/report"
NO_NAME = "sendmail: fatal: no login name found for user ID 4242"


@pytest.mark.faq("unknown-login-name", "29-S1")
def test_symptom_a_user_id_without_an_account_cannot_send(lab: Lab) -> None:
    """The command exits with EX_TEMPFAIL and queues nothing."""
    lab.mail.run("useradd", "--uid", "4242", "app")
    lab.mail.mistake.run("userdel", "app")

    mail = lab.mail.send(to="bob@example.com", user=APP)
    lab.settle(mail)

    assert mail.rejected(75, saying=NO_NAME)
    assert not mail.reached(lab.mail)


@pytest.mark.faq("unknown-login-name", "29-S1")
@pytest.mark.parametrize(
    ("environment", "options"),
    [(["LOGNAME=bob", "USER=bob"], []), ([], ["-F", "Some Application"])],
    ids=["environment", "full-name"],
)
def test_symptom_neither_environment_nor_full_name_help(
    lab: Lab, environment: list[str], options: list[str]
) -> None:
    """Only the password file counts."""
    lab.mail.run("useradd", "--uid", "4242", "app")
    lab.mail.mistake.run("userdel", "app")

    done = lab.mail.run(
        *("env", *environment, "sendmail", *options, "bob@example.com"),
        user=APP,
        stdin="\nhello\n",
        check=False,
    )

    assert (done.status, done.stderr) == (75, f"{NO_NAME}\n")


@pytest.mark.faq("unknown-login-name", "29-S2")
def test_cure_an_account_for_the_user_id(lab: Lab) -> None:
    """The sender is the account's name."""
    lab.mail.cure.run("useradd", "--uid", "4242", "app")

    mail = lab.mail.send(to="bob@example.com", sender=None, user=APP, headers={"From": ""})
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="bob")
    (copy,) = lab.mail.mailbox("bob")
    assert copy["Return-Path"] == "<app@mail.example.com>"
    assert copy["From"] == "app@mail.example.com"


@pytest.mark.faq("unknown-login-name", "29-S2")
def test_cure_the_program_names_the_sender(lab: Lab) -> None:
    """With sendmail -f no login name is needed; mailq never needs one."""
    lab.mail.write(PROGRAM, "#!/bin/sh\nexec sendmail bob@example.com\n", mode=0o755)
    lab.mail.cure.write(PROGRAM, "#!/bin/sh\nexec sendmail -f carol@example.net bob@example.com\n")

    done = lab.mail.run(PROGRAM, user=APP, stdin="Subject: report\n\nhello\n", check=False)
    queue = lab.mail.run("mailq", user=APP)
    lab.settle()

    assert (done.status, done.stderr) == (0, "")
    assert queue.status == 0
    (taken,) = lab.events(PickedUp, lab.mail)
    assert (taken.uid, taken.sender) == (4242, "carol@example.net")
    (copy,) = lab.mail.mailbox("bob")
    assert copy["Return-Path"] == "<carol@example.net>"
    assert copy["From"] == "carol@example.net"


@pytest.mark.faq("unknown-login-name", "29-S3")
def test_behaviour_a_user_id_may_name_its_own_sender_only(lab: Lab) -> None:
    """Since 3.6 local_login_sender_maps lists ids without an account as uid:4242."""
    senders = "inline:{ {root = *}, {alice = alice@example.com}, {uid:4242 = app@example.com} }"
    if not lab.has("local_login_sender_maps"):
        with pytest.raises(UnknownName, match="local_login_sender_maps"):
            lab.mail.configure(local_login_sender_maps=senders)
        return
    lab.mail.cure.configure(local_login_sender_maps=senders)

    own = lab.mail.send(to="bob", user=APP, sender="app@example.com")
    forged = lab.mail.send(to="bob", user=APP, sender="x@example.com")
    alices = lab.mail.send(to="bob", user="alice", sender="x@example.com")
    roots = lab.mail.send(to="bob", user="root", sender="x@example.com")
    lab.settle(own, forged, alices, roots)

    refusal = "not authorized to use sender='x@example.com'"
    assert own.delivered_to(lab.mail, mailbox="bob")
    assert forged.rejected(75, saying=f"sendmail: fatal: x@example.com(4242): {refusal}")
    assert alices.rejected(75, saying=refusal)
    assert roots.delivered_to(lab.mail, mailbox="bob")
