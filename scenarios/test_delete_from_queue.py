"""How to delete mail from the queue.

The FAQ's answer was find and rm. Queue files live in hashed folders now, and rm
leaves behind what belongs to them. Since 1.1 there is postsuper(1): -d deletes
and -r requeues, since 2.0 -h puts on hold and -H releases, since 3.5 -e expires
and -f does so for what is on hold, too. All of it is for the superuser, and safe
while Postfix runs. What to delete is chosen from "postqueue -j" (since 3.1).
With enable_long_queue_ids (2.9) queue ids have upper and lower case.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Admin, Delivery, Expired, PickedUp
from maillab.postfix import QueueEntry
from maillab.record import Mail

pytestmark = pytest.mark.topology("standalone")

SPOOL = "/var/spool/postfix"
FAQ_RECIPE = f"cd {SPOOL} && find incoming active deferred -name $0 -print | sed 1q | xargs rm"
# As an administrator would choose by sender today.
BY_SENDER = """
postqueue -j | python3 -c '
import json, sys
for line in sys.stdin:
    entry = json.loads(line)
    if entry["sender"] == "alice@mail.example.com":
        print(entry["queue_id"])
' | postsuper -d -
"""


def send_to_a_dead_host(lab: Lab, *users: str) -> list[Mail]:
    """Have each user send a message that stays in the mail server's queue."""
    lab.remote.stop()
    mails = [lab.mail.send(to="joe@example.net", user=user) for user in users]
    lab.settle(*mails)
    return mails


def entry_of(lab: Lab, mail: Mail) -> QueueEntry:
    """The entry in the queue that a message has, or had before."""
    queue_id = mail.journey.legs[-1].queue_id
    found = [entry for entry in lab.mail.queue() if entry.queue_id == queue_id]
    return found[0] if found else QueueEntry("", queue_id, "", 0, (), ())


def files(lab: Lab, queue_id: str) -> list[str]:
    """Everything that has a queue id's name, by its path in the queue directory."""
    found = lab.mail.run("find", SPOOL, "-name", queue_id, "-printf", "%P\n").stdout
    return sorted(found.splitlines())


def mailq(lab: Lab) -> list[str]:
    """The queue ids as mailq shows them, with what it marks them with."""
    lines = lab.mail.run("mailq").stdout.splitlines()
    return sorted(line.split()[0] for line in lines if "@" in line and not line.startswith(" "))


def pick_up_now(lab: Lab) -> None:
    """Have what was requeued read again, and settle."""
    lab.mail.pick_up()
    lab.settle()


@pytest.mark.faq("delete-from-queue", "49-S1")
def test_symptom_rm_leaves_the_deferral_log_behind(lab: Lab) -> None:
    """The message is gone from mailq, its file in defer/ stays for good.

    Neither the consistency check nor a restart takes it for rubbish.
    """
    lab.expects(lost=1, because="the administrator removed its queue file with rm")
    doomed, kept = send_to_a_dead_host(lab, "alice", "bob")
    queue_id = entry_of(lab, doomed).queue_id
    hashed = f"{queue_id[0]}/{queue_id}"
    before = files(lab, queue_id)

    lab.mail.mistake.run("sh", "-c", FAQ_RECIPE, queue_id)
    lab.mail.run("postsuper", "-s")
    lab.mail.restart()
    lab.settle(kept)

    assert before == [f"defer/{hashed}", f"deferred/{hashed}"]
    assert mailq(lab) == [entry_of(lab, kept).queue_id]
    assert files(lab, queue_id) == [f"defer/{hashed}"]


@pytest.mark.faq("delete-from-queue", "49-S1")
def test_symptom_rm_on_a_running_system_is_noticed_by_nobody(lab: Lab) -> None:
    """No line of the log says that the message was taken away; it is simply lost."""
    lab.expects(lost=1, because="the administrator removed its queue file with rm")
    (doomed,) = send_to_a_dead_host(lab, "alice")
    queue_id = entry_of(lab, doomed).queue_id

    lab.mail.mistake.run("sh", "-c", FAQ_RECIPE, queue_id)
    lab.remote.start()
    lab.mail.run("postqueue", "-f")
    lab.settle(until=lambda: not lab.mail.queued())

    assert isinstance(doomed.journey.legs[0].events[-1], Delivery)
    assert doomed.deferred(dsn="4.4.1")
    assert not lab.mail.queue()
    assert not doomed.reached(lab.remote)
    assert not lab.mail.mailbox("alice")


