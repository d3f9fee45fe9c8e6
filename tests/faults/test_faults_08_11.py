"""Faults 8 to 11 of POE::Component::Jabber 3.00, one test for each: it fails on what the original did."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from pcj import (
    JABBERD14_COMPONENT,
    JABBERD20_COMPONENT,
    LEGACY,
    XMPP,
    Broker,
    ConnectionFailed,
    Event,
    FilterError,
    Phase,
    RequestTimeout,
    ping,
)
from pcj.namespaces import JABBERD_COMPONENT, TLS
from pcj.testing import ServerOptions
from pcj.testing.certificates import make_certificate
from pcj.transport.resolve import resolve
from tests.faults.links import KINDS, NEVER, SHUTDOWN, SOON, Kind, bodies, failure_of, kind_of, opening_in_tls
from tests.shell.links import SECRET, Record, Wire, run, scripted, server
from tests.shell.transport.nameserver import name_server

# ---- 8


def _certificate(folder: Path, whose: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the file of the authority that the broker trusts."""
    ca_file = folder / "ca.pem"
    if whose == "expired":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        past = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)
        authority.issue_cert("localhost", not_before=past[0], not_after=past[1]).configure_cert(context)
        return context, ca_file
    context = make_certificate(("elsewhere.example" if whose == "another name" else "localhost",), ca_file)
    if whose == "another authority":
        make_certificate(("localhost",), ca_file)
    return context, ca_file


@pytest.mark.parametrize(
    ("server_does", "says"),
    [
        ("good", ""),
        ("another authority", "certificate"),
        ("another name", "elsewhere.example"),
        ("expired", "expired"),
        ("failure", "<failure>"),
        ("no TLS", "TLS"),
        ("the end", "TLS"),
        ("silence", "no answer"),
    ],
)
def test_fault_08_sslsuccess_is_a_handshake_with_the_right_certificate_for_the_name_sent_and_else_comes_sslfail(
    server_does: str, says: str, tmp_path: Path
) -> None:
    """Fault 8: "SSLSUCCESS fires before the handshake; certificates are not checked; no SNI; no peer could provoke
    SSLFAIL"."""

    async def main() -> None:
        context, ca_file = _certificate(tmp_path, server_does)
        names_sent: list[str | None] = []
        fired_before: list[str] = []

        def hello(tls: object, name: str | None, context: object) -> None:
            """Called as the ClientHello is read: none of the handshake is answered yet."""
            names_sent.append(name)
            fired_before.extend(record.names)

        context.sni_callback = hello

        async def script(wire: Wire) -> None:
            if server_does == "failure":
                await opening_in_tls(wire, f"<failure xmlns='{TLS}'/>")
            else:
                await opening_in_tls(wire)
            if server_does in ("failure", "silence"):
                await wire.rest()
            elif server_does == "no TLS":
                wire.send("<message>this is no TLS record</message>")
                await wire.rest()
            elif server_does != "the end":
                await wire.writer.start_tls(context)
                await kind_of(XMPP).ready(wire)
                await wire.close()

        async with scripted(script) as at:
            broker = kind_of(XMPP).broker(
                at.port,
                require_tls=True,
                ca_file=str(ca_file),
                tls_timeout=SOON if server_does == "silence" else NEVER,
            )
            record = Record(broker)
            if server_does == "good":
                await broker.connect()
                assert fired_before[-2:] == ["SSLNEGOTIATE", "NODESENT"]
                assert "SSLSUCCESS" not in fired_before
                assert names_sent == ["localhost"]  # the account's domain, and not the address 127.0.0.1
                facts = record.one(Event.PCJ_SSLSUCCESS).detail
                assert (facts["name"], facts["verified"]) == ("localhost", True)
                assert "SSLFAIL" not in record.names
                await broker.shutdown()
            else:
                with pytest.raises(ConnectionFailed) as caught:
                    await broker.connect()
                failure = caught.value.failure
                assert failure.phase is Phase.TLS
                assert says in str(failure)
                assert record.names[:6] == ["CONNECT", "CONNECTING", "ATTEMPT", "CONNECTED", "STREAMSTART", "NODESENT"]
                end = [name for name in record.names[6:] if name != "STREAMEND"]  # which needs a stream that stands
                assert end == ["SSLNEGOTIATE", "NODESENT", "SSLFAIL", *SHUTDOWN[1:]]
            record.check()

    run(main)


# ---- 9

