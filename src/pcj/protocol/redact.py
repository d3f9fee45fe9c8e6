"""What an event or an error may show of credentials: nothing (protocol-notes A6)."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Collection, Iterator

from pcj.errors import ProtocolError, StreamErrorReceived
from pcj.namespaces import CLIENT, COMPONENT_ACCEPT, IQ_AUTH, IQ_REGISTER, SASL, SASL2
from pcj.serialize import escape_text
from pcj.stanza import Node

__all__ = ["credentials", "redacted", "repeated", "scrub", "scrubbed", "shown"]

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
_SASL = tuple(f"{{{namespace}}}" for namespace in (SASL, SASL2))
# SCRAM's proof (RFC 5802 7), DIGEST-MD5's response (RFC 2831 2.1.2), PLAIN's password (RFC 4616 2).
_PROOF = re.compile(r"(?:(?:^|,)(?:p|response)=|\0.*\0)([^,]+)")


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


def _inside(text: str) -> Iterator[str]:
    """What a SASL message says, and the proof in it."""
    try:
        message = base64.b64decode(text).decode("utf-8", "replace")
    except ValueError:  # "=", say, for an empty response
        return
    yield message
    yield from _PROOF.findall(message)


def _bearers(node: Node, *, secret: bool) -> Iterator[Node]:
    for element in node.iter():
        tag = element.tag if element.tag.startswith("{") else f"{{}}{element.tag}"
        if secret or tag in _CREDENTIALS:
            yield element


def shown(text: str, secrets: Collection[str]) -> str:
    """`text` without `secrets`, be they quoted (a server may repeat what it was sent), nor control characters."""
    text = _without(text, {form for secret in secrets for form in _quotations(secret)})
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text


def repeated(secrets: Collection[str], heard: bytes | bytearray) -> Collection[str]:
    """`secrets`, if the server sent any of them back to us, in whatever form; else none.

    Only then are errors searched for them: a password may be a word of our own sentences.
    """
    text = heard.decode("utf-8", "replace")
    forms = {form for secret in secrets for form in _quotations(secret)}
    return secrets if any(form in text or escape_text(form) in text for form in forms) else ()


def scrub(error: ProtocolError, secrets: Collection[str]) -> None:
    """Take `secrets`, and what could steer a terminal, out of all that `error` says."""
    error.args = tuple(shown(value, secrets) if isinstance(value, str) else value for value in error.args)
    error.expected = shown(error.expected, secrets)
    error.came = shown(error.came, secrets)
    error.condition = shown(error.condition, ())
    if isinstance(error, StreamErrorReceived):
        error.text = shown(error.text, secrets)


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
    """How a secret stands in a sentence that quotes it, or quotes the XML it was in."""
    escaped = repr(secret)[1:-1]
    return {secret, escaped, escaped.replace("'", "\\'"), escaped.replace('"', '\\"'), escape_text(secret)}


def _without(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET:
            text = text.replace(secret, REDACTED)
    return text
