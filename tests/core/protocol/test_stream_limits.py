"""XEP-0478: what the server says that it takes, read strictly and kept over restarts of the stream (A29)."""

from __future__ import annotations

import pytest

from pcj import JABBERD20_COMPONENT, XMPP, Event
from pcj.protocol.features.limits import read_limits
from pcj.protocol.steps import Publish, StreamLimits
from tests.core.pieces import node
from tests.core.protocol.play import (
    BIND,
    PROCEED,
    STARTTLS,
    Play,
    authentication,
    bind_result,
    config,
    features,
    mechanisms,
    play,
    server_header,
)

NS = "urn:xmpp:stream-limits:0"
STREAM = "xmlns:stream='http://etherx.jabber.org/streams'"


def limits(max_bytes: str = "", idle_seconds: str = "") -> str:
    first = f"<max-bytes>{max_bytes}</max-bytes>" if max_bytes else ""
    second = f"<idle-seconds>{idle_seconds}</idle-seconds>" if idle_seconds else ""
    return f"<limits xmlns='{NS}'>{first}{second}</limits>"


def read(text: str, known: StreamLimits | None = None) -> tuple[StreamLimits | None, list[str]]:
    """What is read, and what is warned of."""
    program = read_limits(node(features(text).replace("<stream:features>", f"<stream:features {STREAM}>")), known)
    warnings = []
    try:
        while True:
            step = next(program)
            assert isinstance(step, Publish)
            assert step.event == Event.WARNING
            warnings.append(str(step.detail["what"]))
    except StopIteration as end:
        return end.value, warnings


KNOWN = StreamLimits(262_144, 300)

READ = [
    ("absent", "", None, None),
    ("absent now", BIND, KNOWN, KNOWN),
    ("both", limits("262144", "300"), None, KNOWN),
    ("other ones", limits("300000", "60"), KNOWN, StreamLimits(300_000, 60)),
    ("one of them, the other known", limits("300000"), KNOWN, StreamLimits(300_000, 300)),
    ("the other, one known", limits("", "60"), KNOWN, StreamLimits(262_144, 60)),
    ("empty", limits(), KNOWN, KNOWN),
    ("nothing said", limits(), None, StreamLimits()),
    ("white space of XML around it", limits(" \n262144\t"), None, StreamLimits(262_144)),
    ("the least", limits("10000"), None, StreamLimits(10_000)),
    ("the largest", limits("4294967295", "4294967295"), None, StreamLimits(4_294_967_295, 4_294_967_295)),
    ("of another namespace", "<limits xmlns='urn:x'><max-bytes>262144</max-bytes></limits>", None, None),
    ("children of another", f"<limits xmlns='{NS}'><max-bytes xmlns='u'>9</max-bytes></limits>", None, StreamLimits()),
]


@pytest.mark.parametrize(("text", "known", "found"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_limits_are_read_and_those_known_are_kept(
    text: str, known: StreamLimits | None, found: StreamLimits | None
) -> None:
    assert read(text, known) == (found, [])


NONSENSE = ["0", "-1", "+5", "1e5", "0x10", "1_0", "١٢٣", "²", "5 000", "4294967296", "9" * 5000, "many", "1.5", "<a/>"]


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
@pytest.mark.parametrize("name", ["max-bytes", "idle-seconds"])
def test_what_is_no_number_is_not_kept_and_warned_of_in_a_short_sentence(name: str, text: str) -> None:
    found, (warning,) = read(limits(**{name.replace("-", "_"): text}), KNOWN)
    assert found == KNOWN
    assert f"<{name}>" in warning
    assert len(warning) < 120
    assert warning.isascii()


@pytest.mark.parametrize(
    ("text", "about"),
    [
        (limits("262144") * 2, "announces its limits 2 times"),
        (f"<limits xmlns='{NS}'><max-bytes>1</max-bytes><max-bytes>2</max-bytes></limits>", "'1', '2'"),
    ],
)
def test_a_limit_that_is_given_twice_is_none(text: str, about: str) -> None:
    found, (warning,) = read(text, KNOWN)
    assert found == KNOWN
    assert about in warning


def test_less_than_the_rfc_allows_is_kept_and_warned_of_once() -> None:
    found, (warning,) = read(limits("9999"))
    assert found == StreamLimits(9999)
    assert "9999 bytes" in warning
    assert "RFC 6120 13.12" in warning
    assert read(limits("9999"), found) == (found, [])


def logged_in(before: str, after: str) -> Play:
    """An XMPP link without TLS."""
    script = [
        f"S: {server_header()}{features(mechanisms('SCRAM-SHA-256'), before)}",
        *(line for line in authentication() if line.startswith("S: ")),
        f"S: {server_header()}{features(BIND, after)}",
        f"S: {bind_result('token-2', 'romeo@example.org/orchard')}",
    ]
    return play(config(XMPP, require_tls=False), script)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("", "", None),
        (limits("10000"), "", StreamLimits(10_000)),
        (limits("10000"), limits("262144"), StreamLimits(262_144)),
        ("", limits("262144", "840"), StreamLimits(262_144, 840)),
    ],
)
def test_the_session_has_the_last_limits_that_were_told(before: str, after: str, found: StreamLimits | None) -> None:
    assert logged_in(before, after).established.session.limits == found


def test_limits_of_before_tls_are_forgotten() -> None:
    """Anybody on the way can have written them."""
    script = [
        f"S: {server_header()}{features(STARTTLS, limits('20000'))}",
        PROCEED,
        "T: ok",
        f"S: {server_header()}{features(mechanisms('SCRAM-SHA-256'))}",
        *(line for line in authentication() if line.startswith("S: ")),
        f"S: {server_header()}{features(BIND)}",
        f"S: {bind_result('token-2', 'romeo@example.org/orchard')}",
    ]
    assert play(config(XMPP), script).established.session.limits is None


def test_a_router_can_announce_limits_too() -> None:
    router = "http://jabberd.jabberstudio.org/ns/component/1.0"
    options = {"password": "pencil-and-paper", "username": "romeo", "require_tls": False}
    lines = authentication("SCRAM-SHA-256", "romeo", password=str(options["password"]), host="echo.example.org")
    header = server_header(xmlns=router, from_=None)
    script = [
        f"S: {header}{features(mechanisms('SCRAM-SHA-256'))}",
        *(line for line in lines if line.startswith("S: ")),
        f"S: {header}{features(limits('50000'))}",
        f"S: <bind xmlns='{router}' id='token-2'/>",
    ]
    run = play(config(JABBERD20_COMPONENT, "echo.example.org", **options), script)
    assert run.established.session.limits == StreamLimits(50_000)
