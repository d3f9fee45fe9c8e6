"""A stream-managed session as a value: its counts on both sides of 2^32, its state, and whose it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pcj.errors import ProtocolError
from pcj.protocol.management import REQUEST, Management, binding_of, read_number
from tests.core.protocol.play import config

WRAP = 2**32
SM_ID = "sm-id-9f8e7d6c"
JID = "romeo@example.org/orchard"


def managed(**options: Any) -> Management:
    return Management(SM_ID, jid=JID, sid="sid-3", max_seconds=600.0, binding="whose", **options)


# ---- what the peer says of our stanzas


@pytest.mark.parametrize(
    ("proved", "outstanding", "h", "more"),
    [
        (0, 0, "0", 0),
        (0, 5, "0", 0),
        (0, 5, "3", 3),
        (0, 5, "5", 5),
        (7, 5, "7", 0),
        (7, 5, "12", 5),
        (7, 5, " 12\n", 5),  # XML Schema: white space around a number is no part of it
        (7, 5, "0012", 5),
        (WRAP - 2, 5, str(WRAP - 2), 0),
        (WRAP - 2, 5, str(WRAP - 1), 1),
        (WRAP - 2, 5, "0", 2),
        (WRAP - 2, 5, "3", 5),
        (WRAP - 1, 1, "0", 1),
        (WRAP, 3, "2", 2),
        (3 * WRAP + 4, 3, "7", 3),
    ],
)
def test_a_count_proves_what_lies_between_it_and_the_last_one(proved: int, outstanding: int, h: str, more: int) -> None:
    management = managed(proved=proved)
    assert management.proof(h, outstanding) == more
    assert management.proved == proved + more
    assert management.resumable


@pytest.mark.parametrize(
    ("proved", "outstanding", "h", "sent", "says"),
    [
        (0, 0, "1", 0, "1 of our stanzas, and we have sent it 0"),
        (0, 5, "6", 5, "6 of our stanzas, and we have sent it 5"),
        (7, 5, "13", 12, "13 of our stanzas, and we have sent it 12"),
        (7, 5, "6", 12, "6 of our stanzas, and 7 before"),
        (7, 5, "0", 12, "0 of our stanzas, and 7 before"),
        (WRAP - 2, 5, "4", 3, "4 of our stanzas, and we have sent it 3"),
        (WRAP - 2, 5, str(WRAP - 3), 3, f"{WRAP - 3} of our stanzas, and {WRAP - 2} before"),
        (WRAP + 2, 0, "1", 2, "1 of our stanzas, and 2 before"),
        (WRAP + 2, 0, str(WRAP - 1), 2, f"{WRAP - 1} of our stanzas, and 2 before"),
        (0, 5, str(WRAP - 1), 5, f"{WRAP - 1} of our stanzas, and 0 before"),
    ],
)
def test_a_count_above_what_was_sent_or_below_the_last_one_ends_the_session_and_proves_nothing(
    proved: int, outstanding: int, h: str, sent: int, says: str
) -> None:
    management = managed(proved=proved)
    with pytest.raises(ProtocolError, match=says) as caught:
        management.proof(h, outstanding)
    error = caught.value
    assert error.answer == "undefined-condition"
    expected = f'<handled-count-too-high xmlns="urn:xmpp:sm:3" h="{h}" send-count="{sent}"/>'
    assert error.application == expected.encode()
    assert (error.expected, error.came) != ("", "")
    assert management.proved == proved
    assert not management.resumable


@pytest.mark.parametrize(
    "h",
    [None, "", " ", "x", "-1", "+1", "1.0", "1e3", "0x1", "1 2", str(WRAP), "9" * 32, "0" * 33, "9" * 10_000, "٣", "²"],
)
@pytest.mark.parametrize("exact", [True, False])
def test_what_is_no_count_ends_the_session_and_is_quoted_in_bounds(h: str | None, exact: bool) -> None:
    management = managed(exact=exact)
    with pytest.raises(ProtocolError, match="in place of how many of our stanzas") as caught:
        management.proof(h, 10)
    assert caught.value.answer == "undefined-condition"
    assert caught.value.application == b""
    assert len(str(caught.value)) < 250
    assert str(caught.value).isascii()
    assert (management.proved, management.resumable) == (0, False)


@pytest.mark.parametrize(
    ("proved", "outstanding", "h", "more"),
    [
        (10, 3, "10", 0),
        (10, 3, "13", 3),
        (10, 3, "19", 9),
        (WRAP - 1, 0, "4", 5),
        (10, 0, str(10 + WRAP // 2 - 1), None),
    ],
)
def test_the_process_before_may_have_sent_more_than_its_state_says(
    proved: int, outstanding: int, h: str, more: int | None
) -> None:
    management = managed(proved=proved, exact=False)
    given = management.proof(h, outstanding)
    assert given == (more if more is not None else WRAP // 2 - 1)
    assert management.proved == proved + given
    assert management.exact
    with pytest.raises(ProtocolError):
        management.proof(str((management.proved + 1) % WRAP), 0)


@pytest.mark.parametrize("h", ["9", "0", str(10 + WRAP // 2)])
def test_it_cannot_have_had_less_proved_than_its_state_says(h: str) -> None:
    management = managed(proved=10, exact=False)
    with pytest.raises(ProtocolError, match="and 10 before"):
        management.proof(h, 3)
    assert (management.proved, management.exact, management.resumable) == (10, False, False)


# ---- what we say of the peer's


@pytest.mark.parametrize(
    ("handled", "h"),
    [(0, 0), (1, 1), (WRAP - 1, WRAP - 1), (WRAP, 0), (WRAP + 1, 1), (5 * WRAP + 9, 9)],
)
def test_our_answer_begins_again_at_0_behind_the_largest_count(handled: int, h: int) -> None:
    management = managed(handled=handled)
    assert management.answer() == f'<a xmlns="urn:xmpp:sm:3" h="{h}"/>'.encode()
    assert management.h == h


def test_the_request_is_the_shortest_element_there_is() -> None:
    assert REQUEST == b'<r xmlns="urn:xmpp:sm:3"/>'


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("600", 600), (" 7 ", 7), (None, None), ("", None), ("-7", None)]
)
def test_a_number_is_read_as_xml_schema_writes_it(text: str | None, number: int | None) -> None:
    assert read_number(text) == number


# ---- the state


def state(**changes: Any) -> dict[str, object]:
    return {**managed(handled=WRAP + 5, proved=3, location="[2001:db8::1]:5222", secured=True).to_state(), **changes}


def test_a_state_comes_back_through_json_and_is_not_exact_any_more() -> None:
    before = state()
    management = Management.from_state(json.loads(json.dumps(before)))
    assert management.to_state() == before
    assert (management.id, management.jid, management.sid) == (SM_ID, JID, "sid-3")
    assert (management.handled, management.proved, management.max_seconds) == (WRAP + 5, 3, 600.0)
    assert (management.location, management.binding, management.secured) == ("[2001:db8::1]:5222", "whose", True)
    assert management.resumable
    assert not management.exact


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "text",
        [],
        {},
        *({key: value for key, value in state().items() if key != missing} for missing in state()),
        state(id=""),
        state(id=7),
        state(id="x" * 4001),
        state(id="é" * 2001),
        state(id="\ud800secret"),
        state(jid="romeo@example.org"),
        state(jid="@@"),
        state(jid=None),
        state(sid=b"sid"),
        state(sid="x" * 20_000),
        state(location="x" * 261),
        state(binding=None),
        state(secured=1),
        *(state(max_seconds=value) for value in (0, -1, True, "600", None, float("nan"), float("inf"), 1e300)),
        *(state(handled=value) for value in (-1, 1.0, True, "1", None, 2**63)),
        *(state(proved=value) for value in (-1, 1.0, False, "1", None, 2**200)),
    ],
)
def test_a_state_that_is_none_is_refused_without_quoting_it(bad: object) -> None:
    with pytest.raises(ValueError, match=r"^the state") as caught:
        Management.from_state(bad)
    assert SM_ID not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_repr_shows_the_id() -> None:
    assert SM_ID not in repr(managed())
    assert repr(managed()) == "<Management resumable handled=0 proved=0>"
    assert repr(Management(jid=JID)) == "<Management not resumable handled=0 proved=0>"


# ---- whose it is


@pytest.mark.parametrize(
    "options",
    [
        {"jid": "juliet@example.org"},
        {"jid": "romeo@example.com"},
        {"jid": "romeo@example.org/balcony"},
        {"resource": "balcony"},
        {"username": "montague"},
        {"host": "192.0.2.7"},
        {"port": 5223},
        {"require_tls": False},
        {"verify_tls": False},
        {"tls_name": "example.net"},
        {"ca_file": "/elsewhere.pem"},
        {"client_certificate": "/own.pem"},
        {"pins": ("sha256:" + "0" * 64,)},
    ],
)
def test_a_session_is_nobody_elses(options: dict[str, Any]) -> None:
    assert binding_of(config(**options)) != binding_of(config())


@pytest.mark.parametrize("options", [{}, {"password": "another"}, {"silence_timeout": 5.0}, {"direct_tls": True}])
def test_a_session_stays_ours_where_the_way_to_the_server_changes_or_what_has_nothing_to_do_with_it(
    options: dict[str, Any],
) -> None:
    assert binding_of(config(**options)) == binding_of(config())


def test_what_a_session_belongs_to_has_no_password_in_it() -> None:
    options = config()
    assert isinstance(options.password, str)
    assert options.password not in binding_of(options)


# ---- a model of both ends, near the wrap


class Counting(RuleBasedStateMachine):
    """Both ends count without an end; on the wire is what is left of that modulo 2^32."""

    @initialize(proved=st.integers(0, 2), before=st.integers(-6, 6), handled=st.integers(-6, 6))
    def begin(self, proved: int, before: int, handled: int) -> None:
        start = max(0, proved * WRAP + before)
        self.sent = self.taken = self.told = start
        self.received = max(0, WRAP + handled)
        self.management = managed(proved=start, handled=self.received)

    @rule(count=st.integers(1, 4))
    def we_send(self, count: int) -> None:
        self.sent += count

    @rule(data=st.data())
    def the_peer_takes_some(self, data: st.DataObject) -> None:
        self.taken += data.draw(st.integers(0, self.sent - self.taken))

    @rule()
    def the_peer_tells(self) -> None:
        assert self.management.proof(str(self.taken % WRAP), self.sent - self.told) == self.taken - self.told
        self.told = self.taken

    @rule(offset=st.integers(-8, 8))
    def the_peer_tells_nonsense(self, offset: int) -> None:
        h = self.told + offset
        if self.told <= h <= self.sent:
            return
        with pytest.raises(ProtocolError):
            self.management.proof(str(h % WRAP), self.sent - self.told)
        assert not self.management.resumable
        self.management.id = SM_ID

    @rule()
    def it_is_saved_and_read(self) -> None:
        self.management = Management.from_state(json.loads(json.dumps(self.management.to_state())))
        self.management.exact = True  # here nothing was sent behind the state's back

    @rule(count=st.integers(1, 4))
    def the_peer_sends(self, count: int) -> None:
        self.received += count
        self.management.handled += count

    @invariant()
    def both_know_the_same(self) -> None:
        assert self.management.proved == self.told
        assert self.management.answer() == f'<a xmlns="urn:xmpp:sm:3" h="{self.received % WRAP}"/>'.encode()


Counting.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestCounting = Counting.TestCase
