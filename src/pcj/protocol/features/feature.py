"""A feature is a value: what it needs, what it forbids, what it gives, and a generator of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from pcj.errors import Phase, ProtocolError, Retry
from pcj.protocol.common import open_stream, receive_features
from pcj.protocol.features.limits import read_limits
from pcj.protocol.management import Management
from pcj.protocol.steps import Negotiation, Step, StreamLimits
from pcj.stanza import Node
from pcj.xmlstream import StreamHeader

__all__ = ["Fact", "Feature", "Progress", "negotiate_features"]


class Fact(Enum):
    """What holds of the stream so far; features need and forbid them."""

    SECURE = auto()  # TLS stands
    CLEARED = auto()  # TLS stands, or leave was given to do without
    AUTHENTICATED = auto()
    BOUND = auto()
    SESSION = auto()
    DECIDED = auto()  # whether the session of before goes on (XEP-0198)
    MANAGED = auto()  # stream management was agreed on, or refused: it is asked for once


@dataclass(slots=True)
class Progress:
    """What the features have reached so far.

    Attributes:
        jid: who we are. header: of the stream. facts: what holds of it. limits: what the server takes. management: the
            stream management of the session, or None. resumed: how many more of our stanzas the server has by what it
            said as it resumed it, or None.
    """

    jid: str
    header: StreamHeader
    facts: set[Fact] = field(default_factory=set)
    limits: StreamLimits | None = None
    management: Management | None = None
    resumed: int | None = None


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature.

    Attributes:
        tag: the element that offers it. gives: what holds once it is done. needs, forbids: when it may run.
        wanted: whether to run it, given the features offered (an element it does not find may be wanted all the same).
        negotiate: the steps. restarts: whether a new stream begins behind it (RFC 6120 4.3.3).
    """

    tag: str
    gives: Fact
    negotiate: Callable[[Negotiation, Progress, Node], Generator[Step, Any, None]]
    needs: frozenset[Fact] = frozenset()
    forbids: frozenset[Fact] = frozenset()
    wanted: Callable[[Negotiation, Node], bool] = lambda negotiation, features: True
    restarts: bool = False


def negotiate_features(negotiation: Negotiation, features: Sequence[Feature]) -> Generator[Step, Any, Progress]:
    """Open the stream and run each feature whose time has come, until none is left."""
    progress = Progress(jid="", header=StreamHeader({}))
    while True:
        progress.header = yield from open_stream(negotiation, "1.0")
        if progress.header.version < (1, 0) or progress.header.version[0] > 1:
            # RFC 6120 4.7.5: without version 1.0 there are no features, so neither TLS nor SASL.
            version = progress.header.attributes.get("version", "none")
            hint = "is this the router's port" if negotiation.component else "is this a port for components"
            raise ProtocolError(
                f"the server speaks version {version!r:.20} of the stream protocol and 1.0 is needed; {hint}?",
                answer="unsupported-version",
                expected="version='1.0'",
                came=f"version {version!r:.20}",
                retry=Retry.FATAL,
            )
        offered = yield from receive_features()
        progress.limits = yield from read_limits(offered, progress.limits)
        while True:
            if negotiation.tls is not None:
                progress.facts |= {Fact.SECURE, Fact.CLEARED}
            elif not negotiation.tls_required:
                progress.facts.add(Fact.CLEARED)
            feature = _next(negotiation, features, progress.facts, offered)
            if feature is None:
                _refuse_unknown(features, offered)
                return progress
            yield from feature.negotiate(negotiation, progress, offered)
            progress.facts.add(feature.gives)
            if feature.gives is Fact.SECURE:
                progress.limits = None  # anybody on the way may have said it
            if feature.restarts:
                break


def _next(negotiation: Negotiation, features: Sequence[Feature], facts: set[Fact], offered: Node) -> Feature | None:
    for feature in features:
        if feature.gives in facts or not feature.needs <= facts or feature.forbids & facts:
            continue
        if feature.wanted(negotiation, offered):
            return feature
    return None


def _refuse_unknown(features: Sequence[Feature], offered: Node) -> None:
    """RFC 6120 4.3.2: a feature with <required/> must be negotiated; one that we do not know is named."""
    known = {feature.tag for feature in features}
    for child in offered:
        namespace = child.tag.rpartition("}")[0] + "}"
        if child.tag not in known and child.find(f"{namespace}required") is not None:
            raise ProtocolError(
                f"the server insists on the feature {child.tag!r:.120}, which pcj does not know",
                answer="unsupported-feature",
                expected="features that pcj knows",
                came=child.tag[:120],
                phase=Phase.STREAM,
                retry=Retry.FATAL,
            )
