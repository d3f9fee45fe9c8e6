"""Machines that play hostile servers, step by step; hypothesis looks for the shortest play that breaks a rule.

They share their rules with the targets of `fuzz/`, but draw structured moves where atheris changes bytes. PCJ_FIRE=n in
the environment plays n of each.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from fuzz import witness
from fuzz.good_server import NAMESPACES, PASSWORD, USER
from fuzz.negotiation import Conversation
from fuzz.targets import jid as addresses
from pcj.errors import SaslError
from pcj.jid import JID, same_address
from pcj.namespaces import CLIENT
from pcj.protocol import dialect_of
from pcj.protocol.actions import Established
from pcj.sasl import MECHANISMS, Challenge, Compute, Credentials, Limits, Success
from pcj.sasl.server import answer
from pcj.sasl.steps import NO_CHANNEL, Respond
from pcj.stanza import Node
from pcj.xmlstream import ReadyParser

PLAYS = int(os.environ.get("PCJ_FIRE", "25"))
SETTINGS = settings(
    max_examples=PLAYS,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
FEATURES = f"<stream:features><mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms></stream:features>"
ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"
#: What a server may say at any time.
SAID = st.sampled_from(
    [
        b"<stream:features/>",
        FEATURES.encode(),
        b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        f"<success xmlns='{SASL}'/>".encode(),
        f"<success xmlns='{SASL}'>dj1BQUFB</success>".encode(),
        f"<challenge xmlns='{SASL}'/>".encode(),
        f"<failure xmlns='{SASL}'><invalid-mechanism/></failure>".encode(),
        f"<stream:error><conflict xmlns='{ERRORS}'/></stream:error>".encode(),
        f"<stream:error><see-other-host xmlns='{ERRORS}'>a.example:99999</see-other-host></stream:error>".encode(),
        b"<message from='a@b'><body>hi</body></message>",
        b"<iq type='result' id='token-2-of-the-fuzzer'/>",
        b"<iq type='error' id='token-2-of-the-fuzzer'><error type='modify'/></iq>",
        b"<handshake/>",
        b"<bind/>",
        b"<presence/>",
        b"</stream:stream>",
        b"<!-- -->",
        b" ",
        b"text",
        b"<",
        b"\x00",
    ]
)
EDITS = st.builds(
    lambda at, gone, text: bytes([at, gone]) + text,
    st.integers(0, 255),
    st.integers(0, 40),
    st.one_of(st.binary(max_size=8), SAID),
)
STANZAS = st.sampled_from(
    [
        b"<message><body>hi</body></message>",
        b"<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
        b"<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></message>",
        b"<route><message xmlns='jabber:client'/></route>",
        b"<presence/>",
    ]
)


class LinkMachine(RuleBasedStateMachine):
    """One link of one type, from its first byte to the end, with a server that does as it likes.

    The rules of the negotiation are `fuzz.negotiation.Conversation`'s; behind READY, what is whole comes in order, and
    nothing comes behind an end.
    """

    connection_type = "XMPP"
    letters: tuple[str, ...] = ("5", "1", "3n", "4np", "6", "5z", "2w", "5d")

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.conversation = Conversation(self.connection_type, data.draw(st.sampled_from(self.letters)).encode())
        self.parser: ReadyParser | None = None
        self.expected: list[bytes] = []
        self.nodes: list[Node] = []

    def _negotiates(self) -> bool:
        return self.conversation.end is None

    def _is_ready(self) -> bool:
        return self.parser is not None

    @precondition(_negotiates)
    @rule(times=st.integers(1, 6))
    def do_what_is_due(self, times: int) -> None:
        for _ in range(times):
            self.conversation.move(b"P")

    @precondition(_negotiates)
    @rule(edit=EDITS)
    def do_it_with_an_edit(self, edit: bytes) -> None:
        self.conversation.move(b"P" + edit)

    @precondition(_negotiates)
    @rule(said=SAID)
    def say(self, said: bytes) -> None:
        self.conversation.say(said)

    @precondition(_negotiates)
    @rule(move=st.sampled_from([b"T", b"K", b"Rs", b"R", b"W9", b"W3"]))
    def do_something_else(self, move: bytes) -> None:
        self.conversation.move(move)

    @precondition(_negotiates)
    @rule(move=st.sampled_from([b"E", b"B", b"F", b"W99"]))
    def end_it(self, move: bytes) -> None:
        self.conversation.move(move)

    @precondition(_negotiates)
    @rule(sizes=st.lists(st.integers(1, 30), max_size=5))
    def cut(self, sizes: list[int]) -> None:
        self.conversation.sizes = sizes

    @precondition(lambda self: self.parser is None and isinstance(self.conversation.end, Established))
    @rule()
    def go_on_when_ready(self) -> None:
        end = self.conversation.end
        assert isinstance(end, Established)
        dialect = dialect_of(self.connection_type)
        self.parser = ReadyParser(end.namespaces, dialect.xmlns if dialect.canonical else "")
        self.nodes = self.parser.feed(end.leftover)

    @precondition(_is_ready)
    @rule(stanza=STANZAS, size=st.integers(1, 40))
    def send_a_stanza(self, stanza: bytes, size: int) -> None:
        assert self.parser is not None
        broken = self.parser.failure is not None or self.parser.closed
        came = [node for at in range(0, len(stanza), size) for node in self.parser.feed(stanza[at : at + size])]
        assert not (broken and came), "something came behind an end"
        if self.parser.failure is None and not self.parser.closed and not self.parser.begun:
            assert len(came) == 1
        if came and stanza.startswith((b"<message", b"<iq")) and dialect_of(self.connection_type).canonical:
            assert came[0].tag.startswith(f"{{{CLIENT}}}")

    @precondition(_is_ready)
    @rule(said=SAID)
    def say_when_ready(self, said: bytes) -> None:
        assert self.parser is not None
        self.parser.feed(said)

    @rule(said=SAID)
    def go_on_after_the_end(self, said: bytes) -> None:
        if not self._negotiates():
            assert self.conversation.negotiator.receive_data(said, 1e6) == []

    @invariant()
    def it_has_a_deadline(self) -> None:
        if getattr(self, "conversation", None) is not None and self.conversation.end is None:
            assert self.conversation.negotiator.next_deadline() is not None

    def teardown(self) -> None:
        if getattr(self, "conversation", None) is not None:
            self.conversation.finish()


class LegacyMachine(LinkMachine):
    connection_type = "LEGACY"
    letters = ("", "l", "n", "nt", "t", "nwz")


class ComponentMachine(LinkMachine):
    connection_type = "JABBERD14_COMPONENT"
    letters = ("", "l", "n", "nwz")


class RouterMachine(LinkMachine):
    connection_type = "JABBERD20_COMPONENT"
    letters = ("5", "3", "3n", "6", "5z")


@pytest.mark.parametrize("machine", [LinkMachine, LegacyMachine, ComponentMachine, RouterMachine])
def test_whatever_a_server_does_a_link_keeps_its_rules(machine: type[LinkMachine]) -> None:
    assert machine.connection_type in NAMESPACES
    run = machine.TestCase
    run.settings = SETTINGS
    run().runTest()


# ---- a man in the middle of SCRAM


class MiddleMachine(RuleBasedStateMachine):
    """Our client and our server, and somebody between who may change, repeat, forget or make up each message.

    If both come to believe in success, then every message meant to the one what it meant to the other.
    """

    names = ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512")

    @initialize(name=st.sampled_from(names), in_success=st.booleans())
    def begin(self, name: str, in_success: bool) -> None:
        mechanism = next(each for each in MECHANISMS if each.name == name)
        limits = Limits(min_iterations=1, max_iterations=64)
        self.client = mechanism.exchange(Credentials(USER, PASSWORD), "ournonce", limits, NO_CHANNEL)
        self.name = name
        self.in_success = in_success
        self.server: Any = None
        self.to_server: list[tuple[bytes, bytes]] = []  # as it was said, and as it came
        self.to_client: list[tuple[bytes, bytes]] = []
        self.on_the_way: Respond | Challenge | Success | None = None
        self.client_done = self.server_done = self.over = False
        self._client(next(self.client))

    def _client(self, step: Respond | Compute) -> None:
        while isinstance(step, Compute):
            step = self.client.send(step.run())
        self.on_the_way = step

    def _deliver(self, data: bytes | None) -> None:
        message, self.on_the_way = self.on_the_way, None
        assert message is not None
        said = message.data if message.data is not None else b""
        came = data if data is not None else b""
        try:
            if isinstance(message, Respond):
                self.to_server.append((said, came))
                if self.server is None:
                    self.server = answer(
                        self.name,
                        came,
                        password_of={USER: PASSWORD}.get,
                        nonce="server",
                        iterations=witness.ITERATIONS,
                        proof_in_success=self.in_success,
                    )
                    self.on_the_way = next(self.server)
                else:
                    self.on_the_way = self.server.send(came)
                if isinstance(self.on_the_way, Success):
                    self.server_done = True
            else:
                self.to_client.append((said, came))
                what = Challenge(came) if isinstance(message, Challenge) else Success(data)
                self._client(self.client.send(what))
        except SaslError:
            self.over = True
        except StopIteration:
            self.client_done = self.over = True

    def _goes_on(self) -> bool:
        return not self.over and self.on_the_way is not None

    @precondition(_goes_on)
    @rule()
    def pass_on(self) -> None:
        assert self.on_the_way is not None
        self._deliver(self.on_the_way.data)

    @precondition(_goes_on)
    @rule(
        at=st.floats(0, 1), gone=st.integers(0, 3), text=st.sampled_from([b"", b"A", b"=", b",", b",x=y", b"0", b"y"])
    )
    def pass_on_with_an_edit(self, at: float, gone: int, text: bytes) -> None:
        assert self.on_the_way is not None
        data = self.on_the_way.data or b""
        place = int(at * len(data))
        self._deliver(data[:place] + text + data[place + gone :])

    @precondition(_goes_on)
    @rule(data=st.data())
    def pass_on_another(self, data: st.DataObject) -> None:
        seen = [each for pair in (*self.to_server, *self.to_client) for each in pair]
        made_up = [b"", b"v=AAAA", b"e=other-error", b"r=ournoncex,s=c2FsdA==,i=4", b"n,,n=romeo,r=other", *seen]
        self._deliver(data.draw(st.sampled_from(made_up)))

    @rule()
    def wait(self) -> None:
        """Also when all is over, there is something that can be done."""

    @precondition(_goes_on)
    @rule()
    def turn_a_challenge_into_success(self) -> None:
        if isinstance(self.on_the_way, Challenge):
            self.on_the_way = Success(self.on_the_way.data)

    def teardown(self) -> None:
        if not (getattr(self, "client_done", False) and self.server_done):
            return
        for said, came in self.to_server[:1] + self.to_client[:1]:
            assert said == came, "a message was changed, and both believe"
        (final, final_came), (proof, proof_came) = self.to_server[1], self.to_client[1]
        assert final.rpartition(b",p=")[0] == final_came.rpartition(b",p=")[0]
        assert _proof(final) == _proof(final_came)
        assert _proof(proof) == _proof(proof_came)


def _proof(message: bytes) -> bytes:
    """The octets of p= or v=: base64 can spell the same in more than one way."""
    text = next(part[2:] for part in message.split(b",") if part[:2] in (b"p=", b"v="))
    return witness.decoded(text)


def test_nobody_in_the_middle_changes_what_both_believe() -> None:
    run: Any = MiddleMachine.TestCase
    run.settings = SETTINGS
    run().runTest()


# ---- addresses


PARTS = st.text(
    st.one_of(
        st.sampled_from("abzAZ09.-_@/ \"'<>&:[]%\u00df\u0130\u0131\u03c2\u1e9e\u3002\uff20\u200d\u05d0\u0660\u0345"),
        st.characters(),
    ),
    max_size=12,
)


class AddressMachine(RuleBasedStateMachine):
    """Addresses made of each other: whatever is one stays one, and equal ones are equal in every way."""

    known = Bundle("known")

    @rule(target=known, local=st.none() | PARTS, domain=PARTS, resource=st.none() | PARTS)
    def parse(self, local: str | None, domain: str, resource: str | None) -> str:
        text = (f"{local}@" if local is not None else "") + domain + (f"/{resource}" if resource is not None else "")
        addresses.one_input(text.encode("utf-8", "surrogatepass"))
        try:
            return str(JID.parse(text))
        except addresses.ALLOWED:
            return "example.org"

    @rule(a=known, b=known)
    def compare(self, a: str, b: str) -> None:
        one, other = JID.parse(a), JID.parse(b)
        assert (one == other) == (a == b) == same_address(a, b)
        assert (hash(one) == hash(other)) or one != other

    @rule(target=known, a=known, b=known)
    def put_together(self, a: str, b: str) -> str:
        one, other = JID.parse(a), JID.parse(b)
        made = JID(one.local, other.domain, one.resource)
        assert made.bare == JID(one.local, other.domain)
        assert JID.parse(str(made)) == made
        return str(made)

    @rule(a=known)
    def shout(self, a: str) -> None:
        """The case of a domain and of ASCII local parts tells nothing; that of a resource does."""
        one = JID.parse(a)
        if one.domain.isascii() and (one.local is None or one.local.isascii()):
            loud = f"{one.local.upper()}@" if one.local is not None else ""
            behind = f"/{one.resource}" if one.resource is not None else ""
            assert JID.parse(f"{loud}{one.domain.upper()}{behind}") == one


def test_addresses_keep_their_rules_however_they_are_made() -> None:
    run: Any = AddressMachine.TestCase
    run.settings = SETTINGS
    run().runTest()
