"""What an event or an error may show of credentials: nothing (protocol-notes A6)."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Collection, Iterator

from pcj.config import Config
from pcj.errors import ProtocolError, StreamErrorReceived, printable
from pcj.namespaces import CLIENT, COMPONENT_ACCEPT, IQ_AUTH, IQ_REGISTER, SASL, SASL2, STREAM_MANAGEMENT
from pcj.stanza import Node

__all__ = ["credentials", "forms_of", "redacted", "repeated", "said_in", "scrub", "scrubbed", "secrets_of", "shown"]

REDACTED = "[redacted]"
#: Characters; a shorter text is in every other sentence by chance, and no secret.
MIN_SECRET = 4

# PLAIN's <auth/>, LEGACY's <password/> are the secret; the handshake, digest and SCRAM proofs can be cracked offline.
_CREDENTIALS = frozenset(
    f"{{{namespace}}}{name}"
    for namespace, name in (
        (SASL, "auth"),
        (SASL, "response"),
        (SASL2, "initial-response"),
        (SASL2, "response"),
        (IQ_AUTH, "password"),
        (IQ_AUTH, "digest"),
        (IQ_REGISTER, "password"),
        (COMPONENT_ACCEPT, "handshake"),
        (CLIENT, "handshake"),
        ("", "handshake"),
    )
)
# The attributes that are secret: with the SM-ID a session can be taken over (XEP-0198 10; protocol-notes B7).
_KEYS = {
    f"{{{STREAM_MANAGEMENT}}}{name}": attribute
    for name, attribute in (("enabled", "id"), ("resume", "previd"), ("resumed", "previd"))
}
_SASL = tuple(f"{{{namespace}}}" for namespace in (SASL, SASL2))
# SCRAM's proof (RFC 5802 7), DIGEST-MD5's response (RFC 2831 2.1.2), PLAIN's password (RFC 4616 2).
_PROOF = re.compile(r"(?:,p=|(?:^|,)response=)([^,]+)|\0[^\0]*\0(.+)", re.DOTALL)


def redacted(node: Node, *, secret: bool = False) -> Node:
    """A copy of `node` whose credentials read "[redacted]"; with `secret`, every text and attribute value of it."""
    safe = copy.deepcopy(node)
    for element in _bearers(safe, secret=secret):
        if element.text:
            element.text = REDACTED
        if secret:
            for child in element:
                child.tail = None
            for name in element.attrib:
                element.set(name, REDACTED)
    for element, name in _keys(safe):
        element.set(name, REDACTED)
    return safe


def credentials(node: Node, *, secret: bool = False) -> Iterator[str]:
    """The texts that `redacted` would take out of `node`, and what is in them."""
    for element in _bearers(node, secret=secret):
        if element.text:
            yield element.text
            if element.tag.startswith(_SASL):
                yield from _inside(element.text)
        if secret:
            yield from (child.tail for child in element if child.tail)
            yield from element.attrib.values()
    for element, name in _keys(node):
        yield element.attrib[name]


def _keys(node: Node) -> Iterator[tuple[Node, str]]:
    for element in node.iter():
        name = _KEYS.get(element.tag)
        if name is not None and name in element.attrib:
            yield element, name


def _inside(text: str) -> Iterator[str]:
    """What a SASL message says, and the proof in it."""
    try:
        message = base64.b64decode(text).decode("utf-8", "replace")
    except ValueError:  # "=", say, for an empty response
        return
    yield message
    for proof in _PROOF.finditer(message):
        yield proof[1] or proof[2]


def _bearers(node: Node, *, secret: bool) -> Iterator[Node]:
    for element in node.iter():
        tag = element.tag if element.tag.startswith("{") else f"{{}}{element.tag}"
        if secret or tag in _CREDENTIALS:
            yield element


def shown(text: str, secrets: Collection[str]) -> str:
    """`text` without `secrets`, be they quoted (a server may repeat what it was sent), nor control characters."""
    forms = {form for secret in secrets for form in _quotations(secret)}
    text = safe = _without(text, forms)
    for _ in range(_READINGS):
        plain = _read(safe)
        safe = _without(plain, forms)
        if safe != plain:
            text = safe  # it quotes XML that was written in a way of the server's own
    return printable(text)


def secrets_of(config: Config) -> set[str]:
    """What a server may repeat of a link's own and nobody else may see: the password, where the options hold it."""
    return forms_of(config.password) if isinstance(config.password, str) else set()


