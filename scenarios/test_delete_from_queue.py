"""Deleting mail from the queue.

Use "postsuper -d QUEUE-ID", also while Postfix runs; "postsuper -d ALL deferred" deletes a
whole queue. Choose from "postqueue -j" which messages to delete. Do not remove queue files
with rm: their deferral logs stay behind.

postsuper(1) is for the superuser only. It also requeues (-r), puts on hold (-h), releases
(-H) and expires (-e, and -f for mail on hold).

Since the FAQ:
- 1.1: postsuper -d and -r.
- 2.0: postsuper -h and -H.
- 2.9: with enable_long_queue_ids queue ids have upper and lower case, and are not used again
  for new mail, which makes a list of ids safe on a running system.
- 3.1: postqueue -j.
- 3.5: postsuper -e and -f.
"""

import pytest

from maillab import Admin, Delivery, Expired, Lab, Mail, PickedUp, QueueEntry

pytestmark = pytest.mark.topology("standalone")

SPOOL = "/var/spool/postfix"
FAQ_RECIPE = f"cd {SPOOL} && find incoming active deferred -name $0 -print | sed 1q | xargs rm"
# How an administrator selects mail by sender today.
BY_SENDER = """
postqueue -j | python3 -c '
import json, sys
for line in sys.stdin:
    entry = json.loads(line)
    if entry["sender"] == "alice@mail.example.com":
        print(entry["queue_id"])
' | postsuper -d -
"""


# The FAQ's way for many, while Postfix is stopped: a file has the queue files' names.
NAMES = "/tmp/names"  # noqa: S108  # on a host of the lab
BULK = f"cd {SPOOL} && find incoming active deferred -type f -print | fgrep -xf {NAMES} | xargs rm"


def send_to_a_dead_host(lab: Lab, *users: str) -> list[Mail]:
    """Send a message from each user that stays in the mail server's queue."""
    lab.remote.stop()
    mails = [lab.mail.send(to="joe@example.net", user=user) for user in users]
    lab.settle(*mails)
    return mails


def entry_of(lab: Lab, mail: Mail) -> QueueEntry:
    """Return a message's queue entry, or an empty one with its last queue id."""
    queue_id = mail.journey.legs[-1].queue_id
    found = [entry for entry in lab.mail.queue() if entry.queue_id == queue_id]
    return found[0] if found else QueueEntry("", queue_id, "", 0, (), ())


def files(lab: Lab, queue_id: str) -> list[str]:
    """Return the paths, in the queue directory, of all files named after a queue id."""
    found = lab.mail.run("find", SPOOL, "-name", queue_id, "-printf", "%P\n").stdout
    return sorted(found.splitlines())


def mailq(lab: Lab) -> list[str]:
    """Return the queue ids that mailq shows, with their status marks."""
    lines = lab.mail.run("mailq").stdout.splitlines()
    return sorted(line.split()[0] for line in lines if "@" in line and not line.startswith(" "))


def pick_up_now(lab: Lab) -> None:
    """Make pickup(8) read requeued mail and wait until mail has settled."""
    lab.mail.pick_up()
    lab.settle()


@pytest.mark.faq("delete-from-queue", "49-S1")
def test_symptom_rm_leaves_the_deferral_log_behind(lab: Lab) -> None:
    """After rm the message is gone from mailq, but its file in defer/ stays.

    Neither the consistency check nor a restart removes the file.
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
    """The message is lost without any log line."""
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


def note_names(lab: Lab, *mails: Mail) -> list[str]:
    """List the messages' queue files in the file NAMES; return those in the deferred queue."""
    names = [name for mail in mails for name in files(lab, entry_of(lab, mail).queue_id)]
    lab.mail.write(NAMES, "".join(f"{name}\n" for name in names))
    return [name for name in names if name.startswith("deferred/")]


@pytest.mark.faq("delete-from-queue", "49-S3")
def test_cure_many_are_removed_while_postfix_is_stopped(lab: Lab) -> None:
    """The FAQ's recipe with find, fgrep and xargs removes the listed messages and no other."""
    *doomed, kept = send_to_a_dead_host(lab, "alice", "alice", "bob")
    lab.expects(lost=2, because="the recipe removes their queue files")
    note_names(lab, *doomed)

    lab.mail.stop()
    lab.mail.cure.run("sh", "-c", BULK)
    lab.mail.start()
    lab.settle(kept)

    assert mailq(lab) == [entry_of(lab, kept).queue_id]


