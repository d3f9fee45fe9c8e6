"""Where a server sends us on to: <see-other-host/> (RFC 6120 4.9.3.19), from its bytes to `pcj.route`.

Invariant. It is a name or an address and perhaps a port, or `ConnectionFailed` says why not, in a bounded sentence that
is safe to print. The name is printable ASCII without anything that could be a path, an option or a credential; the port
is one. TLS stays required where it stood or was, under the same name to look for. As text it means the same again.

Input: the text of the element; before the first line break a "g" if TLS stood, and "c" for a component.
"""

from __future__ import annotations

import asyncio
import re
from functools import cache

from fuzz.common import head_and_body, shown_safely
from fuzz.xmlwords import DICTIONARY as XML
from pcj.config import Config
from pcj.errors import ConnectionFailed
from pcj.jid import JID
from pcj.namespaces import STREAM_ERRORS, STREAMS
from pcj.protocol import dialect_of
from pcj.protocol.negotiator import stream_error_received
from pcj.route import Route
from pcj.serialize import escape_text
from pcj.transport.names import ip_literal
from pcj.xmlstream import ReadyParser

__all__ = ["ALLOWED", "DICTIONARY", "MAX_BYTES", "one_input"]

ALLOWED = (ConnectionFailed,)
MAX_BYTES = 512
DICTIONARY: tuple[bytes, ...] = (
    b"example.org",
    b"b.example.org:5223",
    b"[::1]:5222",
    b"[fe80::1%25eth0]",
    b"127.0.0.1:22",
    b"localhost",
    b":65536",
    b":0",
    b"/var/run/x",
    b"user@",
    b"http://",
    "bücher.example".encode(),
    "。".encode(),
    b"xn--",
    *XML[-6:],
)
NAME = re.compile(r"[!-~]{1,253}")


@cache
def _route(connection_type: str) -> Route:
    """A round whose only endpoint is taken; its TLS is not required by itself."""
    jid = "romeo@example.org" if connection_type == "XMPP" else "bot.example.org"
    config = Config(connection_type=connection_type, jid=jid, password="p", host="example.org", require_tls=False)
    route = Route(config, dialect_of(connection_type), "127.0.0.1", 5222)
    asyncio.run(route.find())
    route.take()
    return route


def one_input(data: bytes) -> None:
    head, body = head_and_body(data)
    text = body.decode("utf-8", "surrogateescape")
    guarded = b"g" in head
    route = _route("JABBERD14_COMPONENT" if b"c" in head else "XMPP")
    _follow(route, text, guarded=guarded)
    said = _through_the_stream(text)
    if said:
        _follow(route, said, guarded=guarded)


def _follow(route: Route, text: str, *, guarded: bool) -> None:
    assert route.endpoint is not None
    try:
        there = route.elsewhere(text, guarded=guarded, sent_by="example.org")
    except ALLOWED as error:
        shown_safely(error)
        return
    assert there.port is None or 1 <= there.port <= 65535
    assert NAME.fullmatch(there.host), there.host
    assert not set(there.host) & set("/@\\ "), there.host
    assert not there.host.startswith("/")
    assert ":" not in there.host or ip_literal(there.host) is not None, there.host
    assert there.config.require_tls or not guarded, "TLS is no longer required"
    assert there.tls_name == "example.org", "another name is looked for"
    again = route.elsewhere(str(there), guarded=guarded)
    assert (again.host, again.port) == (there.host, there.port), "as text it means something else"


def _through_the_stream(text: str) -> str:
    """The same as a server says it, as far as XML can carry it."""
    parser = ReadyParser({"": "jabber:client", "stream": STREAMS}, "jabber:client")
    element = f"<see-other-host xmlns='{STREAM_ERRORS}'>{escape_text(text)}</see-other-host>"
    nodes = parser.feed(f"<stream:error>{element}</stream:error>".encode("utf-8", "surrogateescape"))
    if not nodes:
        assert parser.failure is not None
        return ""
    error = stream_error_received(nodes[0], JID.parse("romeo@example.org"), component=False)
    assert error.condition == "see-other-host"
    assert len(error.see_other_host) <= len(text)
    return error.see_other_host
