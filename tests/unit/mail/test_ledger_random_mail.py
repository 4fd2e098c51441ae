"""The ledger balances for random mail, and finds whatever a test takes away or adds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from histories import found
from mail_world import World
from maillab.mail.ledger import judge
from maillab.mail.tracing import Journeys

ENDS = ("delivered", "bounced", "queued", "discarded")

worlds = st.builds(World, st.integers(0, 10**6), st.integers(1, 8))
many = settings(deadline=None, max_examples=60)


@many
@given(worlds)
def test_undisturbed_mail_is_conserved(world: World) -> None:
    verdict = judge(world.history())

    assert verdict.conserved, verdict.text()
    assert verdict.findings == ()
    assert {end: getattr(verdict, end) for end in ENDS} == {end: world.ends[end] for end in ENDS}
    assert verdict.attempted == sum(len(mail.probe.recipients) for mail in world.submissions)
    assert verdict.unexpected == 0


@many
@given(worlds)
def test_finished_mail_is_at_rest(world: World) -> None:
    journeys = Journeys(world.history())

    assert [
        submission for submission in world.submissions if not journeys.of(submission).at_rest()
    ] == []


@many
@given(worlds, st.integers())
def test_the_order_of_different_hosts_lines_makes_no_difference(world: World, shuffle: int) -> None:
    ordered, shuffled = world.history(), world.history(shuffle=shuffle)

    assert judge(ordered).text() == judge(shuffled).text()
    for mail in world.submissions:
        assert Journeys(ordered).of(mail).text() == Journeys(shuffled).of(mail).text()


@many
@given(worlds, st.data())
def test_a_copy_that_is_gone_is_found_lost(world: World, data: st.DataObject) -> None:
    lives = [life for life in world.lives if life.copies]
    if not lives:
        return
    life = data.draw(st.sampled_from(lives))
    gone = life.copies.pop(data.draw(st.integers(0, len(life.copies) - 1)))

    verdict = judge(world.history())

    ((kind, host, queue_id, recipient),) = found(verdict)
    by_a_program = gone.mailbox == "filtered"
    assert kind == ("consumed" if by_a_program else "lost")
    assert (host, queue_id) == (gone.host, gone.queue_id)
    assert recipient == gone.delivered_to or recipient.startswith(f"{gone.mailbox}@")
    assert verdict.lost == 1
    assert not verdict.conserved


@many
@given(worlds, st.data())
def test_a_copy_too_many_is_found_duplicated(world: World, data: st.DataObject) -> None:
    # Without a Message-ID, a program that took the leg's mail may have stored it, too.
    lives = [life for life in world.lives if life.copies and life.mid]
    if not lives:
        return
    life = data.draw(st.sampled_from(lives))
    twice = data.draw(st.sampled_from(life.copies))
    life.copies.append(twice)

    verdict = judge(world.history())

    assert found(verdict) == [("duplicated", twice.host, twice.queue_id, twice.delivered_to)]


@many
@given(worlds, st.data())
def test_a_copy_with_another_body_is_found_altered(world: World, data: st.DataObject) -> None:
    probes = {mail.probe.message_id for mail in world.submissions} - {""}
    copies = [
        (life, n)
        for life in world.lives
        for n, copy in enumerate(life.copies)
        if copy.message_id in probes
    ]
    if not copies:
        return
    life, n = data.draw(st.sampled_from(copies))
    life.copies[n] = replace(life.copies[n], raw=b"\nother\n")

    verdict = judge(world.history())

    copy = life.copies[n]
    assert found(verdict) == [("altered", copy.host, copy.queue_id, copy.delivered_to)]


@many
@given(worlds, st.data())
def test_a_queue_file_that_is_gone_is_found_lost(world: World, data: st.DataObject) -> None:
    if not world.queued:
        return
    life = data.draw(st.sampled_from(list(world.queued)))
    del world.queued[life]

    verdict = judge(world.history())

    assert found(verdict) == [("lost", life.host, life.queue_id, to) for to in life.still_open]


@many
@given(worlds, st.data())
def test_mail_without_any_trace_after_the_250_is_lost(world: World, data: st.DataObject) -> None:
    """The 250 is the only trace: no line, no queue file, no copy."""
    lives = [life for life in world.lives if life.acknowledged and life.childless]
    if not lives:
        return
    life = data.draw(st.sampled_from(lives))

    verdict = judge(world.history(without=life))

    assert [(kind, to) for kind, _, _, to in found(verdict)] == [
        ("lost", to) for to in life.acknowledged
    ]