@pytest.mark.faq("delete-from-queue", "49-S3")
def test_symptom_on_a_running_system_a_new_message_may_have_the_name(lab: Lab) -> None:
    """Mail that arrived after the list was made is removed if it has the name of older mail.

    A short queue id has only the microseconds and the inode number, so Postfix uses ids
    again by chance. The test cannot wait for the chance and renames the new file.
    """
    (old,) = send_to_a_dead_host(lab, "alice")
    (name,) = note_names(lab, old)
    lab.mail.run("postsuper", "-d", entry_of(lab, old).queue_id)
    (new,) = send_to_a_dead_host(lab, "bob")
    lab.mail.run(
        "sh", "-c", f"cd {SPOOL} && mv deferred/*/$0 $1", entry_of(lab, new).queue_id, name
    )
    lab.expects(lost=1, because="the recipe removes its queue file")

    lab.mail.mistake.run("sh", "-c", BULK)

    assert lab.mail.queue() == []
    assert not lab.mail.mailbox("bob")


@pytest.mark.faq("delete-from-queue", "49-S2")
def test_cure_postsuper_deletes_all_of_it_while_postfix_runs(lab: Lab) -> None:
    """The command removes both files and logs that; the sender gets no notice."""
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
    """The exit status is 0 even if nothing was deleted: read the output."""
    (mail,) = send_to_a_dead_host(lab, "alice")

    done = lab.mail.mistake.run("postsuper", "-d", queue_id)

    assert (done.status, done.stderr.splitlines()) == (0, said)
    assert mail.held_by(lab.mail)


@pytest.mark.faq("delete-from-queue", "49-S2")
@pytest.mark.parametrize("option", ["-d", "-h", "-H", "-r", "-e", "-f"])
def test_behaviour_only_the_superuser_may(lab: Lab, option: str) -> None:
    """Even the user who sent the message is refused."""
    (mail,) = send_to_a_dead_host(lab, "alice")
    queue_id = entry_of(lab, mail).queue_id

    done = lab.mail.mistake.run("postsuper", option, queue_id, user="alice", check=False)

    refusal = "postsuper: fatal: use of this command is reserved for the superuser"
    assert (done.status, done.stderr.strip()) == (1, refusal)
    assert mailq(lab) == [queue_id]


@pytest.mark.faq("delete-from-queue", "49-S3")
def test_cure_one_senders_mail_is_chosen_and_deleted(lab: Lab) -> None:
    """The output of "postqueue -j" feeds "postsuper -d -"; other senders' mail stays."""
    mails = send_to_a_dead_host(lab, "alice", "bob", "alice", "alice")

    done = lab.mail.cure.run("sh", "-c", BY_SENDER)
    lab.settle(mails[1])

    assert mailq(lab) == [entry_of(lab, mails[1]).queue_id]
    assert done.stderr.splitlines()[-1] == "postsuper: Deleted: 3 messages"
    deleted = [event.queue_id for event in lab.events(Admin, lab.mail)]
    assert sorted(deleted) == sorted(entry_of(lab, mails[n]).queue_id for n in (0, 2, 3))


@pytest.mark.faq("delete-from-queue", "49-S3")
def test_cure_all_of_a_queue_is_deleted_at_once(lab: Lab) -> None:
    """With ALL the log has no line per message; mail on hold is in another queue."""
    held, *_ = send_to_a_dead_host(lab, "bob", "alice", "alice", "alice")
    lab.mail.run("postsuper", "-h", entry_of(lab, held).queue_id)

    done = lab.mail.cure.run("postsuper", "-d", "ALL", "deferred")
    lab.catch_up()

    assert mailq(lab) == [f"{entry_of(lab, held).queue_id}!"]
    assert done.stderr.splitlines() == ["postsuper: Deleted: 3 messages"]
    assert [event.action for event in lab.events(Admin, lab.mail)] == ["placed on hold"]


