"""The ledger of mail handled at random balances, and finds whatever is then taken away or added."""

from __future__ import annotations

from dataclasses import replace

from histories import found
from hypothesis import given, settings
from hypothesis import strategies as st
from mail_world import World

from maillab.journeys import Journeys
from maillab.ledger import judge

ENDS = ("delivered", "bounced", "queued", "discarded")

worlds = st.builds(World, st.integers(0, 10**6), st.integers(1, 8))
many = settings(deadline=None, max_examples=60)


@many
@given(worlds)
def test_mail_that_went_its_way_is_conserved(world: World) -> None:
    verdict = judge(world.history())

    assert verdict.conserved, verdict.text()
    assert verdict.findings == ()
    assert {end: getattr(verdict, end) for end in ENDS} == {end: world.ends[end] for end in ENDS}
    assert verdict.attempted == sum(len(mail.probe.recipients) for mail in world.submissions)
    assert verdict.unexpected == 0


@many
@given(worlds)
def test_mail_that_went_its_way_is_at_rest(world: World) -> None:
    journeys = Journeys(world.history())

    assert [one for one in world.submissions if not journeys.of(one).at_rest()] == []


@many
@given(worlds, st.integers())
def test_how_the_hosts_logs_are_interleaved_makes_no_difference(world: World, shuffle: int) -> None:
    one, other = world.history(), world.history(shuffle=shuffle)

    assert judge(one).text() == judge(other).text()
    for mail in world.submissions:
        assert Journeys(one).of(mail).text() == Journeys(other).of(mail).text()


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
    assert (kind, host, queue_id) == ("lost", gone.host, gone.queue_id)
    assert recipient.startswith(f"{gone.mailbox}@")
    assert not verdict.conserved


@many
@given(worlds, st.data())
def test_a_copy_too_many_is_found_duplicated(world: World, data: st.DataObject) -> None:
    # Without a Message-ID, a program that got mail of the leg may have stored it, too.
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
    life.copies[n] = replace(life.copies[n], digest="other")

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
def test_what_a_host_took_and_never_had_is_found_lost(world: World, data: st.DataObject) -> None:
    """The 250 is all there is: no line, no queue file, no copy."""
    lives = [life for life in world.lives if life.told and life.childless]
    if not lives:
        return
    life = data.draw(st.sampled_from(lives))

    verdict = judge(world.history(without=life))

    assert [(kind, to) for kind, _, _, to in found(verdict)] == [("lost", to) for to in life.told]