MALFORMED = [
    "<message><body></message>",
    "<message a=1/>",
    "<message>&nbsp;</message>",
    "<message a='1' a='2'/>",
    "<message><x:y/></message>",
    "<message>\x01</message>",
    "</message>",
]


async def _malformed_xml_while_ready(text: str) -> None:
    kind, came = kind_of(JABBERD14_COMPONENT), list[str]()

    async def bad(wire: Wire) -> None:
        await kind.ready(wire, behind=kind.message("good") + text)
        came.append(await wire.rest())

    async def good(wire: Wire) -> None:
        await kind.ready(wire)
        await wire.close()

    async with scripted(bad, good) as at:
        broker = kind.broker(at.port)
        record = Record(broker)
        gone = broker.events(Event.SESSION_LOST)
        await broker.connect()
        await anext(gone)
        assert bodies(record) == ["good"]
        end = ["STREAM_ERROR", "STREAMEND", "SOCKETDISCONNECT", "SESSION_LOST"]
        assert record.since("NODERECEIVED") == end
        await broker.connect()  # the broker lives on
        await broker.shutdown()
        record.check()
    assert ("<restricted-xml " if "&nbsp;" in text else "<not-well-formed ") in came[0]  # RFC 6120 4.9.3.18, 11.1
    assert came[0].endswith("</stream:stream>")


async def _malformed_xml_in_the_negotiation(text: str) -> None:
    async def script(wire: Wire) -> None:
        await kind_of(LEGACY).request(wire)
        wire.send(text)
        await wire.rest()

    async with scripted(script) as at:
        failure, record = await failure_of(kind_of(LEGACY).broker(at.port))
        assert failure.phase is Phase.AUTHENTICATE
        assert record.since("AUTHFAIL") == SHUTDOWN


async def _a_bad_expression(expression: str) -> None:
    kind, asked = kind_of(JABBERD14_COMPONENT), asyncio.Event()

    async def script(wire: Wire) -> None:
        await kind.ready(wire)
        await asked.wait()
        wire.send(kind.message("good"))
        await wire.close()

    async with scripted(script) as at:
        broker = kind.broker(at.port)
        record = Record(broker)
        received = broker.events(Event.PCJ_NODERECEIVED)
        await broker.connect()
        with pytest.raises(FilterError):
            broker.add_filter("BAD", expression)
        broker.add_filter("GOOD", "/message/body")
        asked.set()
        await anext(received)
        assert record.since("READY") == ["GOOD", "NODERECEIVED"]  # the link has not noticed
        await broker.shutdown()
        record.check()


async def _values_that_are_no_node_sets() -> None:
    selected = {
        "count(/message/body)": 1.0,
        "string(/message/body)": "good",
        "boolean(/message/body)": True,
        "/message/body = 'good'": True,
        "string-length(/message/body)": 4.0,
    }
    refused = ["count(/message/subject)", "string(/message/subject)", "boolean(/message/subject)", "false()", "1 - 1"]
    kind = kind_of(JABBERD14_COMPONENT)

    async def script(wire: Wire) -> None:
        await kind.ready(wire, behind=kind.message("good"))
        await wire.close()

    async with scripted(script) as at:
        broker = kind.broker(at.port)
        record = Record(broker)
        received = broker.events(Event.PCJ_NODERECEIVED)
        for expression in (*selected, *refused):
            broker.add_filter(f"FILTER {expression}", expression)
        await broker.connect()
        await anext(received)
        assert record.since("READY") == [*(f"FILTER {expression}" for expression in selected), "NODERECEIVED"]
        told = [record.one(f"FILTER {expression}").detail for expression in selected]
        assert {str(each["expression"]): each["selected"] for each in told} == selected
        await broker.shutdown()
        record.check()


@pytest.mark.parametrize(
    "side",
    [
        *(pytest.param(partial(_malformed_xml_while_ready, text), id=f"ready {text!a}") for text in MALFORMED),
        pytest.param(partial(_malformed_xml_in_the_negotiation, MALFORMED[0]), id=f"negotiating {MALFORMED[0]}"),
        *(
            pytest.param(partial(_a_bad_expression, text), id=f"filter {text}")
            for text in ("/message[", "//", "no-such()", "x:y", "$variable", "", "count(1)")
        ),
        pytest.param(_values_that_are_no_node_sets, id="values"),
    ],
)
def test_fault_09_malformed_xml_ends_the_link_alone_a_bad_xpath_is_refused_and_one_without_nodes_matches(
    side: Callable[[], Awaitable[None]],
) -> None:
    """Fault 9: "Malformed XML or a bad XPath kills the process. An expression that yields no node-set (count(),
    string(), boolean()) never matches"."""

    async def main() -> None:
        await side()

    run(main)