@pytest.mark.faq("delete-from-queue", "49-S3")
@pytest.mark.parametrize(("queues", "left"), [((), []), (("deferred",), ["defer"])])
def test_behaviour_deleting_all_of_one_queue_leaves_the_deferral_logs(
    lab: Lab, queues: tuple[str, ...], left: list[str]
) -> None:
    """Naming a queue leaves the files of every other queue, as rm does."""
    (doomed,) = send_to_a_dead_host(lab, "alice")
    queue_id = entry_of(lab, doomed).queue_id

    lab.mail.cure.run("postsuper", "-d", "ALL", *queues)
    lab.settle(doomed)

    assert not lab.mail.queue()
    assert [path.partition("/")[0] for path in files(lab, queue_id)] == left


@pytest.mark.faq("delete-from-queue", "49-S4")
def test_cure_mail_is_put_on_hold_instead(lab: Lab) -> None:
    """A flush skips the message until it is released."""
    held, other = send_to_a_dead_host(lab, "alice", "bob")
    queue_id = entry_of(lab, held).queue_id

    lab.mail.cure.run("postsuper", "-h", queue_id)
    marked = mailq(lab)
    lab.remote.start()
    lab.mail.flush()
    lab.settle(held, other)
    untouched = held.delivered_to(lab.remote).now()
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
    """Unlike a deletion, -e returns the message to the sender at the next attempt."""
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
    """-e marks the message but leaves it on hold; -f also releases it."""
    (mail,) = send_to_a_dead_host(lab, "alice")
    queue_id = entry_of(lab, mail).queue_id
    lab.mail.run("postsuper", "-h", queue_id)

    lab.mail.cure.run("postsuper", option, queue_id)
    shown = mailq(lab)
    lab.mail.flush()
    lab.settle(mail)

    assert shown == [f"{queue_id}{marked}"]
    assert [notice["Subject"] for notice in lab.mail.mailbox("alice")] == told


@pytest.mark.faq("delete-from-queue", "49-S4")
def test_cure_mail_is_requeued_under_a_new_id(lab: Lab) -> None:
    """After -r pickup(8) reads the message as new mail and logs the old queue id."""
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
    """The queue file marks the recipients that already have the message."""
    lab.remote.stop()
    mail = lab.mail.send(to=["carol@example.com", "joe@example.net"], user="alice")
    lab.settle(mail)

    done = lab.mail.cure.run("postsuper", "-r", "ALL")
    pick_up_now(lab)
    lab.remote.start()
    lab.mail.flush()
    lab.settle(mail)

    assert "postsuper: Requeued: 1 message" in done.stderr
    assert mail.delivered_to(lab.mail, mailbox="carol")
    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert len(lab.mail.mailbox("carol")) == 1


@pytest.mark.faq("delete-from-queue", "49-S4")
def test_symptom_requeuing_does_not_undo_an_alias(lab: Lab) -> None:
    """Requeuing starts from the expanded address: a corrected alias comes too late."""
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
    """Requeuing looks up the message's current recipients again."""
    lab.mail.configure(virtual_alias_maps=lab.mail.table("virtual", {}))
    (mail,) = send_to_a_dead_host(lab, "alice")

    lab.mail.table("virtual", {"joe@example.net": "joe@example.com"})
    lab.mail.restart()
    lab.mail.cure.run("postsuper", "-r", "ALL")
    pick_up_now(lab)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    assert not lab.mail.queue()


@pytest.mark.faq("delete-from-queue", "49-S2", "49-S3")
def test_behaviour_long_queue_ids_have_upper_and_lower_case(lab: Lab) -> None:
    """Long ids are hashed by microseconds, not first letters; both kinds are deleted alike."""
    (short,) = send_to_a_dead_host(lab, "alice")
    lab.mail.cure.configure(enable_long_queue_ids="yes")
    (long,) = send_to_a_dead_host(lab, "alice")
    old, new = entry_of(lab, short).queue_id, entry_of(lab, long).queue_id

    where = files(lab, new)
    done = lab.mail.run("postsuper", "-d", "-", stdin=f"{old}\n{new.swapcase()}\n{new}\n")

    assert new[10:11] == "z"
    (folder,) = {path.split("/")[1] for path in where}
    # Six digits of seconds, four of microseconds, a "z", the inode; hashed by the
    # microseconds as written in a short queue id.
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