@pytest.mark.faq("delete-from-queue", "49-S2")
def test_cure_postsuper_deletes_all_of_it_while_postfix_runs(lab: Lab) -> None:
    """Both files are gone, the log says so, and the sender hears nothing."""
    doomed, kept = send_to_a_dead_host(lab, "alice", "bob")
    queue_id = entry_of(lab, doomed).queue_id

    done = lab.mail.cure.run("postsuper", "-d", queue_id)
    lab.settle(kept)

    assert done.stderr.splitlines() == [
        f"postsuper: {queue_id}: removed",
        "postsuper: Deleted: 1 message",
    ]
    assert mailq(lab) == [entry_of(lab, kept).queue_id]
    assert files(lab, queue_id) == []
    (removed,) = lab.events(Admin, lab.mail)
    assert (removed.queue_id, removed.action) == (queue_id, "removed")
    assert not lab.mail.mailbox("alice")


@pytest.mark.faq("delete-from-queue", "49-S2")
@pytest.mark.parametrize(
    ("queue_id", "said"),
    [
        ("1234567", ["postsuper: Deleted: 0 messages"]),
        (
            "deferred/x",
            [
                "postsuper: warning: invalid mail queue id: deferred/x",
                "postsuper: Deleted: 0 messages",
            ],
        ),
    ],
    ids=["unknown", "malformed"],
)
def test_behaviour_an_id_that_is_none_is_no_failure(
    lab: Lab, queue_id: str, said: list[str]
) -> None:
    """The exit status is 0 even when nothing was deleted: read what it says."""
    (mail,) = send_to_a_dead_host(lab, "alice")

    done = lab.mail.run("postsuper", "-d", queue_id)

    assert (done.status, done.stderr.splitlines()) == (0, said)
    assert mail.held_by(lab.mail)


@pytest.mark.faq("delete-from-queue", "49-S2")
@pytest.mark.parametrize("option", ["-d", "-h", "-H", "-r", "-e", "-f"])
def test_behaviour_only_the_superuser_may(lab: Lab, option: str) -> None:
    """Not even the user who sent the message."""
    (mail,) = send_to_a_dead_host(lab, "alice")
    queue_id = entry_of(lab, mail).queue_id

    done = lab.mail.run("postsuper", option, queue_id, user="alice", check=False)

    refusal = "postsuper: fatal: use of this command is reserved for the superuser"
    assert (done.status, done.stderr.strip()) == (1, refusal)
    assert mailq(lab) == [queue_id]


@pytest.mark.faq("delete-from-queue", "49-S3")
def test_cure_one_senders_mail_is_chosen_and_deleted(lab: Lab) -> None:
    """From "postqueue -j" into "postsuper -d -"; everybody else's mail stays."""
    mails = send_to_a_dead_host(lab, "alice", "bob", "alice", "alice")

    done = lab.mail.cure.run("sh", "-c", BY_SENDER)
    lab.settle(mails[1])

    assert mailq(lab) == [entry_of(lab, mails[1]).queue_id]
    assert done.stderr.splitlines()[-1] == "postsuper: Deleted: 3 messages"
    deleted = [event.queue_id for event in lab.events(Admin, lab.mail)]
    assert sorted(deleted) == sorted(entry_of(lab, mails[n]).queue_id for n in (0, 2, 3))


@pytest.mark.faq("delete-from-queue", "49-S3")
def test_cure_all_of_a_queue_is_deleted_at_once(lab: Lab) -> None:
    """Of ALL the log has only the number; what is on hold is in another queue."""
    held, *_ = send_to_a_dead_host(lab, "bob", "alice", "alice", "alice")
    lab.mail.run("postsuper", "-h", entry_of(lab, held).queue_id)

    done = lab.mail.cure.run("postsuper", "-d", "ALL", "deferred")
    lab.mark()

    assert mailq(lab) == [f"{entry_of(lab, held).queue_id}!"]
    assert done.stderr.splitlines() == ["postsuper: Deleted: 3 messages"]
    assert [event.action for event in lab.events(Admin, lab.mail)] == ["placed on hold"]


