"""Moving the queue to another disk, another directory or another host.

Stop Postfix, copy the whole queue, and start Postfix: "postsuper -s", which "postfix
start" runs, renames the files that do not match their inodes. Into a queue that is in use,
move the files through maildrop, where Postfix reads them as new mail and gives them new
names. Never copy files into another queue: two files with one name destroy each other.

A queue file's name contains its inode number, so that every name is unique. A copied file
keeps its name, which a new file may soon get, too.

Since the FAQ:
- 1.1: "postsuper -s".
- 2.9: long queue ids are never reused, and stay.
- 3.6.16, 3.7.12, 3.8.7, 3.9.1 and 3.10.0: "postsuper -s" completes here even if it may not
  write the log.
"""

import json

import pytest

from maillab import Active, Complaint, Delivery, Lab, Mail, PickedUp, PostfixHost, Removed

pytestmark = pytest.mark.topology("standalone")

SPOOL = "/var/spool/postfix"
LOG = "/var/log/mail.log"
# Copy to new inodes and back, with everything else preserved.
COPY_AND_BACK = """
cd /var/spool/postfix && cp -a deferred /root/away &&
rm -r deferred/* && cp -a /root/away/* deferred/
"""
FAQ_RECIPE = "cd /var/spool/postfix && mv $(find deferred -type f) maildrop/"
CHANGED = "QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS"


def send_to_a_dead_host(lab: Lab, count: int = 3) -> list[Mail]:
    """Send messages from alice that stay in the mail server's queue."""
    lab.remote.stop()
    mails = [lab.mail.send(to="joe@example.net", user="alice") for _ in range(count)]
    lab.settle(*mails)
    return mails


def ids(host: PostfixHost) -> list[str]:
    """Return the queue ids as postqueue(1) shows them."""
    return sorted(entry.queue_id for entry in host.queue())


def arrivals(host: PostfixHost) -> list[int]:
    """Return the messages' arrival times as postqueue(1) shows them."""
    lines = host.run("postqueue", "-j").stdout.splitlines()
    return sorted(json.loads(line)["arrival_time"] for line in lines)


def the_host_is_back(lab: Lab, *mails: Mail) -> None:
    """Start the remote host, and flush the queue to it."""
    lab.remote.start()
    lab.mail.flush()
    lab.settle(*mails)


def delivered_once(lab: Lab, mails: list[Mail]) -> bool:
    """Return True if joe has each message exactly once."""
    stored = sorted(copy.message_id for copy in lab.remote.stored())
    return stored == sorted(mail.message_id for mail in mails)


@pytest.mark.faq("moving-the-queue", "50-S1")
def test_historic_copied_queue_files_are_renamed_at_the_start(lab: Lab) -> None:
    """A plain copy of a stopped queue gets new inodes and new names; nothing is lost.

    "postfix start" and "postfix stop" check the installation, which takes seconds.
    """
    lab.mail.run("chown", "postfix", LOG)
    mails = send_to_a_dead_host(lab)
    before = ids(lab.mail)

    lab.mail.run("postfix", "stop")
    lab.mail.mistake.run("sh", "-c", COPY_AND_BACK)
    started = lab.mail.run("postfix", "start")
    after = ids(lab.mail)
    the_host_is_back(lab, *mails)

    output = started.stderr.splitlines()
    assert "postsuper: Renamed to match inode number: 3 messages" in output
    assert f"postsuper: warning: {CHANGED}" in output
    assert not set(before) & set(after)
    # The microseconds are the same; the inode is new.
    assert [name[:5] for name in after] == [name[:5] for name in before]
    assert delivered_once(lab, mails)


@pytest.mark.faq("moving-the-queue", "50-S1")
def test_cure_postsuper_renames_copied_queue_files(lab: Lab) -> None:
    """Run "postsuper -s" before Postfix starts: every file matches its inode again."""
    mails = send_to_a_dead_host(lab)
    lab.mail.run("chown", "postfix", LOG)
    lab.mail.stop()
    lab.mail.run("sh", "-c", COPY_AND_BACK)

    done = lab.mail.cure.run("postsuper", "-s")
    found = lab.mail.run("find", f"{SPOOL}/deferred", "-type", "f", "-printf", "%f %i\n")
    lab.mail.start()
    the_host_is_back(lab, *mails)

    # Five hexadecimal digits of microseconds, then the inode in the same way.
    fits = [
        int(name[5:], 16) == int(inode) for name, inode in map(str.split, found.stdout.splitlines())
    ]
    assert fits == [True] * 3
    assert "postsuper: Renamed to match inode number: 3 messages" in done.stderr
    assert delivered_once(lab, mails)


