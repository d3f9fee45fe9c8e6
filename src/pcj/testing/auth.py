"""Credentials at the embedded server: SASL (RFC 6120 6) for clients and the router, and the digest of the old ways."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence

from pcj.errors import SaslError
from pcj.namespaces import SASL, SASL_BINDING
from pcj.sasl import Success, decode_data, encode_data
from pcj.sasl.server import answer
from pcj.stanza import Node
from pcj.testing.options import ServerOptions
from pcj.testing.stream import ServerStream

__all__ = ["AUTH", "digest_of", "mechanisms_element", "same_secret", "sasl_login"]

AUTH = f"{{{SASL}}}auth"
_RESPONSE = f"{{{SASL}}}response"
_ABORT = f"{{{SASL}}}abort"


def digest_of(stream_id: str, password: str) -> str:
    """XEP-0078 4.1, XEP-0114 3: the lower-case hexadecimal SHA-1 of the stream's id and the secret."""
    return hashlib.sha1(f"{stream_id}{password}".encode()).hexdigest()  # noqa: S324  # the protocols' own


def mechanisms_element(names: Sequence[str]) -> Node:
    """The feature that lists mechanisms (RFC 6120 6.4.1)."""
    element = ET.Element(f"{{{SASL}}}mechanisms")
    for name in names:
        ET.SubElement(element, f"{{{SASL}}}mechanism").text = name
    return element


def binding_types_element(types: Iterable[str]) -> Node:
    """The feature that lists types of channel binding (XEP-0440 2)."""
    element = ET.Element(f"{{{SASL_BINDING}}}sasl-channel-binding")
    for kind in types:
        ET.SubElement(element, f"{{{SASL_BINDING}}}channel-binding", {"type": kind})
    return element


async def sasl_login(
    stream: ServerStream,
    auth: Node,
    *,
    offered: Sequence[str],
    configured: Sequence[str],
    password_of: Callable[[str], str | None],
    realm: str,
    options: ServerOptions,
    salt: bytes,
    bindings: Mapping[str, bytes] | None,
    certified: str | None,
) -> tuple[str, str] | None:
    """Answer <auth/> up to <success/> or <failure/>.

    Args:
        stream: the stream. auth: the element that came. offered: the mechanisms allowed now; configured: with TLS too.
        password_of: of a prepared name. realm: of DIGEST-MD5. options: the server's. salt: of SCRAM.
        bindings: the channel bindings listed, by type. certified: whom the client's certificate names.

    Returns:
        The user's name and the mechanism, or None after a failure: the peer may try again.
    """
    mechanism = auth.get("mechanism", "")
    try:
        if mechanism not in offered:
            # RFC 6120 6.5.4: encryption-required where the mechanism may be used inside TLS only.
            condition = "encryption-required" if mechanism in configured else "invalid-mechanism"
            raise SaslError("The mechanism is not offered here.", condition=condition)
        exchange = answer(
            mechanism,
            decode_data(auth.text) if auth.text else None,
            password_of=password_of,
            nonce=secrets.token_urlsafe(24),
            salt=salt,
            iterations=options.scram_iterations,
            realm=realm,
            proof_in_success=options.proof_in_success,
            offered=offered,
            bindings=bindings if any(name.endswith("-PLUS") for name in offered) else None,
            vouch=options.downgrade_protection,
            certified=certified,
            anonymous=secrets.token_hex(8),
        )
        step = next(exchange)
        while not isinstance(step, Success):
            challenge = ET.Element(f"{{{SASL}}}challenge")
            challenge.text = encode_data(step.data)
            stream.send(challenge)
            step = exchange.send(await _response(stream))
        success = ET.Element(f"{{{SASL}}}success")
        # RFC 6120 6.3.10: data that is there and empty is "=".
        success.text = None if step.data is None else encode_data(step.data, initial=True)
        try:
            next(exchange)
        except StopIteration as end:
            stream.send(success)
            return str(end.value), mechanism
        raise SaslError("The mechanism does not end.", condition="temporary-auth-failure")
    except SaslError as error:
        failure = ET.Element(f"{{{SASL}}}failure")
        ET.SubElement(failure, f"{{{SASL}}}{error.condition or 'not-authorized'}")
        stream.send(failure)
        return None


async def _response(stream: ServerStream) -> bytes:
    node = await stream.receive_node()
    if node.tag == _ABORT:
        raise SaslError("The client gave up.", condition="aborted")
    if node.tag != _RESPONSE:
        raise SaslError("A response was due.", condition="malformed-request")
    return decode_data(node.text)


def same_secret(given: str, expected: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(given.encode(), expected.encode())
