"""Rows: no server is found, none is reached, or what is there is no XMPP."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from pcj import Event, Phase
from tests.connect_failures import ways
from tests.connect_failures.row import FAST, FATAL, SLOW, Row
from tests.connect_failures.scripts import DOMAIN

PLAIN, DIRECT = f"_xmpp-client._tcp.{DOMAIN}", f"_xmpps-client._tcp.{DOMAIN}"
NO_RESOLVER = "the system's resolver is replaced, which asks no name server of the test"
NO_KERNEL = "the kernel's answer to connect() is replaced"

RESOLVING: Final = [
    Row(
        number="1",
        what="The domain of the JID does not exist",
        way=ways.named({}),
        sentence="example.org has no SRV records and no address: the name does not exist in DNS. "
        "Check the domain of the JID.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="an address",
        came="said by the test",
        address="",
        tried=(
            (
                "example.org:5222",
                "example.org has no SRV records and no address: the name does not exist in DNS. "
                "Check the domain of the JID.",
            ),
        ),
        instead=NO_RESOLVER,
    ),
    Row(
        number="1b",
        what="The domain is there, and has no server",
        way=ways.named({PLAIN: f"NXDOMAIN {DOMAIN}"}),
        sentence="example.org has neither SRV records nor an address. Check the domain of the JID.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="an address",
        came="said by the test",
        address="",
        tried=(
            (
                "example.org:5222",
                "example.org has neither SRV records nor an address. Check the domain of the JID.",
            ),
        ),
        instead=NO_RESOLVER,
    ),
    Row(
        # What the system says of the name then (it does not exist) may come from its files alone: an outage is none of
        # the user's mistakes.
        number="2",
        what="The name server does not answer (SRV records)",
        way=ways.named({PLAIN: None, DIRECT: None}, resolve_timeout=ways.RESOLVING),
        sentence="No answer from the name server within {resolving} s while looking up _xmpp-client._tcp.example.org.",
        retry=FAST,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="SRV records",
        came="no answer",
        address="",
        tried=(
            (
                "example.org:5222",
                "No answer from the name server within {resolving} s while looking up _xmpp-client._tcp.example.org.",
            ),
        ),
        instead=NO_RESOLVER,
    ),
    Row(
        number="2b",
        what="The name server does not answer (address)",
        way=ways.named({PLAIN: None, DIRECT: None}, socket.EAI_AGAIN, resolve_timeout=ways.RESOLVING),
        sentence="No answer from the name server while looking up the address of example.org.",
        retry=FAST,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="an address",
        came="said by the test",
        address="",
        tried=(("example.org:5222", "No answer from the name server while looking up the address of example.org."),),
        instead=NO_RESOLVER,
    ),
    Row(
        number="2c",
        what="The name server is out of order",
        way=ways.named({PLAIN: "SERVFAIL", DIRECT: "SERVFAIL"}),
        sentence="The name server could not answer what it was asked about _xmpp-client._tcp.example.org.",
        retry=FAST,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="SRV records",
        came="no answer",
        address="",
        tried=(
            (
                "example.org:5222",
                "The name server could not answer what it was asked about _xmpp-client._tcp.example.org.",
            ),
        ),
        instead=NO_RESOLVER,
    ),
    Row(
        number="3",
        what="The domain offers no XMPP",
        way=ways.named({PLAIN: ["0 0 0 ."], DIRECT: ["0 0 0 ."]}),
        sentence="example.org says in DNS that it offers no XMPP to clients (SRV target '.').",
        retry=SLOW,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="SRV records",
        came="SRV target '.'",
        address="",
    ),
    Row(
        number="3b",
        what="The domain offers no TLS from the first byte, and names no other server",
        way=ways.named({DIRECT: ["0 0 0 ."]}),
        sentence="example.org says in DNS that it offers no TLS from the first byte to clients (SRV target '.' for "
        "_xmpps-client), and it has no record for _xmpp-client.",
        retry=SLOW,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="SRV records",
        came="SRV target '.'",
        address="",
    ),
    Row(
        number="3c",
        what="The domain offers no XMPP but in TLS from the first byte, and names no server for that",
        way=ways.named({PLAIN: ["0 0 0 ."]}),
        sentence="example.org says in DNS that it offers no XMPP to clients (SRV target '.' for _xmpp-client), and it "
        "has no record for _xmpps-client.",
        retry=SLOW,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="SRV records",
        came="SRV target '.'",
        address="",
    ),
    Row(
        number="4",
        what="DNS names a server that does not exist",
        way=ways.named({PLAIN: ["0 0 5222 xmpp1.example.org."]}),
        sentence="DNS names xmpp1.example.org:5222 as the server, but that name has no address.",
        retry=SLOW,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="an address",
        came="said by the test",
        address="",
        tried=(
            (
                "xmpp1.example.org:5222",
                "DNS names xmpp1.example.org:5222 as the server, but that name has no address.",
            ),
        ),
        instead=NO_RESOLVER,
    ),
    Row(
        number="4b",
        what="DNS names a server that does not exist, and one that cannot be",
        way=ways.named({PLAIN: ["0 0 5222 xmpp1.example.org.", "1 0 5222 10.0.0.1."]}),
        sentence="DNS names xmpp1.example.org:5222 as the server, but that name has no address; DNS also names what "
        "cannot be used: '10.0.0.1' is an address, not a name.",
        retry=SLOW,
        phase=Phase.RESOLVE,
        event=Event.PCJ_CONNECTFAIL,
        expected="an address",
        came="said by the test",
        address="",
        tried=(
            ("'10.0.0.1'", "is an address, not a name"),
            (
                "xmpp1.example.org:5222",
                "DNS names xmpp1.example.org:5222 as the server, but that name has no address.",
            ),
        ),
        instead=NO_RESOLVER,
    ),
]

CONNECTING: Final = [
    Row(
        number="5",
        what="Nothing listens on the port",
        way=ways.refused,
        sentence="{at} refused the connection: nothing listens there.",
        retry=FAST,
        phase=Phase.CONNECT,
        event=Event.PCJ_CONNECTFAIL,
        expected="a connection",
        came="refused",
        tried=(("{at}", "connection refused"),),
    ),
    Row(
        number="6",
        what="No address of the host can be reached",
        way=ways.several_refused,
        sentence="None of 3 addresses of xmpp.example.org could be reached: 127.0.0.1:{port} refused; "
        "127.0.0.2:{port} refused; 127.0.0.3:{port} refused.",
        retry=FAST,
        phase=Phase.CONNECT,
        event=Event.PCJ_CONNECTFAIL,
        expected="a connection",
        came="refused",
        address="xmpp.example.org:{port}",
        tried=(
            ("127.0.0.1:{port}", "connection refused"),
            ("127.0.0.2:{port}", "connection refused"),
            ("127.0.0.3:{port}", "connection refused"),
        ),
        instead=f"{NO_RESOLVER}; the addresses are loopback's",
    ),
    Row(
        number="7",
        what="The host is silent",
        way=ways.kernel(None, host="192.0.2.7", connect_timeout=ways.CONNECTING),
        sentence="No answer from 192.0.2.7:5222 in {connecting} s: host down, or a firewall drops the packets.",
        retry=FAST,
        phase=Phase.CONNECT,
        event=Event.PCJ_CONNECTFAIL,
        expected="a connection",
        came="no answer in {connecting} s",
        address="192.0.2.7:5222",
        tried=(("192.0.2.7:5222", "no answer in {connecting} s"),),
        instead=f"{NO_KERNEL} (tests/shell/test_dead_addresses.py has it for real)",
    ),
    Row(
        number="8",
        what="There is no network that leads there",
        way=ways.kernel(errno.ENETUNREACH, host="2001:db8::7"),
        sentence="This machine has no route to [2001:db8::7]:5222 (and no other address was left).",
        retry=FAST,
        phase=Phase.CONNECT,
        event=Event.PCJ_CONNECTFAIL,
        expected="a connection",
        came="no route",
        address="[2001:db8::7]:5222",
        tried=(("[2001:db8::7]:5222", os.strerror(errno.ENETUNREACH).lower()),),
        instead=f"{NO_KERNEL} (tests/shell/test_dead_addresses.py has it for real)",
    ),
]

HTTP = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n"
NOT_XMPP: Final = [
    Row(
        number="9",
        what="The port takes the connection and says nothing",
        way=ways.silent(stream_timeout=ways.ANSWERING),
        sentence="no answer from {at} within {answering} s in the phase 'stream': we waited for <stream:stream>, the "
        "server's greeting; is this an XMPP port?",
        retry=FAST,
        phase=Phase.STREAM,
        event=Event.STREAM_ERROR,
        expected="<stream:stream>",
        came="nothing",
    ),
    Row(
        number="10",
        what="A web server",
        way=ways.answer(HTTP),
        sentence="the server at {at} speaks HTTP ('HTTP/1.1 400 Bad Request'), not XMPP: this is not an XMPP port",
        retry=FATAL,
        later=SLOW,
        phase=Phase.STREAM,
        event=Event.STREAM_ERROR,
        expected="<stream:stream>",
        came="'HTTP/1.1 400 Bad Request'",
    ),
    Row(
        number="10b",
        what="A web server, where TLS comes first",
        way=ways.answer(HTTP, direct_tls=True),
        sentence="The server at {at} speaks HTTP ('HTTP/1.1 400 Bad Request'), not TLS: this is not an XMPP port.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="a TLS handshake",
        came="'HTTP/1.1 400 Bad Request'",
    ),
    Row(
        number="11",
        what="Another service (here SSH)",
        way=ways.banner(b"SSH-2.0-OpenSSH_9.2\r\n"),
        sentence="the server at {at} sent 'SSH-2.0-OpenSSH_9.2': this is not an XMPP port",
        retry=FATAL,
        later=SLOW,
        phase=Phase.STREAM,
        event=Event.STREAM_ERROR,
        expected="<stream:stream>",
        came="'SSH-2.0-OpenSSH_9.2'",
    ),
    Row(
        number="11b",
        what="Another service (here mail), where TLS comes first",
        way=ways.banner(b"220 mail.example.org ESMTP\r\n", direct_tls=True),
        sentence="The server at {at} sent '220 mail.example.org ESMTP', not TLS: this is not an XMPP port.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="a TLS handshake",
        came="'220 mail.example.org ESMTP'",
    ),
    Row(
        number="12",
        what="TLS from the first byte on a port that begins in plain text",
        way=ways.embedded(broker={"direct_tls": True}),
        sentence="We began TLS at {at}, but the server answered in plain XML: that port wants STARTTLS "
        "(direct_tls=False); direct TLS is usually 5223.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="a TLS handshake",
        came="""'<?xml version='1.0'?><stream:stream xmlns="jabber:client" xmlns:stream="http://e'""",
    ),
    Row(
        number="12b",
        what="DNS names for TLS from the first byte a port that begins in plain text",
        way=ways.direct_by_dns,
        sentence="We began TLS at {named}, but the server answered in plain XML: that port wants STARTTLS, and the "
        "_xmpps-client record that names it in DNS is wrong.",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="a TLS handshake",
        came="'<stream:stream/>'",
        address="{named}",
        instead=NO_RESOLVER,
    ),
    Row(
        number="13",
        what="Plain text on a port that wants TLS from the first byte",
        way=ways.answer(b"\x15\x03\x01\x00\x02\x02\x46"),
        sentence="the server at {at} answered our greeting in plain text with TLS (an alert): this port wants TLS from "
        "the first byte (direct_tls=True)",
        retry=FATAL,
        later=SLOW,
        phase=Phase.STREAM,
        event=Event.STREAM_ERROR,
        expected="<stream:stream>",
        came="TLS, an alert",
    ),
    Row(
        # Prosody resets, ejabberd and jabberd2 close. So does a proxy whose server is not up yet: it is not final.
        number="13b",
        what="The same, and the server closes without a word",
        way=ways.answer(None),
        sentence="the server at {at} closed the connection while we waited for <stream:stream>, the server's greeting; "
        "if this port wants TLS from the first byte, say direct_tls=True",
        retry=FAST,
        phase=Phase.STREAM,
        event=Event.STREAM_ERROR,
        expected="<stream:stream>",
        came="the end of the connection",
    ),
    Row(
        number="13c",
        what="The same, and the server breaks the connection",
        way=ways.resets(),
        sentence="the connection to {at} broke while we waited for <stream:stream>, the server's greeting (Connection "
        "reset by peer); if this port wants TLS from the first byte, say direct_tls=True",
        retry=FAST,
        phase=Phase.STREAM,
        event=Event.STREAM_ERROR,
        expected="<stream:stream>",
        came=os.strerror(errno.ECONNRESET),
    ),
]
