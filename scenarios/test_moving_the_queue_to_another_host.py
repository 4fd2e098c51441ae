"""How to move the queue to another host, whose own queue must not suffer.

The FAQ's answer holds: through the other host's maildrop, where files get new
names. What test_moving_the_queue.py tells of names holds, too: a whole queue may
be copied while both are stopped, when "postsuper -s" renames what does not fit,
and with long queue ids (2.9) nothing needs a new name. Copied mail keeps the
addresses that the old host gave it until it is queued anew ("postsuper -r").

Here the sender's queue moves to the backup; both give their mail to the primary.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import PickedUp
from maillab.postfix import MailHost
from maillab.record import Mail

pytestmark = pytest.mark.topology("backup-mx")

SPOOL = "/var/spool/postfix"
LOG = "/var/log/mail.log"


def send_to_the_dead_primary(lab: Lab) -> list[Mail]:
    """Have mail wait in the sender's queue that the backup could deliver as well."""
    for host in (lab.sender, lab.backup):
        host.configure(relayhost="[primary.example.org]")
    lab.backup.configure(relay_domains="")
    lab.primary.stop()
    mails = [lab.sender.send(to="alice@example.org") for _ in range(3)]
    lab.settle(*mails)
    return mails


def ids(host: MailHost) -> list[str]:
    """The queue ids as postqueue(1) shows them."""
    return sorted(entry.queue_id for entry in host.queue())


def carry(source: MailHost, target: MailHost, folder: str) -> None:
    """Move every deferred queue file of a host into a folder of the other, rights kept."""
    packed = source.run("sh", "-c", f"cd {SPOOL}/deferred && tar -c $(find . -type f) | base64")
    target.write("/root/queue", packed.stdout)
    unpack = f"base64 -d /root/queue | tar -xp --transform 's,.*/,,' -C {SPOOL}/{folder}"
    target.run("sh", "-c", unpack)
    source.run("sh", "-c", f"rm {SPOOL}/deferred/*/*")


def the_primary_is_back(lab: Lab, *mails: Mail) -> list[str]:
    """Let the mail go on from both hosts; returns what alice got then."""
    lab.primary.start()
    lab.sender.flush()
    lab.backup.flush()
    lab.settle(*mails)
    return sorted(copy.message_id for copy in lab.primary.stored() if copy.mailbox == "alice")


@pytest.mark.faq("moving-the-queue", "50-S3")
def test_cure_the_queue_goes_to_another_host_through_its_maildrop(lab: Lab) -> None:
    """The other host, which runs, reads it like new mail, gives new ids and delivers it."""
    mails = send_to_the_dead_primary(lab)
    old = ids(lab.sender)

    lab.sender.stop()
    carry(lab.sender.cure, lab.backup.cure, "maildrop")
    lab.sender.start()
    lab.backup.pick_up()
    lab.settle()
    new = ids(lab.backup)

    assert len(new) == 3
    assert sorted(one.orig_id for one in lab.events(PickedUp, lab.backup)) == old
    assert all(mail.held_by(lab.backup) for mail in mails)
    assert ids(lab.sender) == []
    assert the_primary_is_back(lab, *mails) == sorted(mail.message_id for mail in mails)


@pytest.mark.faq("moving-the-queue", "50-S1")
@pytest.mark.parametrize("long", ["yes", "no"])
def test_behaviour_a_copied_queue_keeps_long_ids_on_another_host(lab: Lab, long: str) -> None:
    """Straight into the stopped host's deferred queue: short ids are new, long ones stay."""
    for host in (lab.sender, lab.backup):
        host.configure(enable_long_queue_ids=long)
    lab.backup.run("chown", "postfix", LOG)
    mails = send_to_the_dead_primary(lab)
    old = ids(lab.sender)

    lab.sender.stop()
    lab.backup.stop()
    carry(lab.sender, lab.backup, "deferred")
    checked = lab.backup.run("postsuper", "-s").stderr.splitlines()
    lab.backup.start()
    lab.sender.start()
    new = ids(lab.backup)

    assert (new == old) is (long == "yes")
    renamed = "postsuper: Renamed to match inode number: 3 messages"
    assert (renamed in checked) is (long == "no")
    assert the_primary_is_back(lab, *mails) == sorted(mail.message_id for mail in mails)


@pytest.mark.faq("moving-the-queue", "50-S1")
def test_cure_requeuing_applies_the_new_hosts_rules(lab: Lab) -> None:
    """Copied mail is addressed as it was; "postsuper -r ALL" has the new host rewrite it."""
    lab.backup.configure(
        enable_long_queue_ids="yes",
        virtual_alias_maps=lab.backup.table("virtual", {"alice@example.org": "carol@example.org"}),
    )
    lab.sender.configure(enable_long_queue_ids="yes")
    mails = send_to_the_dead_primary(lab)
    lab.sender.stop()
    lab.backup.stop()
    carry(lab.sender, lab.backup, "deferred")
    lab.backup.run("chown", "postfix", LOG)
    lab.backup.run("postsuper", "-s")
    lab.backup.start()
    lab.sender.start()

    lab.backup.cure.run("postsuper", "-r", "ALL")
    lab.backup.pick_up()
    lab.settle()

    assert {entry.recipients for entry in lab.backup.queue()} == {("carol@example.org",)}
    assert the_primary_is_back(lab, *mails) == []
    assert len(lab.primary.mailbox("carol")) == 3