@pytest.mark.faq("moving-the-queue", "50-S1")
def test_behaviour_long_queue_ids_survive_a_copy(lab: Lab) -> None:
    """A long id is never reused, so it need not match the inode."""
    lab.mail.cure.configure(enable_long_queue_ids="yes")
    mails = send_to_a_dead_host(lab)
    before = ids(lab.mail)

    lab.mail.stop()
    lab.mail.run("sh", "-c", COPY_AND_BACK)
    done = lab.mail.run("postsuper", "-s")
    lab.mail.start()
    after = ids(lab.mail)
    the_host_is_back(lab, *mails)

    assert done.stderr == ""
    assert after == before
    assert delivered_once(lab, mails)


@pytest.mark.faq("moving-the-queue", "50-S2")
def test_symptom_two_files_of_one_name_destroy_each_other(lab: Lab) -> None:
    """On a running system the second file replaces the first one during its delivery.

    The delivery agent finds no file, and the queue manager considers the message done.
    The message is lost without delivery, bounce or notice.
    """
    lab.expects(lost=1, because="two queue files with one name")
    (mail,) = send_to_a_dead_host(lab, 1)
    (queue_id,) = ids(lab.mail)
    # After a restart no delivery agent runs, so the queue manager reads both in time.
    lab.mail.restart()
    lab.remote.start()

    lab.mail.mistake.run(
        "cp", "-p", f"{SPOOL}/deferred/{queue_id[0]}/{queue_id}", f"{SPOOL}/incoming/{queue_id}"
    )
    listed = ids(lab.mail)
    tried_before = len(lab.events(Delivery, lab.mail))
    lab.mail.run("postqueue", "-f")
    lab.settle(until=lambda: not lab.mail.queued())
    lab.wait_for(Removed, host=lab.mail)

    assert listed == [queue_id, queue_id]
    assert not lab.mail.queue()
    assert len(lab.events(Delivery, lab.mail)) == tried_before
    assert len([event for event in lab.events(Active, lab.mail) if event.queue_id == queue_id]) == 3
    missed = lab.wait_for(Complaint, host=lab.mail, saying="No such file")
    assert missed.text == f"open active {queue_id}: No such file or directory"
    assert not mail.reached(lab.remote)
    assert not lab.mail.mailbox("alice")


@pytest.mark.faq("moving-the-queue", "50-S2", "50-S3")
def test_cure_a_file_moved_into_maildrop_meets_no_other(lab: Lab) -> None:
    """The FAQ's recipe makes a running system accept the file as new mail with a new id."""
    (mail,) = send_to_a_dead_host(lab, 1)
    (queue_id,) = ids(lab.mail)

    lab.mail.cure.run("mv", f"{SPOOL}/deferred/{queue_id[0]}/{queue_id}", f"{SPOOL}/maildrop/")
    lab.mail.pick_up()
    lab.settle()
    after = ids(lab.mail)
    the_host_is_back(lab, mail)

    assert after != [queue_id]
    _, again = lab.events(PickedUp, lab.mail)
    assert (again.queue_id, again.orig_id) == (after[0], queue_id)
    assert delivered_once(lab, [mail])


@pytest.mark.faq("moving-the-queue", "50-S3")
def test_cure_the_queue_goes_through_maildrop(lab: Lab) -> None:
    """The FAQ's recipe gives new ids and keeps Message-IDs and arrival times."""
    mails = send_to_a_dead_host(lab)
    before, arrived = ids(lab.mail), arrivals(lab.mail)

    lab.mail.stop()
    lab.mail.cure.run("sh", "-c", FAQ_RECIPE)
    lab.mail.start()
    lab.mail.pick_up()
    lab.settle()
    after = ids(lab.mail)

    assert len(after) == 3
    assert not set(after) & set(before)
    assert arrivals(lab.mail) == arrived
    read = lab.events(PickedUp, lab.mail)[3:]
    assert sorted(event.orig_id for event in read) == before
    assert {event.sender for event in read} == {"alice@mail.example.com"}
    the_host_is_back(lab, *mails)
    assert delivered_once(lab, mails)


@pytest.mark.faq("moving-the-queue", "50-S3")
def test_behaviour_who_has_the_mail_does_not_get_it_again(lab: Lab) -> None:
    """Completed recipients are marked in the queue file and move with it."""
    lab.remote.stop()
    mail = lab.mail.send(to=["carol@example.com", "joe@example.net"], user="alice")
    lab.settle(mail)

    lab.mail.run("sh", "-c", FAQ_RECIPE)
    lab.mail.pick_up()
    lab.settle()
    the_host_is_back(lab, mail)

    assert len(lab.mail.mailbox("carol")) == 1
    assert delivered_once(lab, [mail])