# ---- 10


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        *((kind, "behind") for kind in KINDS),
        *((kind_of(name), "before") for name in (XMPP, JABBERD20_COMPONENT)),
        *((kind_of(name), "around") for name in (XMPP, JABBERD20_COMPONENT)),
    ],
    ids=str,
)
def test_fault_10_a_stanza_in_the_same_read_as_the_bind_result_is_told_behind_ready(kind: Kind, where: str) -> None:
    """Fault 10: "A stanza in the same read as the bind result is lost"."""

    async def main() -> None:
        before = kind.message("before") if where != "behind" else ""
        behind = kind.message("behind") if where != "before" else ""

        async def script(wire: Wire) -> None:
            await kind.ready(wire, before=before, behind=behind)
            await wire.close()

        expected = {"before": ["before"], "behind": ["behind"], "around": ["before", "behind"]}[where]
        async with scripted(script) as at:
            broker = kind.broker(at.port)
            record = Record(broker)
            broker.add_filter("HAIL", "/message")
            await broker.connect()  # all came in one read, so all is told when it returns
            assert record.since("READY") == ["HAIL", "NODERECEIVED"] * len(expected)
            assert bodies(record) == expected
            await broker.shutdown()
            record.check()

    run(main)


# ---- 11


async def _a_bind_error(error: str, tries: int) -> None:
    async def script(wire: Wire) -> None:
        await wire.login()
        for _ in range(tries):
            wire.send(f"<iq type='error' id='{await wire.request()}'>{error}</iq>")
        await wire.close()

    async with scripted(script) as at:
        failure, record = await failure_of(kind_of(XMPP).broker(at.port))
        assert failure.phase is Phase.BIND
        asked = ["RTS_START", "NODESENT"] * tries
        assert record.since("BINDNEGOTIATE") == [*asked, "BINDFAIL", *SHUTDOWN]


async def _a_router_error(code: str) -> None:
    async def script(wire: Wire) -> None:
        await kind_of(JABBERD20_COMPONENT).request(wire)
        wire.send(f"<bind xmlns='{JABBERD_COMPONENT}' error='{code}'/>")
        await wire.close()

    async with scripted(script) as at:
        failure, record = await failure_of(kind_of(JABBERD20_COMPONENT).broker(at.port))
        assert failure.phase is Phase.BIND
        assert record.since("BINDNEGOTIATE") == ["RTS_START", "NODESENT", "BINDFAIL", *SHUTDOWN]


async def _silence(connection_type: str, silent_at: Any, phase: Phase, event: str) -> None:
    options = ServerOptions(
        starttls="optional" if silent_at == "tls" else "none",
        direct_tls_port=None,
        plain_without_tls=True,
        router_mechanisms=("PLAIN",),
        session="required",
        silent_at=silent_at,
        close_timeout=SOON,  # it is silent to our close, too
    )
    async with server(options=options) as at:
        port = {XMPP: "client", LEGACY: "client", JABBERD14_COMPONENT: "component", JABBERD20_COMPONENT: "router"}
        deadlines: dict[str, Any] = {f"{each}_timeout": NEVER for each in Phase if each is not Phase.READY}
        deadlines |= {f"{phase}_timeout": SOON, "close_timeout": SOON}
        if silent_at == "tls":
            deadlines |= {"ca_file": at.ca_file, "tls_name": "localhost"}
        broker = kind_of(connection_type).broker(getattr(at, f"{port[connection_type]}_port"), **deadlines)
        failure, record = await failure_of(broker)
        assert failure.phase is phase
        assert failure.expected
        assert failure.came == "nothing"
        end = [name for name in record.since(event) if name != "STREAMEND"]  # no stream stands inside a handshake
        assert end == SHUTDOWN[1:]


