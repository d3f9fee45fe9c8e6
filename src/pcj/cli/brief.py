"""What there is to say about a status, in the few words that fit beside its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pcj.cli.escape import shown
from pcj.cli.wording import with_options
from pcj.errors import ConnectionFailed, Phase
from pcj.events import Event, Status
from pcj.namespaces import CLIENT, STREAMS
from pcj.protocol.retry import words_of
from pcj.stanza import Node
from pcj.transport.resolve import Endpoint

__all__ = ["detail_of", "is_failure", "node_in_brief", "sentence_of"]

#: Of a node, random ids are not worth their place, nor is our own address.
_LEFT_OUT: Final[dict[str, frozenset[str]]] = {
    Event.PCJ_NODESENT: frozenset({"id", "from"}),
    Event.PCJ_NODEQUEUED: frozenset({"id", "from"}),
    Event.PCJ_RTS_START: frozenset({"id", "from"}),
    Event.IQ_ANSWERED: frozenset({"id", "from"}),
    Event.PCJ_NODERECEIVED: frozenset({"id", "to"}),
    Event.PCJ_RTS_FINISH: frozenset({"id", "to"}),
}
_ID: Final = frozenset({"id"})
_STREAM: Final = f"{{{STREAMS}}}"
_BODY: Final = f"{{{CLIENT}}}body"
_MAX_TEXT: Final = 60
_MAX_CHILDREN: Final = 3
_MAX_DEPTH: Final = 4
#: Said by the line's place, or not worth saying.
_KNOWN: Final = frozenset({"attempt", "session", "internal", "phase", "resumed", "xmlns", "id", "retry"})


def node_in_brief(node: Node, left_out: frozenset[str] = _ID, depth: int = 1) -> str:
    """A node for the eye: start tags and texts in their order, without namespaces, quotes and end tags.

    It is escaped, and no XML to be parsed again: `<message chat to=juliet@example.org> "good day"`.
    """
    name = _short(node.tag.rpartition("}")[2])
    if node.tag.startswith(_STREAM):
        name, left_out = f"stream:{name}", _ID
    start = f"<{name}"
    for key in sorted(node.keys(), key=lambda key: (key != "type", key != "to")):
        if key not in left_out:
            value = _short(node.get(key, ""))
            start += f" {value}" if key == "type" else f" {_short(key.rpartition('}')[2])}={value}"
    parts = [f"{start}>"]
    text = _short((node.text or "").strip())
    if text:
        parts.append(text)
    if depth < _MAX_DEPTH:
        for child in node[:_MAX_CHILDREN]:
            if child.tag == _BODY and not len(child):
                parts.append(f'"{_short(child.text or "")}"')
            else:
                parts.append(node_in_brief(child, _ID, depth + 1))
    if len(node) > (_MAX_CHILDREN if depth < _MAX_DEPTH else 0):
        parts.append("...")
    return " ".join(parts)


def is_failure(status: Status) -> bool:
    """Whether it tells of a failure of the connection, whose sentence says what its detail says to programs."""
    return status.error is not None and "retry" in status.detail


def sentence_of(error: BaseException) -> str:
    """What an error says, in the words of the command line, and without a number of the system's."""
    return shown(with_options(words_of(error)))


def detail_of(status: Status, said_before: str = "") -> str:
    """One line about a status, in words where its kind is known.

    Args:
        said_before: the sentence of the error that was shown last; it is not said again.
    """
    if "selected" in status.detail:
        return f"selected {_selected(status.detail['selected'])} by {shown(str(status.detail.get('expression', '')))}"
    if status.event == Event.ATTEMPT:
        return _attempt(status)
    said = "" if is_failure(status) else _in_words(status.event, status.detail)
    parts = [said] if said else []
    node, error = status.node, status.error
    if error is not None:
        sentence = sentence_of(error)
        parts.append("for the same reason" if sentence == said_before else sentence)
        if status.event == Event.STREAM_ERROR and node is not None and _is_quoted(node, sentence):
            node = None
    if node is not None:
        parts.append(node_in_brief(node, _LEFT_OUT.get(status.event, _ID)))
    return ": ".join(parts)


def _attempt(status: Status) -> str:
    """An address and a few words; a host without an address has its sentence in the CONNECTFAIL that follows."""
    outcome = str(status.detail.get("outcome", ""))
    if isinstance(status.error, ConnectionFailed):
        failure = status.error.failure
        outcome = "no address" if failure.phase is Phase.RESOLVE else failure.came
    return shown(f"{status.detail.get('address', '')} {outcome}")


def _is_quoted(node: Node, sentence: str) -> bool:
    """Whether `sentence` says all that a stream error does: the name of its condition, and its texts."""
    conditions = [child.tag.rpartition("}")[2] for child in node]
    texts = [text.strip() for text in node.itertext()]
    return all(name == "text" or shown(name) in sentence for name in conditions) and all(
        shown(text)[: _MAX_TEXT - 3] in sentence for text in texts
    )


def _in_words(event: str, detail: Mapping[str, object]) -> str:
    def say(name: str) -> str:
        return shown(str(detail.get(name, "")))

    match event:
        case Event.PCJ_CONNECT | Event.PCJ_CONNECTING:
            where = _place(detail)
            first = event == Event.PCJ_CONNECT or detail.get("attempt", 1) == 1
            again = "" if first else f"attempt {say('attempt')}"
            return ", ".join(filter(None, (where, again)))
        case Event.RESOLVED:
            addresses = detail.get("addresses")
            return shown(", ".join(map(str, addresses)) if isinstance(addresses, (list, tuple)) else str(addresses))
        case Event.ATTEMPT:
            return f"{say('address')} {say('outcome')}"
        case Event.PCJ_CONNECTED:
            return f"{say('address')} from {say('local')}"
        case Event.PCJ_SSLSUCCESS:
            session = f"{say('version')} {say('cipher')}"
            return f"{session} {say('name')} verified" if detail.get("verified") else f"NOT VERIFIED {session}"
        case Event.PCJ_AUTHNEGOTIATE | Event.PCJ_AUTHSUCCESS:
            binding = f", bound to {say('binding')}" if "binding" in detail else ""
            return say("mechanism") + binding
        case Event.PCJ_BINDNEGOTIATE:
            return say("domain")
        case Event.PCJ_BINDSUCCESS | Event.PCJ_READY:
            return say("jid")
        case Event.PCJ_SHUTDOWN_START:
            return f"by {say('by')}"
        case Event.RECONNECT_DELAY:
            return f"the next attempt in {say('delay')} s"
        case Event.PCJ_SOCKETDISCONNECT:
            return say("address")
    return ", ".join(f"{shown(name)} {_short(str(value))}" for name, value in detail.items() if name not in _KNOWN)


def _place(detail: Mapping[str, object]) -> str:
    """What is known of where to: "[::1]:5222", the path of a socket, "port 5222"."""
    host, port = detail.get("host"), detail.get("port")
    if host is None:
        return "" if port is None else shown(f"port {port}")
    return shown(str(host) if not isinstance(port, int) else str(Endpoint(str(host), port)))


def _selected(value: object) -> str:
    """What an XPath expression selected."""
    items = value if isinstance(value, list) else [value]
    texts = [
        node_in_brief(item) if isinstance(item, Node) else f'"{_short(str(item))}"' for item in items[:_MAX_CHILDREN]
    ]
    return ", ".join(texts) + (", ..." if len(items) > _MAX_CHILDREN else "")


def _short(text: str) -> str:
    text = shown(text)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."
