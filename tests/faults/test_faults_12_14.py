"""Faults 12 to 14 of POE::Component::Jabber 3.00, one test for each: it fails on what the original did."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import permutations, product

import pytest

from pcj import JABBERD20_COMPONENT, LEGACY, XMPP, Event, Phase, Retry
from pcj.namespaces import CLIENT, SASL
from pcj.testing import Server, ServerOptions
from tests.faults.links import SHUTDOWN, Kind, failure_of, kind_of, mechanisms, success
from tests.shell.links import DOMAIN, SECRET, Record, Wire, run, scripted

# ---- 12

#: How Prosody's mod_legacyauth answers a digest, which it does not know.
_FIELDS = "<iq id='{id}' type='result'><query xmlns='jabber:iq:auth'><username/><password/><resource/></query></iq>"
_RESULT = "<iq id='{id}' type='result'/>"


@pytest.mark.parametrize(
    ("answers", "ready"),
    [
        ([_FIELDS], False),
        (["<iq id='AUTH' type='result'/>", _FIELDS], False),
        (["<iq id='{id}' type='result' from='juliet@localhost/balcony'/>", _FIELDS], False),
        (["<iq id='AUTH' type='result'/>", _RESULT], True),
        ([_RESULT], True),
    ],
    ids=["fields", "another id", "another sender", "another id first", "result"],
)
def test_fault_12_legacy_takes_an_empty_result_from_its_server_alone_for_success_and_jid_is_true_from_ready_on(
    answers: list[str], ready: bool
) -> None:
    """Fault 12: "LEGACY takes any `result` with id AUTH for success (Prosody's field list: READY, then every stanza
    bounces); `jid` is set before it is true"."""

    async def main() -> None:
        async def script(wire: Wire) -> None:
            await wire.header(CLIENT)
            identity = await wire.request()
            wire.send("".join(answers).replace("{id}", identity))
            await wire.close()

        async with scripted(script) as at:
            broker = kind_of(LEGACY).broker(at.port, jid="romeo@localhost")  # the resource is one of our own making
            said: list[tuple[str, str, str]] = []
            broker.subscribe("*", lambda status: said.append((status.event, broker.jid, broker.sid)))
            if ready:
                await broker.connect()
                assert re.fullmatch("romeo@localhost/pcj-.+", broker.jid)
                event, *session = said.pop()
                assert (event, session) == (Event.PCJ_READY, [broker.jid, "s1"])
            else:
                failure, record = await failure_of(broker)
                assert failure.phase is Phase.AUTHENTICATE
                assert failure.retry is Retry.FATAL
                assert "password, resource, username" in str(failure)
                assert record.since("AUTHNEGOTIATE") == ["NODESENT", "AUTHFAIL", *SHUTDOWN]
            assert Event.PCJ_AUTHNEGOTIATE in {event for event, *_ in said}
            assert {(jid, sid) for _, jid, sid in said} == {("romeo@localhost", "")}
            await broker.shutdown()

    run(main)


# ---- 13


@pytest.mark.parametrize("length", [1, 57, 500])  # 57 octets fill a line of MIME
@pytest.mark.parametrize("kind", [kind_of(XMPP), kind_of(JABBERD20_COMPONENT)], ids=str)
def test_fault_13_plain_is_base64_in_one_line_and_a_jabberd20_component_logs_in_with_it(
    kind: Kind, length: int
) -> None:
    """Fault 13: "PLAIN carries line breaks in its base64; PLAIN for JABBERD20_COMPONENT cannot work"."""

    async def main() -> None:
        routed = kind.connection_type == JABBERD20_COMPONENT
        password = "x" * length
        came: list[str] = []

        async def script(wire: Wire) -> None:
            await kind.header(wire)
            wire.features(mechanisms("PLAIN"))
            came.append(await wire.until("</auth>"))
            wire.send(f"<failure xmlns='{SASL}'><not-authorized/></failure>")
            await wire.close()

        async with scripted(script) as at:
            failure, _ = await failure_of(kind.broker(at.port, password=password))
            assert failure.condition == "not-authorized"
        found = re.search("<auth [^>]*>([^<]*)</auth>", came[0])
        assert found is not None
        assert re.fullmatch("[A-Za-z0-9+/]+={0,2}", found[1])
        name = "jabberd" if routed else "romeo"
        assert base64.b64decode(found[1], validate=True) == f"\0{name}\0{password}".encode()

        async with Server(
            accounts={name: password},
            router_users={name: password},
            components={DOMAIN: "not this"},
            options=ServerOptions(mechanisms=("PLAIN",), router_mechanisms=("PLAIN",)),
        ) as real:
            broker = kind.broker(
                real.router_port if routed else real.client_port,
                password=password,
                require_tls=True,
                allow_plain=False,
                ca_file=real.ca_file,
                tls_name="localhost",
            )
            await broker.connect()
            (session,) = real.sessions
            assert (session.jid, session.mechanism, session.secure) == (kind.jid, "PLAIN", True)
            await broker.shutdown()

    run(main)


# ---- 14

