"""Rows: TLS is not had, or its certificate does not pass."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pcj import Event, Phase
from tests.connect_failures import scripts, ways
from tests.connect_failures.row import FAST, FATAL, SLOW, Row
from tests.shell.transport.pair import dns, issued, srv_id

NAME = "a valid certificate for example.org"
MISMATCH = "Hostname mismatch, certificate is not valid for 'example.org'."
TLS: Final = [
    Row(
        number="14",
        what="The server has no encryption",
        way=ways.embedded(starttls="none", direct_tls_port=None),
        sentence="the server at {at} offers no encryption and TLS is required; if this is meant, say require_tls=False",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="<proceed>",
        came="<failure>",
    ),
    Row(
        number="15",
        what="The server offers encryption and then refuses it",
        way=ways.script(scripts.no_starttls, require_tls=None),
        sentence="the server at {at} refused to start TLS (<failure>); its certificate may not be loaded",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="<proceed>",
        came="<failure>",
    ),
    Row(
        number="15b",
        what="The server agrees to encryption, and goes on without",
        way=ways.script(scripts.goes_on(b"<stream:features/>"), require_tls=None),
        sentence="The server at {at} agreed to TLS (<proceed/>) and then went on in plain XML.",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="a TLS handshake",
        came="'<stream:features/>'",
    ),
    Row(
        number="15c",
        what="The server agrees to encryption, and sends what is none",
        way=ways.script(scripts.goes_on(b"bye-bye"), require_tls=None),
        sentence="The server at {at} agreed to TLS (<proceed/>) and then sent 'bye-bye', which is none.",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="a TLS handshake",
        came="'bye-bye'",
    ),
    Row(
        number="15d",
        what="The server agrees to encryption, and closes",
        way=ways.script(scripts.goes_on(b""), require_tls=None),
        sentence="The server at {at} closed the connection during the TLS handshake: it sent nothing, so it may have "
        "no certificate.",
        retry=FAST,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="the TLS handshake",
        came="the end of the connection",
    ),
    Row(
        number="16",
        what="The server's TLS is too old",
        way=ways.old_tls,
        sentence="The server at {at} speaks neither TLS 1.2 nor 1.3; pcj needs TLS 1.2 or newer.",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="the TLS handshake",
        came="TLSV1_ALERT_PROTOCOL_VERSION",
    ),
    Row(
        number="17",
        what="The certificate is for other names",
        way=ways.tls(ways.presents(lambda: issued(names=dns("mail.example.org", "*.hosting.net")))),
        sentence="{at}: the certificate is for mail.example.org and *.hosting.net, not for example.org (for an account "
        "the domain of the JID is what counts, for a component the host; tls_name= names another). It is issued by "
        "'Example Test CA', dated {dates}.",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected=NAME,
        came=MISMATCH,
    ),
    Row(
        number="18",
        what="A component's host is not what the certificate is for",
        way=ways.tls(ways.presents(lambda: issued(names=dns("xmpp.example.org"))), ways.component, host="localhost"),
        sentence="{named}: the certificate is for xmpp.example.org, not for localhost (for an account the domain of "
        "the JID is what counts, for a component the host; tls_name= names another). It is issued by 'Example Test "
        "CA', dated {dates}.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        address="{named}",
        expected="a valid certificate for localhost",
        came="Hostname mismatch, certificate is not valid for 'localhost'.",
    ),
    Row(
        number="19",
        what="The certificate has expired",
        way=ways.tls(ways.dated(timedelta(days=-90), timedelta(days=-53, hours=-1))),
        sentence="{at}: the certificate of example.org expired on {expired} (53 days ago). It is for example.org, "
        "issued by 'Example Test CA', dated {until}.",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected=NAME,
        came="certificate has expired",
    ),
    Row(
        number="20",
        what="The certificate is not valid yet, or the clock is wrong",
        way=ways.tls(ways.dated(timedelta(days=40), timedelta(days=90))),
        sentence="{at}: the certificate of example.org is valid from {begins} UTC; this machine's clock says {clock} "
        "UTC. Is the clock right? It is for example.org, issued by 'Example Test CA', dated {later}.",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected=NAME,
        came="certificate is not yet valid",
    ),
    Row(
        number="21",
        what="The certificate's issuer is unknown here",
        way=ways.tls(ways.foreign),
        sentence="{at}: the certificate of example.org was issued by 'Foreign Test CA', which this machine does not "
        "trust. Give ca_file= if it is yours. (Or the server does not send the certificates in between.) It is for "
        "example.org, dated {dates}.",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected=NAME,
        came="unable to get local issuer certificate",
    ),
    Row(
        number="21b",
        what="The certificate is self-signed",
        way=ways.tls(ways.presents(lambda: issued(self_signed=True))),
        sentence="{at}: the certificate of example.org is self-signed (by 'example.org'), and this machine does not "
        "trust it. Give ca_file= if it is yours. It is for example.org, dated {dates}.",
        retry=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected=NAME,
        came="self{hyphen}signed certificate",
    ),
    Row(
        # The same as for another service on the port: whoever is in between cannot end a broker that has worked.
        number="22",
        what="The server's key is not a pinned one",
        way=ways.tls(ways.pinned, pins=(f"sha256:{'a' * 64}", f"sha256:{'b' * 64}")),
        sentence="The key of the server at {at} is not one of the 2 pinned ones (seen {pin}). The server changed its "
        "key, or somebody is in between.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected=f"sha256:{'a' * 64} or sha256:{'b' * 64}",
        came="{pin}",
    ),
    Row(
        number="23",
        what="The certificate names the service in a way that we cannot check",
        way=ways.tls(ways.presents(lambda: issued(names=srv_id("_xmpp-client.example.org"))), tls_engine="ssl"),
        sentence="{at}: the certificate is for example.org only as a service (SRV-ID _xmpp-client.example.org), which "
        "Python's ssl cannot check: install 'pcj[binding]', or have example.org put into it as a DNS name too. It is "
        "issued by 'Example Test CA', dated {dates}.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected=NAME,
        came=MISMATCH,
    ),
    Row(
        number="24",
        what="Another service answers in TLS",
        way=ways.tls(ways.web),
        sentence="The server at {at} selected the TLS application protocol 'h2' instead of 'xmpp-client': another "
        "service answers there.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="'xmpp-client'",
        came="'h2'",
        instead="our own handshake offers 'h2' behind the back of our engine: Python's servers select nothing else",
    ),
    Row(
        number="24b",
        what="Another service refuses our application protocol in TLS",
        way=ways.answer(b"\x15\x03\x03\x00\x02\x02\x78", direct_tls=True),
        sentence="The server at {at} knows none of the application protocols we offered in TLS (ALPN): another service "
        "answers there.",
        retry=FATAL,
        later=SLOW,
        phase=Phase.TLS,
        event=Event.PCJ_SSLFAIL,
        expected="the TLS handshake",
        came="TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
    ),
]