async def _unknown(*arguments: object, **options: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def _silence_of_the_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async with name_server({f"_xmpp{s}-client._tcp.montague.example": None for s in ("", "s")}) as (address, _):
        monkeypatch.setattr("pcj.endpoints.resolve", partial(resolve, nameservers=[address]))
        # Then the domain itself is tried (RFC 6120 3.2.2), whose address nobody knows either.
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", _unknown)
        broker = Broker(XMPP, "romeo@montague.example", password=SECRET, resolve_timeout=SOON, connect_timeout=NEVER)
        _, record = await failure_of(broker)
        assert record.names[-1] == "CONNECTFAIL"


async def _silence_of_the_network() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for each in fillers:  # nobody accepts: the kernel answers one or two, and no more
                each.setblocking(False)
                each.connect_ex(address)
            broker = kind_of(XMPP).broker(address[1], connect_timeout=SOON)
            failure, record = await failure_of(broker)
            assert failure.phase is Phase.CONNECT
            assert record.names == ["CONNECT", "CONNECTING", "ATTEMPT", "CONNECTFAIL"]
        finally:
            for each in fillers:
                each.close()


async def _silence_to_a_request_and_to_the_close() -> None:
    kind = kind_of(JABBERD14_COMPONENT)

    async def script(wire: Wire) -> None:
        await kind.ready(wire)
        await wire.rest()

    async with scripted(script) as at:
        broker = kind.broker(at.port, close_timeout=SOON)
        record = Record(broker)
        await broker.connect()
        with pytest.raises(RequestTimeout):
            await broker.return_to_sender(ping(to="localhost"), timeout=SOON)
        assert record.names.count("RTS_FAIL") == 1
        await broker.shutdown()
        assert [name for name in record.since("RTS_FAIL") if name != "SESSION_LOST"] == SHUTDOWN
        record.check()


_BIND_ERRORS = [
    *((f"<error type='{kind}'/>", 1) for kind in ("auth", "wait", "continue", "cancel", "", "unheard-of")),
    ("<error/>", 1),
    ("", 1),
    ("<error code='500'/>", 1),
    ("<error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", 1),
    # It is asked again for another resource; not for ever, either.
    ("<error type='modify'/>", 3),
    ("<error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", 3),
]
_ROUTER_ERRORS = ["400", "403", "409", "", "unheard-of"]
_SILENCES = [
    (XMPP, "accept", Phase.STREAM, "STREAM_ERROR"),
    (XMPP, "header", Phase.STREAM, "STREAM_ERROR"),
    (XMPP, "tls", Phase.TLS, "SSLFAIL"),
    (XMPP, "auth", Phase.AUTHENTICATE, "AUTHFAIL"),
    (XMPP, "bind", Phase.BIND, "BINDFAIL"),
    (XMPP, "session", Phase.SESSION, "SESSIONFAIL"),
    (LEGACY, "accept", Phase.STREAM, "STREAM_ERROR"),
    (LEGACY, "auth", Phase.AUTHENTICATE, "AUTHFAIL"),
    (JABBERD14_COMPONENT, "accept", Phase.STREAM, "STREAM_ERROR"),
    (JABBERD14_COMPONENT, "auth", Phase.AUTHENTICATE, "AUTHFAIL"),
    (JABBERD20_COMPONENT, "accept", Phase.STREAM, "STREAM_ERROR"),
    (JABBERD20_COMPONENT, "header", Phase.STREAM, "STREAM_ERROR"),
    (JABBERD20_COMPONENT, "tls", Phase.TLS, "SSLFAIL"),
    (JABBERD20_COMPONENT, "auth", Phase.AUTHENTICATE, "AUTHFAIL"),
    (JABBERD20_COMPONENT, "bind", Phase.BIND, "BINDFAIL"),
]


@pytest.mark.parametrize(
    "side",
    [
        *(pytest.param(partial(_a_bind_error, *each), id=f"bind error {each[0]!r}") for each in _BIND_ERRORS),
        *(pytest.param(partial(_a_router_error, each), id=f"router {each!r}") for each in _ROUTER_ERRORS),
        *(pytest.param(partial(_silence, *each), id=f"silence {each[0]} {each[1]}") for each in _SILENCES),
        pytest.param(_silence_of_the_name_server, id="silence DNS"),
        pytest.param(_silence_of_the_network, id="silence TCP"),
        pytest.param(_silence_to_a_request_and_to_the_close, id="silence READY"),
    ],
)
def test_fault_11_every_bind_error_ends_the_attempt_and_so_does_a_silent_server_at_its_phases_deadline(
    side: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 11: "Bind errors other than cancel and modify hang for ever. So does a silent server, anywhere"."""

    async def main() -> None:
        await (side(monkeypatch) if side is _silence_of_the_name_server else side())

    run(main)