@pytest.mark.faq("delete-from-queue", "49-S3")
@pytest.mark.parametrize(("queues", "left"), [((), []), (("deferred",), ["defer"])])
def test_behaviour_deleting_all_of_one_queue_leaves_the_deferral_logs(
    lab: Lab, queues: tuple[str, ...], left: list[str]
) -> None:
    """Where a queue is named nothing else is touched, as with rm."""
    (doomed,) = send_to_a_dead_host(lab, "alice")
    queue_id = entry_of(lab, doomed).queue_id

    lab.mail.run("postsuper", "-d", "ALL", *queues)
    lab.settle(doomed)

    assert not lab.mail.queue()
    assert [path.partition("/")[0] for path in files(lab, queue_id)] == left


@pytest.mark.faq("delete-from-queue", "49-S4")
def test_cure_mail_is_put_on_hold_instead(lab: Lab) -> None:
    """A flush leaves it alone, and it goes on once it is released."""
    held, other = send_to_a_dead_host(lab, "alice", "bob")
    queue_id = entry_of(lab, held).queue_id

    lab.mail.cure.run("postsuper", "-h", queue_id)
    marked = mailq(lab)
    lab.remote.start()
    lab.mail.flush()
    lab.settle(held, other)
    untouched = bool(held.delivered_to(lab.remote))
    lab.mail.cure.run("postsuper", "-H", queue_id)
    released = mailq(lab)
    lab.mail.flush()
    lab.settle(held, other)

    assert f"{queue_id}!" in marked
    assert other.delivered_to(lab.remote, mailbox="joe")
    assert not untouched
    assert released == [queue_id]
    assert held.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("delete-from-queue", "49-S4")
def test_cure_mail_is_returned_before_its_time(lab: Lab) -> None:
    """Unlike a deletion, -e tells the sender: with the next attempt it is returned."""
    (mail,) = send_to_a_dead_host(lab, "alice")
    queue_id = entry_of(lab, mail).queue_id

    done = lab.mail.cure.run("postsuper", "-e", queue_id)
    marked = mailq(lab)
    waiting = lab.mail.mailbox("alice")
    lab.mail.flush()
    lab.settle(mail)

    assert done.stderr.splitlines() == [
        f"postsuper: {queue_id}: expired",
        "postsuper: Force-expired: 1 message",
    ]
    assert marked == [f"{queue_id}#"]
    assert not waiting
    (expired,) = lab.events(Expired, lab.mail)
    assert (expired.status, expired.queue_id) == ("force-expired", queue_id)
    assert mail.bounced(dsn="4.4.1", saying="Connection refused")
    (notice,) = lab.mail.mailbox("alice")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"


@pytest.mark.faq("delete-from-queue", "49-S4")
@pytest.mark.parametrize(
    ("option", "marked", "told"),
    [("-e", "!#", []), ("-f", "#", ["Undelivered Mail Returned to Sender"])],
)
def test_behaviour_what_is_on_hold_expires_only_by_force(
    lab: Lab, option: str, marked: str, told: list[str]
) -> None:
    """-e marks it, but it stays on hold; -f releases it, too."""
    (mail,) = send_to_a_dead_host(lab, "alice")
    queue_id = entry_of(lab, mail).queue_id
    lab.mail.run("postsuper", "-h", queue_id)

    lab.mail.run("postsuper", option, queue_id)
    shown = mailq(lab)
    lab.mail.flush()
    lab.settle(mail)

    assert shown == [f"{queue_id}{marked}"]
    assert [notice["Subject"] for notice in lab.mail.mailbox("alice")] == told


