"""Moving the queue to another host without damage to that host's own queue.

Move the files through the other host's maildrop, where they get new names. You can copy a
whole queue while both hosts are stopped: "postsuper -s" then renames files that do not
match their inodes. Copied mail keeps the addresses that the old host rewrote until it is
requeued ("postsuper -r").

Here the sender's queue moves to the backup; both hosts relay mail to the primary. The rules
about names in test_moving_the_queue.py apply here, too.

Since the FAQ:
- 2.9: long queue ids need no new names.
"""

import pytest

from maillab import Lab, Mail, PickedUp, PostfixHost

pytestmark = pytest.mark.topology("backup-mx")

SPOOL = "/var/spool/postfix"
LOG = "/var/log/mail.log"


def send_to_the_dead_primary(lab: Lab) -> list[Mail]:
    """Queue mail at the sender that the backup could also deliver."""
    for host in (lab.sender, lab.backup):
        host.configure(relayhost="[primary.example.org]")
    lab.backup.configure(relay_domains="")
    lab.primary.stop()
    mails = [lab.sender.send(to="alice@example.org") for _ in range(3)]
    lab.settle(*mails)
    return mails


def ids(host: PostfixHost) -> list[str]:
    """Return the queue ids as postqueue(1) shows them."""
    return sorted(entry.queue_id for entry in host.queue())


def carry(source: PostfixHost, target: PostfixHost, folder: str) -> None:
    """Move every deferred queue file to a folder of the other host, with its rights."""
    packed = source.run("sh", "-c", f"cd {SPOOL}/deferred && tar -c $(find . -type f) | base64")
    target.write("/root/queue", packed.stdout)
    unpack = f"base64 -d /root/queue | tar -xp --transform 's,.*/,,' -C {SPOOL}/{folder}"
    target.run("sh", "-c", unpack)
    source.run("sh", "-c", f"rm {SPOOL}/deferred/*/*")


def the_primary_is_back(lab: Lab, *mails: Mail) -> list[str]:
    """Start the primary, flush both hosts, and return alice's Message-IDs."""
    lab.primary.start()
    lab.sender.flush()
    lab.backup.flush()
    lab.settle(*mails)
    return sorted(copy.message_id for copy in lab.primary.stored() if copy.mailbox == "alice")


@pytest.mark.faq("moving-the-queue", "50-S3")
def test_cure_the_queue_goes_to_another_host_through_its_maildrop(lab: Lab) -> None:
    """The running backup reads the files as new mail, with new ids, and delivers them."""
    mails = send_to_the_dead_primary(lab)
    old = ids(lab.sender)

    lab.sender.stop()
    carry(lab.sender.cure, lab.backup.cure, "maildrop")
    lab.sender.start()
    lab.backup.pick_up()
    lab.settle()
    new = ids(lab.backup)

    assert len(new) == 3
    assert sorted(event.orig_id for event in lab.events(PickedUp, lab.backup)) == old
    assert all(mail.held_by(lab.backup) for mail in mails)
    assert ids(lab.sender) == []
    assert the_primary_is_back(lab, *mails) == sorted(mail.message_id for mail in mails)


@pytest.mark.faq("moving-the-queue", "50-S1")
@pytest.mark.parametrize("long", ["yes", "no"])
def test_behaviour_a_copied_queue_keeps_long_ids_on_another_host(lab: Lab, long: str) -> None:
    """In a stopped host's deferred queue short ids change, and long ids stay."""
    for host in (lab.sender, lab.backup):
        host.configure(enable_long_queue_ids=long)
    lab.backup.run("chown", "postfix", LOG)
    mails = send_to_the_dead_primary(lab)
    old = ids(lab.sender)

    lab.sender.stop()
    lab.backup.stop()
    carry(lab.sender.cure, lab.backup.cure, "deferred")
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
    """Copied mail keeps its addresses; "postsuper -r ALL" applies the new host's rules."""
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