def forms_of(password: str) -> set[str]:
    """A password as it is and as SASL sends it."""
    return {password, base64.b64encode(password.encode("utf-8", "surrogatepass")).decode()}


def said_in(node: Node) -> bytes:
    """What a peer says in a node, for `repeated`: its texts and its attributes."""
    attributes = (value for element in node.iter() for value in element.attrib.values())
    return "\n".join([*node.itertext(), *attributes]).encode("utf-8", "surrogatepass")


def repeated(secrets: Collection[str], heard: bytes | bytearray) -> Collection[str]:
    """`secrets`, if the server sent any of them back to us, in whatever form; else none.

    Only then are errors searched for them: a password may be a word of our own sentences.
    """
    text = heard.decode("utf-8", "replace")
    forms = {form for secret in secrets if len(secret) >= MIN_SECRET for form in _quotations(secret)}
    for _ in range(_READINGS + 1):
        if any(form in text for form in forms):
            return secrets
        text = _read(text)
    return ()


def scrub(error: ProtocolError, secrets: Collection[str]) -> None:
    """Take `secrets`, and what could steer a terminal, out of all that `error` says."""
    error.args = tuple(shown(value, secrets) if isinstance(value, str) else value for value in error.args)
    error.expected = shown(error.expected, secrets)
    error.came = shown(error.came, secrets)
    error.condition = shown(error.condition, ())
    error.text = shown(error.text, secrets)
    if isinstance(error, StreamErrorReceived):
        error.see_other_host = shown(error.see_other_host, secrets)


def scrubbed(node: Node, secrets: Collection[str]) -> Node:
    """A copy of `node` without any of `secrets`."""
    safe = copy.deepcopy(node)
    for element in safe.iter():
        if element.text:
            element.text = _without(element.text, secrets)
        if element.tail:
            element.tail = _without(element.tail, secrets)
        for name, value in element.attrib.items():
            element.set(name, _without(value, secrets))
    return safe


def _quotations(secret: str) -> set[str]:
    """How a secret stands in a sentence that quotes it."""
    escaped = repr(secret)[1:-1]
    return {secret, escaped, escaped.replace("'", "\\'"), escaped.replace('"', '\\"'), ascii(secret)[1:-1]}


#: How often XML is read that quotes XML: what a server says of what it was sent may be escaped twice.
_READINGS = 3
_NAMES = {"amp": "&", "lt": "<", "gt": ">", "apos": "'", "quot": '"'}  # XML 1.0 4.6
_WRITTEN = re.compile(
    r"&(?:(?P<name>amp|lt|gt|apos|quot)|#0*(?P<decimal>[0-9]{1,7})|#x0*(?P<hexadecimal>[0-9a-fA-F]{1,6}));"
    r"|<!\[CDATA\[(?P<data>.*?)(?:\]\]>|\Z)",
    re.DOTALL,
)


def _read(text: str) -> str:
    """What `text` says as XML: a server need not write as we do ("&#115;ecret" is "secret")."""
    return _WRITTEN.sub(_meaning, text)


def _meaning(written: re.Match[str]) -> str:
    if written["data"] is not None:
        return written["data"]
    if written["name"] is not None:
        return _NAMES[written["name"]]
    number = int(written["decimal"]) if written["decimal"] is not None else int(written["hexadecimal"], 16)
    return chr(number) if number < 0x110000 else written[0]


def _without(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET:
            text = text.replace(secret, REDACTED)
    return text