_ORDERED = ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "PLAIN")  # best first
#: What a server may list, in its own order.
_LISTS = [
    *permutations(_ORDERED[2:]),
    _ORDERED[::-1],
    ("SCRAM-SHA-1", "SCRAM-SHA-256"),
    *((name,) for name in _ORDERED),
]


async def _the_order_of(names: tuple[str, ...]) -> None:
    """The server lists these, in this order; the best of them is used."""
    async with Server(accounts={"romeo": SECRET}, options=ServerOptions(mechanisms=names, direct_tls_port=None)) as at:
        broker = kind_of(XMPP).broker(at.client_port, require_tls=True, ca_file=at.ca_file)
        record = Record(broker)
        await broker.connect()
        best = min(names, key=_ORDERED.index)
        assert record.one(Event.PCJ_AUTHNEGOTIATE).detail["mechanism"] == best
        assert [session.mechanism for session in at.sessions] == [best]
        await broker.shutdown()
        record.check()


def _coded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


async def _scram(wire: Wire, algorithm: str, password: str) -> bytes:
    """The server's side up to its proof (RFC 5802 3), which is the right one for `password`."""
    came = re.search(">([^<]+)<", await wire.until("</auth>"))
    assert came is not None
    client_first = base64.b64decode(came[1]).decode().removeprefix("n,,")
    server_first = f"{client_first.partition('r=')[2]}theirs"
    server_first = f"r={server_first},s={_coded('salt')},i=4096"
    wire.send(f"<challenge xmlns='{SASL}'>{_coded(server_first)}</challenge>")
    came = re.search(">([^<]+)<", await wire.until("</response>"))
    assert came is not None
    client_final = base64.b64decode(came[1]).decode().rpartition(",p=")[0]
    salted = hashlib.pbkdf2_hmac(algorithm, password.encode(), b"salt", 4096)
    key = hmac.digest(salted, b"Server Key", algorithm)
    return hmac.digest(key, f"{client_first},{server_first},{client_final}".encode(), algorithm)


async def _digest_md5(wire: Wire) -> None:
    """The server's side of RFC 2831 up to its proof."""
    await wire.until("<auth")
    await wire.until(">")
    challenge = 'realm="localhost",nonce="n",qop="auth",charset=utf-8,algorithm=md5-sess'
    wire.send(f"<challenge xmlns='{SASL}'>{_coded(challenge)}</challenge>")
    await wire.until("</response>")


async def _a_proof(mechanism: str, proof: str) -> None:
    """A server that does not know the password, and says success all the same."""

    async def script(wire: Wire) -> None:
        await wire.header(CLIENT, version="1.0")
        wire.features(mechanisms(mechanism))
        if mechanism == "DIGEST-MD5":
            await _digest_md5(wire)
            said = f"rspauth={'0' * 32}"
        else:
            algorithm = mechanism.removeprefix("SCRAM-").replace("-", "").lower()
            said = f"v={_coded(await _scram(wire, algorithm, 'a guess'))}"
        if proof == "wrong, in a challenge":
            wire.send(f"<challenge xmlns='{SASL}'>{_coded(said)}</challenge>")
            wire.send(success())
        else:
            wire.send(success(_coded(said) if proof == "wrong" else ""))
        await wire.close()

    async with scripted(script) as at:
        failure, record = await failure_of(kind_of(XMPP).broker(at.port))
        assert failure.phase is Phase.AUTHENTICATE
        assert "password" in str(failure) or "proof" in str(failure) or "prove" in str(failure)
        assert record.since("AUTHNEGOTIATE") == ["NODESENT", "NODESENT", "AUTHFAIL", *SHUTDOWN]


async def _the_right_proof(mechanism: str) -> None:
    """What tells the script above from one that fails for another reason."""

    async def script(wire: Wire) -> None:
        await wire.header(CLIENT, version="1.0")
        wire.features(mechanisms(mechanism))
        algorithm = mechanism.removeprefix("SCRAM-").replace("-", "").lower()
        wire.send(success(_coded(b"v=" + _coded(await _scram(wire, algorithm, SECRET)).encode())))
        await wire.header(CLIENT, version="1.0")
        wire.features("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>")
        await wire.bind()
        await wire.close()

    async with scripted(script) as at:
        broker = kind_of(XMPP).broker(at.port)
        await broker.connect()
        await broker.shutdown()


_SCRAMS = _ORDERED[:3]
_PROOFS = [*product(_ORDERED[:4], ("wrong", "missing", "wrong, in a challenge"))]


@pytest.mark.parametrize(
    "side",
    [
        *(pytest.param(partial(_the_order_of, names), id=" ".join(names)) for names in _LISTS),
        *(pytest.param(partial(_a_proof, *each), id=" ".join(each)) for each in _PROOFS),
        *(pytest.param(partial(_the_right_proof, name), id=f"{name} right") for name in _SCRAMS),
    ],
)
def test_fault_14_our_order_of_mechanisms_wins_scram_is_known_and_success_without_the_servers_proof_is_none(
    side: Callable[[], Awaitable[None]],
) -> None:
    """Fault 14: "The first acceptable mechanism in the *server's* order wins; SCRAM is unknown; the server's proof is
    not checked"."""

    async def main() -> None:
        await side()

    run(main)