@pytest.mark.faq("moving-the-queue", "50-S3")
@pytest.mark.parametrize("mistake", [("chmod", "644"), ("chown", "root")], ids=["mode", "owner"])
def test_symptom_a_file_with_wrong_rights_stays_in_maildrop(
    lab: Lab, mistake: tuple[str, str]
) -> None:
    """pickup(8) silently ignores a file of mode 0644, and warns about another owner's."""
    (mail,) = send_to_a_dead_host(lab, 1)
    (queue_id,) = ids(lab.mail)
    path = f"{SPOOL}/maildrop/{queue_id}"

    lab.mail.stop()
    lab.mail.run("sh", "-c", FAQ_RECIPE)
    lab.mail.mistake.run(*mistake, path)
    lab.mail.start()
    lab.mail.pick_up()
    lab.settle(mail)
    complaints = {
        event.text for event in lab.events(Complaint, lab.mail) if event.service == "pickup"
    }

    assert lab.mail.read(path) is not None
    unreadable = f"open input file maildrop/{queue_id}: cannot open file: Permission denied"
    assert (unreadable in complaints) is (mistake == ("chown", "root"))
    assert len(lab.events(PickedUp, lab.mail)) == 1


@pytest.mark.faq("moving-the-queue", "50-S3")
@pytest.mark.parametrize(
    ("wrong", "cure"),
    [(("chmod", "644"), ("chmod", "700")), (("chown", "root"), ("chown", "postfix"))],
    ids=["mode", "owner"],
)
def test_cure_owner_postfix_and_mode_0700(
    lab: Lab, wrong: tuple[str, str], cure: tuple[str, str]
) -> None:
    """pickup(8) reads the file once it has its original owner and mode."""
    (mail,) = send_to_a_dead_host(lab, 1)
    (queue_id,) = ids(lab.mail)
    path = f"{SPOOL}/maildrop/{queue_id}"
    lab.mail.stop()
    lab.mail.run("sh", "-c", FAQ_RECIPE)
    lab.mail.run(*wrong, path)
    lab.mail.start()

    lab.mail.cure.run(*cure, path)
    lab.mail.pick_up()
    lab.settle(mail)

    assert lab.mail.read(path) is None
    the_host_is_back(lab, mail)
    assert delivered_once(lab, [mail])


@pytest.mark.faq("moving-the-queue", "50-S4")
def test_historic_a_log_of_roots_spoils_the_first_start(lab: Lab) -> None:
    """As user postfix postsuper(1) cannot log the renames: a fatal error in older releases.

    The files are renamed by then, so the second start succeeds.
    """
    fails = not lab.has("log opened before privileges are dropped")
    lab.mail.run("chown", "root", LOG)
    mails = send_to_a_dead_host(lab)
    lab.mail.stop()
    lab.mail.mistake.run("sh", "-c", COPY_AND_BACK)

    first = lab.mail.run("postfix", "start", check=False)
    second = lab.mail.run("postfix", "start", check=False) if fails else first
    the_host_is_back(lab, *mails)

    output = first.stderr.splitlines()
    denied = f"postsuper: fatal: open logfile '{LOG}': cannot open file: Permission denied"
    assert "postsuper: Renamed to match inode number: 3 messages" in output
    assert (denied in output) is fails
    assert first.status == (1 if fails else 0)
    failed = [event.text for event in lab.events(Complaint, lab.mail) if event.level == "fatal"]
    assert failed == (["Postfix integrity check failed!"] if fails else [])
    assert second.status == 0
    assert delivered_once(lab, mails)


@pytest.mark.faq("moving-the-queue", "50-S4")
def test_behaviour_a_log_of_postfix_itself_lets_it_start(lab: Lab) -> None:
    """With a log that postsuper(1) may write the first start succeeds on every version."""
    lab.mail.run("chown", "postfix", LOG)
    mails = send_to_a_dead_host(lab)
    lab.mail.stop()
    lab.mail.mistake.run("sh", "-c", COPY_AND_BACK)

    started = lab.mail.run("postfix", "start", check=False)

    assert "postsuper: Renamed to match inode number: 3 messages" in started.stderr
    assert started.status == 0
    the_host_is_back(lab, *mails)
    assert delivered_once(lab, mails)