@pytest.mark.faq("delete-from-queue", "49-S4")
def test_cure_mail_is_requeued_under_a_new_id(lab: Lab) -> None:
    """-r: pickup(8) reads it like new mail, after a minute at most; it says what it was."""
    (mail,) = send_to_a_dead_host(lab, "alice")
    old = entry_of(lab, mail).queue_id

    done = lab.mail.cure.run("postsuper", "-r", old)
    pick_up_now(lab)

    new = entry_of(lab, mail).queue_id
    assert new != old
    assert done.stderr.splitlines() == [
        f"postsuper: {old}: requeued",
        "postsuper: Requeued: 1 message",
    ]
    assert mailq(lab) == [new]
    *_, again = lab.events(PickedUp, lab.mail)
    assert (again.queue_id, again.orig_id) == (new, old)
    assert again.sender == "alice@mail.example.com"
    assert mail.held_by(lab.mail)


@pytest.mark.faq("delete-from-queue", "49-S4")
def test_behaviour_a_requeued_message_is_not_delivered_twice(lab: Lab) -> None:
    """Recipients that have it are marked as done in the queue file."""
    lab.remote.stop()
    mail = lab.mail.send(to=["carol@example.com", "joe@example.net"], user="alice")
    lab.settle(mail)

    lab.mail.run("postsuper", "-r", "ALL")
    pick_up_now(lab)
    lab.remote.start()
    lab.mail.flush()
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="carol")
    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert len(lab.mail.mailbox("carol")) == 1


@pytest.mark.faq("delete-from-queue", "49-S4")
def test_symptom_requeuing_does_not_undo_an_alias(lab: Lab) -> None:
    """Rewriting starts from the expanded address: a corrected alias comes too late."""
    lab.mail.configure(virtual_alias_domains="example.org")
    lab.mail.configure(
        virtual_alias_maps=lab.mail.table("virtual", {"v@example.org": "joe@example.com"})
    )
    lab.mail.mistake.table("virtual", {"v@example.org": "joe@example.net"})
    lab.remote.stop()
    mail = lab.mail.send(to="v@example.org", user="alice")
    lab.settle(mail)

    lab.mail.table("virtual", {"v@example.org": "joe@example.com"})
    lab.mail.restart()
    lab.mail.run("postsuper", "-r", "ALL")
    pick_up_now(lab)

    assert [entry.recipients for entry in lab.mail.queue()] == [("joe@example.net",)]
    assert not lab.mail.mailbox("joe")


@pytest.mark.faq("delete-from-queue", "49-S4")
def test_behaviour_requeuing_applies_an_alias_of_the_expanded_address(lab: Lab) -> None:
    """What the message is addressed to now is looked up anew."""
    lab.mail.configure(virtual_alias_maps=lab.mail.table("virtual", {}))
    (mail,) = send_to_a_dead_host(lab, "alice")

    lab.mail.table("virtual", {"joe@example.net": "joe@example.com"})
    lab.mail.restart()
    lab.mail.run("postsuper", "-r", "ALL")
    pick_up_now(lab)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    assert not lab.mail.queue()


@pytest.mark.faq("delete-from-queue", "49-S2", "49-S3")
def test_behaviour_long_queue_ids_have_upper_and_lower_case(lab: Lab) -> None:
    """Hashed by their microseconds, not their first letters; both kinds are deleted alike."""
    (short,) = send_to_a_dead_host(lab, "alice")
    lab.mail.configure(enable_long_queue_ids="yes")
    (long,) = send_to_a_dead_host(lab, "alice")
    old, new = entry_of(lab, short).queue_id, entry_of(lab, long).queue_id

    where = files(lab, new)
    done = lab.mail.run("postsuper", "-d", "-", stdin=f"{old}\n{new.swapcase()}\n{new}\n")

    assert new[10] == "z"
    (folder,) = {path.split("/")[1] for path in where}
    # Six digits of seconds, four of microseconds, a "z", the inode; hashed by the
    # microseconds as a short queue id has them.
    digits = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
    assert set(new) <= set(digits)
    microseconds = 0
    for digit in new[6:10]:
        microseconds = microseconds * len(digits) + digits.index(digit)
    assert folder == f"{microseconds:05X}"[0]
    assert where == [f"defer/{folder}/{new}", f"deferred/{folder}/{new}"]
    assert f"postsuper: {new}: removed" in done.stderr
    assert done.stderr.splitlines()[-1] == "postsuper: Deleted: 2 messages"
    assert not lab.mail.queue()
