"""What answers on a port that is not XMPP's, by its first bytes."""

from __future__ import annotations

from pcj.errors import ProtocolError, Retry
from pcj.namespaces import CONTENT, JABBERD_COMPONENT
from pcj.xmlstream.limits import WHITE_BYTES, quoted

__all__ = ["not_xmpp", "other_kind"]

# The content namespaces by which a port says whom it is for.
_KINDS = CONTENT | {JABBERD_COMPONENT}

# What RFC 8446 5.1 begins an alert or a handshake with, in every version of TLS.
_TLS = (b"\x15\x03", b"\x16\x03")
_WEB_PAGE = (b"<!doctype html", b"<html")


def not_xmpp(first: bytes, error: ProtocolError) -> ProtocolError:
    """The error for a peer whose first bytes are no stream.

    Args:
        first: what came so far. error: what the parser makes of it; it is returned where there is nothing to add.
    """
    came = first.lstrip(WHITE_BYTES)
    line = quoted(came.partition(b"\n")[0].rstrip(b"\r"))
    if came.startswith(_TLS):
        said = "an alert" if came[0] == 0x15 else "a handshake"
        message = (
            f"the server answered our greeting in plain text with TLS ({said}): this port wants TLS from the first "
            "byte (direct_tls=True)"
        )
        return _wrong(message, error, f"TLS, {said}")
    if came.startswith(b"HTTP/") or came[:14].lower().startswith(_WEB_PAGE):
        return _wrong(f"the server speaks HTTP ({line}), not XMPP: this is not an XMPP port", error, line)
    # Of what is longer than a bound only the end may be here.
    if not came.startswith(b"<") and error.answer != "policy-violation":
        return _wrong(f"the server sent {line}: this is not an XMPP port", error, line)
    if error.expected == "<stream:stream>" and error.retry is None:
        error.retry = Retry.FATAL  # XML of another kind
    return error


def other_kind(namespace: str, ours: str) -> ProtocolError | None:
    """The error for a server whose header says that the port is for links of another kind than ours; None if not.

    It comes before any credential goes out, and before the server's own error, which names a consequence: to a client,
    a port for components may say that it does not host the domain.

    Args:
        namespace: the content namespace of the server's header (RFC 6120 4.8.2). One that is unknown or missing shows
            nothing, nor does one that only repeats ours, as some servers do on every port. ours: of our header.
    """
    if namespace == ours or namespace not in _KINDS:
        return None
    return ProtocolError(
        f"the server speaks {namespace} on this port, and we speak {ours} (invalid-namespace): usually 5222 is for "
        "clients, 5347 for components",
        answer="invalid-namespace",  # RFC 6120 4.9.3.10
        expected=ours,
        came=namespace,
        retry=Retry.FATAL,
    )


def _wrong(message: str, error: ProtocolError, came: str) -> ProtocolError:
    return ProtocolError(
        message, answer=error.answer, expected="<stream:stream>", came=came, phase=error.phase, retry=Retry.FATAL
    )
