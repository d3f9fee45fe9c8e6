"""A server that does what is right, one answer at a time: what a fuzzer makes of it begins deep in the protocol."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from fuzz import witness
from pcj.namespaces import BIND as RESOURCE_BIND
from pcj.namespaces import COMPONENT_ACCEPT, JABBERD_COMPONENT, SASL, SESSION, STREAMS, TLS
from pcj.protocol.steps import OpenStream, Send, Step
from pcj.stanza import IQ, Node

__all__ = ["NAMES", "NAMESPACES", "PASSWORD", "GoodServer"]

PASSWORD: Final = "s3cr3t & Pa55word"
#: The name that is logged in with, and the domain.
USER: Final = "romeo"
DOMAIN: Final = "example.org"
NAMESPACES = {
    "XMPP": "jabber:client",
    "LEGACY": "jabber:client",
    "JABBERD14_COMPONENT": COMPONENT_ACCEPT,
    "JABBERD20_COMPONENT": JABBERD_COMPONENT,
}
#: What it offers, by the letter in the options of an input.
NAMES = {
    b"1": ("SCRAM-SHA-1",),
    b"2": ("SCRAM-SHA-256", "PLAIN"),
    b"5": ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "PLAIN"),
    b"6": ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"),
    b"3": ("DIGEST-MD5",),
    b"4": ("PLAIN",),
    b"7": ("EXTERNAL", "ANONYMOUS"),
}


class GoodServer:
    """Knows what is due from what was done so far.

    Args:
        connection_type: of the link. names: the mechanisms it offers.
    """

    def __init__(self, connection_type: str, names: Sequence[str]) -> None:
        self._type = connection_type
        self._names = names
        self._mechanism = ""
        self._messages: list[bytes] = []  # of the exchange so far
        self._authenticated = False
        self.secure = False

    def reply(self, steps: Sequence[Step]) -> bytes:
        """What is due after these steps; b"" where nothing is."""
        for step in reversed(steps):
            if isinstance(step, OpenStream):
                features = self._features() if step.version is not None else b""
                header = self._header(step.version) if steps[-1] is step else b""
                return header + features
            if isinstance(step, Send):
                return self._answer(step.node)
        return b""

    def _header(self, version: str | None) -> bytes:
        said = f" version='{version}'" if version is not None else ""
        return (
            f"<?xml version='1.0'?><stream:stream xmlns='{NAMESPACES[self._type]}' xmlns:stream='{STREAMS}' "
            f"id='sid-1' from='{DOMAIN}'{said}>"
        ).encode()

    def _features(self) -> bytes:
        if self._authenticated:
            inside = ""
            if self._type == "XMPP":
                inside = f"<bind xmlns='{RESOURCE_BIND}'/><session xmlns='{SESSION}'/>"
        else:
            listed = "".join(f"<mechanism>{name}</mechanism>" for name in self._names)
            inside = f"<mechanisms xmlns='{SASL}'>{listed}</mechanisms>"
            if not self.secure:
                inside = f"<starttls xmlns='{TLS}'/>{inside}"
            if any(name.endswith("-PLUS") for name in self._names):
                inside += (
                    "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>"
                    "</sasl-channel-binding>"
                )
        return f"<stream:features>{inside}</stream:features>".encode()

    def _answer(self, node: Node) -> bytes:
        namespace, _, name = node.tag[1:].rpartition("}")
        if name == "starttls":
            return f"<proceed xmlns='{TLS}'/>".encode()
        if namespace == SASL:
            return self._sasl(name, node)
        if name == "handshake":
            return b"<handshake/>"
        if name == "bind":
            return f"<bind id='{node.get('id')}'/>".encode()
        if node.tag != IQ:
            return b""
        inside = ""
        if node.find(f"{{{RESOURCE_BIND}}}bind") is not None:
            inside = f"<bind xmlns='{RESOURCE_BIND}'><jid>{USER}@{DOMAIN}/x</jid></bind>"
        return f"<iq type='result' id='{node.get('id')}'>{inside}</iq>".encode()

    def _sasl(self, name: str, node: Node) -> bytes:
        text = node.text
        data = base64.b64decode(text) if text and text != "=" else b""
        if name == "auth":
            self._mechanism = node.get("mechanism", "")
            self._messages = []
        said: bytes | None = None
        if self._mechanism.startswith("SCRAM-"):
            if not self._messages:
                self._messages = [data, witness.scram_first(data)]
                return self._element("challenge", self._messages[1])
            client_first, server_first = self._messages
            said = b"v=" + witness.scram_proof(self._mechanism, PASSWORD, client_first, server_first, data)
        elif self._mechanism == "DIGEST-MD5":
            if name == "auth":
                return self._element("challenge", witness.digest_challenge())
            said = b"rspauth=" + witness.digest_proof(data, PASSWORD)
        self._authenticated = True
        return self._element("success", said)

    def _element(self, name: str, data: bytes | None) -> bytes:
        text = "" if data is None else base64.b64encode(data).decode()
        return f"<{name} xmlns='{SASL}'>{text}</{name}>".encode()
