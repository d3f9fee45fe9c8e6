"""Which reply answers which request (RFC 6120 8.1.2.1; protocol-notes A18; attacks P01-P06)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcj.errors import QueueFull, UsageError
from pcj.rts import MAX_UNANSWERED, Requests
from pcj.stanza import Node, iq, message, presence

OWN = "romeo@example.org/orchard"
COMPONENT = "bot.example.org"


def reply(from_: str | None, identity: str | None = "a") -> Node:
    return iq(type="result", id=identity, from_=from_, to=OWN)


def requests(to: str | None, identity: str = "a") -> Requests[str]:
    made: Requests[str] = Requests(10)
    made.add(identity, to, "asker")
    return made


@pytest.mark.parametrize(
    ("to", "sender", "own", "matches"),
    [
        # To somebody else: from there and nowhere else.
        ("juliet@example.org/balcony", "juliet@example.org/balcony", OWN, True),
        ("juliet@example.org/balcony", "JULIET@EXAMPLE.org/balcony", OWN, True),
        ("JULIET@Example.ORG/balcony", "juliet@example.org/balcony", OWN, True),
        ("juliet@example.org/balcony", "juliet@example.org/Balcony", OWN, False),
        ("juliet@example.org/balcony", "juliet@example.org", OWN, False),
        ("juliet@example.org/balcony", "tybalt@example.org/balcony", OWN, False),
        ("juliet@example.org/balcony", "example.org", OWN, False),
        ("juliet@example.org/balcony", None, OWN, False),
        ("juliet@example.org/balcony", OWN, OWN, False),
        ("juliet@example.org/balcony", "", OWN, False),
        ("juliet@example.org/balcony", "@", OWN, False),
        ("juliet@example.org", "juliet@example.org/balcony", OWN, False),
        ("juliet@bücher.example", "juliet@xn--bcher-kva.example", OWN, True),
        ("juliet@xn--bcher-kva.example", "juliet@bücher.example", OWN, True),
        ("juliet@example.com", "juliet@example.com.", OWN, True),
        ("r@example.org/a/b@c", "R@example.org/a/b@c", OWN, True),
        # To a server.
        ("example.com", "example.com", OWN, True),
        ("LOCALHOST", "localhost", OWN, True),
        ("example.com", None, OWN, False),
        ("example.com", "evil.example", OWN, False),
        # To our own server, with its address.
        ("example.org", "example.org", OWN, True),
        ("example.org", None, OWN, True),
        ("example.org", "romeo@example.org", OWN, False),
        ("example.org", "juliet@example.org", OWN, False),
        # To our own account: without `to`, or by its bare address.
        (None, None, OWN, True),
        (None, "romeo@example.org", OWN, True),
        (None, OWN, OWN, True),
        (None, "ROMEO@example.org", OWN, True),
        (None, "example.org", OWN, True),
        (None, "romeo@example.org/other", OWN, False),
        (None, "juliet@example.org", OWN, False),
        (None, "example.com", OWN, False),
        (None, "@", OWN, False),
        ("romeo@example.org", None, OWN, True),
        ("romeo@example.org", "romeo@example.org", OWN, True),
        ("romeo@example.org", "romeo@example.org/other", OWN, False),
        (OWN, OWN, OWN, True),
        (OWN, None, OWN, True),
        (OWN, "romeo@example.org/other", OWN, False),
        # A component: to its own domain (the barrier of A8), and from an address in it.
        (COMPONENT, COMPONENT, COMPONENT, True),
        (COMPONENT, "BOT.example.org", COMPONENT, True),
        ("juliet@localhost", "juliet@LOCALHOST", COMPONENT, True),
        ("juliet@localhost", None, COMPONENT, False),
        (None, None, COMPONENT, True),
        (None, COMPONENT, COMPONENT, True),
        (None, "juliet@localhost", COMPONENT, False),
        ("admin@bot.example.org", "admin@BOT.example.org", COMPONENT, True),
        ("admin@bot.example.org", COMPONENT, COMPONENT, False),
        ("admin@bot.example.org", None, COMPONENT, False),
        # What looks alike is not the same.
        ("juliet@example.com", "juliet@example.com.evil.example", OWN, False),
        ("juliet@example.com", "juliet@exampIe.com", OWN, False),
        ("juliet@example.com", "jul\u0456et@example.com", OWN, False),
        ("juliet@example.com/b", "juliet@example.com/b/", OWN, False),
        ("juliet@example.com/b", "juliet@example.com/B", OWN, False),
        ("juliet@example.com/b", " juliet@example.com/b", OWN, False),
        ("juliet@\uff45xample.com", "juliet@example.com", OWN, True),
        ("juliet@example.com", "j" * 1_000_000 + "@example.com", OWN, False),
        ("juliet@example.com", "juliet@example.com/" + "r" * 1_000_000, OWN, False),
        (None, "romeo@example.org.", OWN, True),
        (None, "romeo@example.org.evil.example", OWN, False),
        ("example.org", "", OWN, False),
        # Whoever we are not sure to be.
        (None, None, "not@@an address", False),
        (None, "@", "not@@an address", False),
        # Addresses that are none: equal texts alone will do.
        ("not@@an address", "not@@an address", OWN, True),
        ("not@@an address", "not@@an Address", OWN, False),
    ],
)
def test_a_reply_comes_from_where_the_request_went(to: str | None, sender: str | None, own: str, matches: bool) -> None:
    pending = requests(to)
    assert pending.take(reply(sender), own) == ("asker" if matches else None)
    assert len(pending) == (0 if matches else 1)


@pytest.mark.parametrize("identity", [None, "", "b", "A", "a ", "a" * 1_000_000])
def test_another_id_is_another_matter(identity: str | None) -> None:
    pending = requests(None)
    assert pending.take(reply(None, identity), OWN) is None
    assert len(pending) == 1


def test_nothing_answers_a_request_that_has_not_left_yet() -> None:
    """P02: an id that was guessed, or chosen by the user, answers nothing before it was seen on the wire."""
    sent: set[str] = set()
    pending: Requests[str] = Requests(10, sent.__contains__)
    pending.add("a", "juliet@example.org", "asker")
    assert pending.take(reply("juliet@example.org"), OWN) is None
    assert len(pending) == 1
    sent.add("asker")
    assert pending.take(reply("juliet@example.org"), OWN) == "asker"


def test_the_first_of_two_replies_counts() -> None:
    pending = requests(None)
    assert pending.take(reply(None), OWN) == "asker"
    assert pending.take(reply(None), OWN) is None


def test_two_requests_with_one_id_to_two_addresses_get_each_its_own_reply() -> None:
    # The seventh fault of the original: an id clash sent the reply to the wrong asker.
    pending: Requests[str] = Requests(10)
    pending.add("a", "juliet@example.org", "asked juliet")
    pending.add("a", "tybalt@example.org", "asked tybalt")
    assert pending.take(reply("tybalt@example.org"), OWN) == "asked tybalt"
    assert pending.take(reply("tybalt@example.org"), OWN) is None
    assert pending.take(reply("juliet@example.org"), OWN) == "asked juliet"
    assert len(pending) == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [(None, None), ("juliet@example.org", "juliet@example.org"), ("juliet@example.org", "JULIET@example.org")],
)
def test_a_second_request_of_the_same_id_to_the_same_address_is_refused(first: str | None, second: str | None) -> None:
    pending = requests(first)
    with pytest.raises(UsageError, match="waits for its reply already"):
        pending.add("a", second, "second")
    assert len(pending) == 1
    assert pending.take(reply(first), OWN) == "asker"


def test_no_more_requests_than_the_bound_may_wait() -> None:
    pending: Requests[int] = Requests(3)
    for number in range(3):
        pending.add(str(number), None, number)
    with pytest.raises(QueueFull, match=r"3 requests wait .* max_pending_requests"):
        pending.add("3", None, 3)
    assert pending.take(reply(None, "1"), OWN) == 1
    pending.add("3", None, 3)


def test_a_refused_request_leaves_nothing_behind() -> None:
    pending: Requests[int] = Requests(0)
    with pytest.raises(QueueFull):
        pending.add("a", None, 1)
    assert len(pending) == 0
    assert list(pending) == []


def test_a_request_that_ended_is_forgotten_and_others_are_not() -> None:
    pending: Requests[str] = Requests(10)
    pending.add("a", "juliet@example.org", "one")
    pending.add("a", "tybalt@example.org", "two")
    pending.discard("a", "one")
    pending.discard("a", "one")
    pending.discard("unknown", "one")
    assert list(pending) == [("a", "two")]
    assert pending.take(reply("juliet@example.org"), OWN) is None


def test_requests_may_be_discarded_while_they_are_looked_through() -> None:
    pending: Requests[str] = Requests(10)
    for identity in "abc":
        pending.add(identity, None, f"asker {identity}")
    assert [identity for identity, _ in pending] == ["a", "b", "c"]
    for identity, asker in pending:
        pending.discard(identity, asker)
    assert len(pending) == 0


@given(st.text(max_size=40), st.one_of(st.none(), st.text(max_size=40)), st.one_of(st.none(), st.text(max_size=40)))
def test_no_address_however_odd_breaks_the_matching(own: str, to: str | None, sender: str | None) -> None:
    pending = requests(to)
    node = Node("{jabber:client}iq", {"id": "a", "type": "result"})
    if sender is not None:
        node.set("from", sender)
    taken = pending.take(node, own)
    assert len(pending) == (0 if taken else 1)


def test_of_the_requests_that_ended_without_a_reply_the_latest_thousand_are_remembered() -> None:
    requests: Requests[int] = Requests(10)
    for number in range(MAX_UNANSWERED + 1):
        requests.add(f"q{number}", "a@b/c", number)
        requests.discard(f"q{number}", number)
    assert len(requests.unanswered) == MAX_UNANSWERED
    assert not requests.late(iq(type="result", id="q0", from_="a@b/c"), "me@b/x")
    assert requests.late(iq(type="result", id="q1", from_="a@b/c"), "me@b/x")
    assert len(requests.unanswered) == MAX_UNANSWERED - 1


@pytest.mark.parametrize("asked", ["iq", "message", "presence"])
@pytest.mark.parametrize("came", [iq, message, presence])
def test_a_request_is_answered_by_a_stanza_of_its_own_kind_only(asked: str, came: Callable[..., Node]) -> None:  # P13
    node = came(type="error", id="a", from_="juliet@example.org", to=OWN)
    pending: Requests[str] = Requests(10)
    pending.add("a", "juliet@example.org", "asker", asked)
    fits = node.tag.endswith(asked)
    assert pending.take(node, OWN) == ("asker" if fits else None)
    pending = Requests(10)
    pending.add("a", "juliet@example.org", "asker", asked)
    pending.discard("a", "asker")
    assert pending.late(node, OWN) == fits
