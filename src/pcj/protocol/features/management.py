"""Stream management (XEP-0198) in the negotiation: the session of before is resumed, or a new one is managed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Generator
from typing import Any, Final

from pcj.config import Config
from pcj.errors import Phase, ProtocolError, Retry
from pcj.events import Event
from pcj.namespaces import STANZA_ERRORS
from pcj.namespaces import STREAM_MANAGEMENT as NS
from pcj.protocol.common import receive, unexpected
from pcj.protocol.features.feature import Fact, Feature, Progress
from pcj.protocol.management import MAX_ID, MAX_LOCATION, WRAP, Management, binding_of, read_number
from pcj.protocol.steps import Hold, Negotiation, Publish, Send, Step
from pcj.stanza import MAX_NAME, STANZAS, Node

__all__ = ["ENABLE", "RESUME"]

_SM: Final = f"{{{NS}}}sm"
_ENABLE: Final = f"{{{NS}}}enable"
_ENABLED: Final = f"{{{NS}}}enabled"
_RESUME: Final = f"{{{NS}}}resume"
_RESUMED: Final = f"{{{NS}}}resumed"
_FAILED: Final = f"{{{NS}}}failed"
_REQUIRED: Final = f"{{{NS}}}required"
#: An xs:boolean that is true; both are written (protocol-notes A25).
_TRUE: Final = ("true", "1")
#: How deep the condition of <failed/> may be: in it, or in an <error/> in it (protocol-notes A25).
_NESTED: Final = 2


def _asked_for(config: Config) -> bool:
    return config.stream_management and config.acks == "auto"


# ---- the session of before


def _to_resume(negotiation: Negotiation, features: Node) -> bool:
    # Also where it cannot be done: that it is over is told in one way, whatever the reason.
    return negotiation.management is not None and negotiation.management.resumable


def _obstacle(negotiation: Negotiation, management: Management, features: Node) -> str:
    """Why the session of before is not even asked for, or ""."""
    if not _asked_for(negotiation.config):
        return "stream management is switched off"
    if management.binding != binding_of(negotiation.config):
        return "the session was another account's, or was made with other options"
    if management.secured and negotiation.tls is None:
        return "the session was made inside TLS, and there is none on this link"
    if features.find(_SM) is None:
        return "the server offers no stream management"
    return ""


def _resume(negotiation: Negotiation, progress: Progress, features: Node) -> Generator[Step, Any, None]:
    """XEP-0198 5. In the end there is SM_RESUMED or SM_RESUMEFAILED, unless the link fails before the answer."""
    management = negotiation.management
    if management is None:
        return  # then it was not wanted
    yield Publish(Event.SM_RESUMING)
    if obstacle := _obstacle(negotiation, management, features):
        yield from _not_resumed(management, reason=obstacle)
        return
    yield Send(ET.Element(_RESUME, {"h": str(management.h), "previd": management.id}))
    # The server has nobody to send stanzas to before it has answered, so none may come (RFC 6120 7.1).
    answer = yield from receive("<resumed>")
    if answer.tag == _RESUMED:
        if answer.get("previd") != management.id:
            yield from _not_resumed(management, reason="the server resumed another session")
            # Neither is quoted: each is the key to somebody's session.
            raise ProtocolError(
                "the server resumed another session than the one that we asked for (XEP-0198 5, 'previd')",
                answer="undefined-condition",
                expected="our own previd",
                came="another" if "previd" in answer.attrib else "none",
            )
        proved = yield from _proof(negotiation, management, answer)
        progress.jid = management.jid
        progress.management = management
        progress.resumed = proved
        progress.facts |= {Fact.BOUND, Fact.SESSION, Fact.MANAGED}
        yield Publish(Event.SM_RESUMED, detail={"h": management.proved % WRAP, "proved": proved})
    elif answer.tag == _FAILED:
        condition = _condition(answer)
        if "h" in answer.attrib:
            proved = yield from _proof(negotiation, management, answer, condition)
            h = management.proved % WRAP
            yield from _not_resumed(management, condition=condition, h=h, proved=proved)
        else:
            yield from _not_resumed(management, condition=condition)
    else:
        raise unexpected(answer, "<resumed>")


def _proof(
    negotiation: Negotiation, management: Management, answer: Node, condition: str = ""
) -> Generator[Step, Any, int]:
    """What the answer proves; where it contradicts what we know, the session is over, and so is the link (A26)."""
    try:
        return management.proof(answer.get("h"), negotiation.outstanding)
    except ProtocolError:
        yield from _not_resumed(management, condition=condition, reason="the server's count contradicts ours")
        raise


def _not_resumed(
    management: Management, *, condition: str = "", reason: str = "", h: int | None = None, proved: int | None = None
) -> Generator[Step, Any, None]:
    management.forget()
    detail: dict[str, object] = {"condition": condition, "h": h, "proved": proved}
    if reason:
        detail["reason"] = reason
    yield Publish(Event.SM_RESUMEFAILED, detail=detail)


def _condition(failed: Node) -> str:
    """The condition in <failed/>: directly (XEP-0198 6, ejabberd) or in an <error/> (Prosody), or "" for none."""
    elements = list(failed)
    for _ in range(_NESTED):
        for element in elements:
            namespace, _, name = element.tag[1:].partition("}")
            if namespace == STANZA_ERRORS and name != "text":
                return name[:MAX_NAME]
        elements = [child for element in elements for child in element]
    return ""


# ---- a new one


def _to_enable(negotiation: Negotiation, features: Node) -> bool:
    offered = features.find(_SM)
    if offered is None:
        return False
    if _asked_for(negotiation.config):
        return True
    if offered.find(_REQUIRED) is not None:
        # RFC 6120 4.3.2: it must be negotiated then.
        raise ProtocolError(
            "the server insists on stream management (XEP-0198), which stream_management=False or acks='off' forbids",
            answer="unsupported-feature",
            expected="stream management as a choice",
            came="<sm> with <required>",
            phase=Phase.STREAM,
            retry=Retry.FATAL,
        )
    return False


def _enable(negotiation: Negotiation, progress: Progress, features: Node) -> Generator[Step, Any, None]:
    """XEP-0198 3. Our stanzas are counted from <enable/> on; we send none before the answer, so both begin at 0."""
    # Whoever does not come back leaves nothing behind that takes messages for a session which nobody resumes.
    asked = int(negotiation.config.resume_seconds) if negotiation.config.resumes else 0
    attributes = {"resume": "true", "max": str(asked)} if asked else {}
    yield Send(ET.Element(_ENABLE, attributes), quiet=True)
    while True:
        answer = yield from receive("<enabled>")
        if answer.tag not in STANZAS:
            break
        yield Hold(answer)  # sent before the server's own count began
    if answer.tag == _FAILED:
        condition = _condition(answer) or "no condition given"
        what = f"the server refused stream management ({condition}): what it has is asked for by pings"
        yield Publish(Event.WARNING, detail={"what": what})
        return
    if answer.tag != _ENABLED:
        raise unexpected(answer, "<enabled>")
    management = Management(
        jid=progress.jid,
        sid=progress.header.id,
        binding=binding_of(negotiation.config),
        secured=negotiation.tls is not None,
    )
    if asked and answer.get("resume", "").strip() in _TRUE:
        yield from _read_resumption(management, answer, float(asked))
    progress.management = management
    detail = {"resumable": management.resumable, "max": management.max_seconds, "location": management.location}
    yield Publish(Event.SM_ENABLED, detail=detail)


def _read_resumption(management: Management, enabled: Node, asked: float) -> Generator[Step, Any, None]:
    """What <enabled/> says of resuming; what makes no sense of that is passed over with a WARNING."""
    identity = enabled.get("id", "")
    if not identity:
        yield from _warn("it says that this session can be resumed, and gives no id for that; so it cannot")
        return
    if len(identity.encode()) > MAX_ID:
        yield from _warn(f"the id to resume this session has more than {MAX_ID} bytes (XEP-0198 5); it is not kept")
        return
    management.id = identity
    management.max_seconds = asked
    if "max" in enabled.attrib:
        seconds = read_number(enabled.get("max"))
        if seconds:
            management.max_seconds = min(asked, float(seconds))
        else:
            said = ascii(enabled.get("max", "")[:20])
            yield from _warn(f"it can be resumed for {said} seconds, it says, which is no time; ours counts")
    location = enabled.get("location", "").strip()
    if len(location) > MAX_LOCATION or not location.isprintable() or " " in location:
        yield from _warn(f"it asks us to come back at {location[:40]!a}, which is no host; it is passed over")
    else:
        management.location = location


def _warn(what: str) -> Generator[Step, Any, None]:
    yield Publish(Event.WARNING, detail={"what": f"of the server's <enabled> (XEP-0198): {what}"})


#: Goes before binding: a session that goes on has its resource.
RESUME = Feature(
    _SM,
    Fact.DECIDED,
    _resume,
    needs=frozenset({Fact.AUTHENTICATED}),
    forbids=frozenset({Fact.BOUND}),
    wanted=_to_resume,
)
#: Goes last: stanzas are counted behind it.
ENABLE = Feature(_SM, Fact.MANAGED, _enable, needs=frozenset({Fact.BOUND}), wanted=_to_enable)
