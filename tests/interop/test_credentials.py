"""What a link tells of itself, its log and its reprs never show what it logs in with."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pcj import Config, Event
from pcj import establishment as establishment_module
from pcj.protocol import Negotiator
from pcj.protocol.actions import Action, Write
from tests.interop.links import Pair, Watched, links, ready, run, settle, the_pair
from tests.interop.servers import Jabberd2, Prosody, RealServer, Workspace

# Not the ordinary ones, which are the accounts' names or words of our own.
PASSWORD = "Zr7-kelp=Moor"
SECRET = "Quill+93/ember"
WRONG = "Vx4-not.this_one"

#: Elements of a negotiation, of ours and of the server's, whose text is a credential or a proof of one.
PROOFS = re.compile(r"<(?:\w+:)?(auth|response|challenge|success|handshake|password|digest)\b[^>]*>([^<]+)</", re.ASCII)
#: What in such a text is no secret: the parts of SASL's messages that travel in the open.
PROOF_PARTS = re.compile(r"(?:,p=|(?:^|,)(?:v|response|rspauth)=)\"?([^,\"]+)", re.ASCII)


class Wire:
    """What a negotiation says and hears, as it is inside TLS."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.text = ""
        wire = self

        class Tapped(Negotiator):
            def start(self, now: float) -> list[Action]:
                return wire.note(super().start(now))

            def receive_data(self, data: bytes, now: float) -> list[Action]:
                wire.text += data.decode(errors="replace")
                return wire.note(super().receive_data(data, now))

            def tls_started(self, facts: Any, now: float) -> list[Action]:
                return wire.note(super().tls_started(facts, now))

            def computed(self, result: object, now: float) -> list[Action]:
                return wire.note(super().computed(result, now))

        monkeypatch.setattr(establishment_module, "Negotiator", Tapped)

    def note(self, actions: list[Action]) -> list[Action]:
        self.text += "".join(action.data.decode() for action in actions if isinstance(action, Write))
        return actions

    def proofs(self) -> dict[str, str]:
        """Every credential and proof, by where it was seen: whole, decoded, and the decisive part of it."""
        found: dict[str, str] = {}
        for element, text in PROOFS.findall(self.text):
            found[f"<{element}>"] = text
            if element in ("auth", "response", "challenge", "success"):
                decoded = base64.b64decode(text).decode()
                for part in PROOF_PARTS.findall(decoded):
                    found[f"<{element}> {part[:4]}"] = part
        return found


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@pytest.fixture(scope="module")
def servers(workspace: Workspace, prosody: Prosody, jabberd2: Jabberd2) -> Iterator[dict[str, RealServer]]:
    """Prosody and jabberd2 with passwords that are found nowhere else. Skipped where the usual ones are."""
    del prosody, jabberd2
    first, second = Prosody(workspace), Jabberd2(workspace)
    for server in (first, second):
        server.accounts = tuple((name, PASSWORD) for name, _ in server.accounts)
        server.component_secret = SECRET
    # Its own parts log in as the first.
    second.router_users = (second.router_users[0], *[(name, PASSWORD) for name, _ in second.router_users[1:]])
    with first, second:
        yield {server.name: server for server in (first, second)}


def secrets_of(config: Config, wire: Wire) -> dict[str, str]:
    """All that must not be shown."""
    proofs = wire.proofs()
    assert proofs, "nothing was seen on the wire: this test would prove nothing"
    password = config.password
    assert isinstance(password, str)
    plain = {
        "the password": password,
        "its base64": base64.b64encode(password.encode()).decode().rstrip("="),
        "PLAIN": base64.b64encode(f"\0{config.login}\0{password}".encode()).decode(),
        "its hexadecimal": password.encode().hex(),
    }
    return plain | proofs


def all_said(link: Watched, log: str) -> str:
    """Everything that a link showed, in every form."""
    broker = link.broker
    said = [log, broker.explain(), repr(broker), repr(broker.config), str(broker.config)]
    for status in link.statuses:
        said += [status.to_json(), repr(status), str(status), repr(status.error), str(dict(status.detail))]
        cause = status.error
        while cause is not None:
            said += [repr(cause), str(cause), repr(vars(cause)) if hasattr(cause, "__dict__") else ""]
            cause = cause.__cause__ or cause.__context__
        if status.node is not None:
            for element in status.node.iter():
                said += [element.text or "", *element.attrib.values()]
    return "\n".join(said)


PAIRS_OF_TYPES = [
    (the_pair(name), options)
    for name, options in (
        ("xmpp-prosody", {}),
        ("xmpp-prosody", {"sasl_mechanisms": ("PLAIN",)}),
        ("xmpp-jabberd2", {}),
        ("legacy-prosody", {}),
        ("legacy-jabberd2", {}),
        ("legacy-tls-jabberd2", {}),
        ("jabberd14-prosody", {}),
        ("jabberd14-jabberd2", {}),
        ("jabberd20-jabberd2", {}),
    )
]
each_type = pytest.mark.parametrize(
    ("pair", "options"),
    PAIRS_OF_TYPES,
    ids=[f"{pair}{'-plain' if options else ''}" for pair, options in PAIRS_OF_TYPES],
)


@each_type
def test_a_login_that_succeeds_shows_no_credential(
    pair: Pair,
    options: dict[str, Any],
    servers: dict[str, RealServer],
    wire: Wire,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = pair.broker(servers[pair.server], debug=True, **options)

    async def scenario() -> None:
        with caplog.at_level(logging.DEBUG):
            async with ready(broker) as (link,):
                await settle(link)
        assert len(link.all(Event.PCJ_NODESENT)) > 2
        assert "PCJ_READY" in caplog.text
        said = all_said(link, caplog.text)
        shown = {name for name, secret in secrets_of(broker.config, wire).items() if secret in said}
        assert shown == set()
        assert "[redacted]" in said

    run(scenario())


@each_type
def test_a_login_that_fails_shows_no_credential(
    pair: Pair,
    options: dict[str, Any],
    servers: dict[str, RealServer],
    wire: Wire,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = pair.broker(servers[pair.server], debug=True, password=WRONG, **options)

    async def scenario() -> None:
        with caplog.at_level(logging.DEBUG):
            async with links(broker) as (link,):
                failure = await link.fails()
        said = all_said(link, caplog.text) + repr(failure)
        shown = {name for name, secret in secrets_of(broker.config, wire).items() if secret in said}
        assert shown == set()

    run(scenario())
