"""The XML stream: what is no stream of RFC 6120 (X01 to X14)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from pcj import Event
from pcj.namespaces import BIND, CLIENT, COMPONENT_ACCEPT, SASL, STREAM_ERRORS, STREAMS, TLS
from pcj.testing import ScriptedServer
from tests.attacks.attack import Attack, Play
from tests.attacks.foe import DOMAIN, Foe, header, mechanisms
from tests.attacks.memory import flat
from tests.attacks.stage import CLIENT_KIND, COMPONENT_KIND, KINDS, PASSWORD, Kind, Session, Stage, bound

HELLO: Final = "<message from='juliet@example.org/balcony'><body>hello</body></message>"
LAUGHS: Final = "".join(f"<!ENTITY l{level} '{f'&l{level - 1};' * 10 if level else 'ha' * 10}'>" for level in range(10))


# ---- where it is sent


def opening(data: str | bytes, answer: str) -> Play:
    """It stands in the place of the server's header, or before it."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.greeting()
            foe.send(data)

        with flat(4):
            refused = await stage.refused(script)
        refused.failed("STREAM_ERROR")
        assert refused.foe.said == answer
        refused.nothing_shown()

    return play


def negotiating(data: str | bytes, answer: str) -> Play:
    """It comes behind the server's header, in the place of its features."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.header()
            foe.send(data)
            foe.features(mechanisms("SCRAM-SHA-256"))

        with flat(4):
            refused = await stage.refused(script)
        refused.failed("STREAM_ERROR")
        assert refused.foe.said == answer, refused.foe.said
        refused.nothing_shown()

    return play


def ready(data: str | bytes, answer: str, kind: Kind = CLIENT_KIND) -> Play:
    """It comes while the link is READY; a message in front of it arrives, none behind it does."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            session.say(HELLO)
            session.foe.send(data)
            session.say(HELLO)
            with flat(4):
                await session.refused(answer)
            assert session.bodies() == ["hello"]

    return play


def everywhere(named: Mapping[str, str | bytes], answer: str) -> dict[str, Play]:
    """Each, between elements of a negotiation, and between stanzas."""
    plays: dict[str, Play] = {}
    for name, data in named.items():
        plays[f"{name}, negotiating"] = negotiating(data, answer)
        plays[f"{name}, while READY"] = ready(data, answer)
    return plays


def stanza(text: str | bytes) -> bytes:
    """A message whose body holds this as it is."""
    octets = text.encode() if isinstance(text, str) else text
    return b"<message from='juliet@example.org'><body>" + octets + b"</body></message>"


def lives(say: Callable[[Session], object], check: Callable[[Session], object], kind: Kind = CLIENT_KIND) -> Play:
    """What the server says while READY is borne, and this is true afterwards."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            say(session)
            await session.barrier()
            check(session)
            assert session.broker.state == "ready"

    return play


# ---- X01 to X03: declarations, entities, comments


async def external_entity(stage: Stage) -> None:
    """A document type that wants to be fetched: nobody asks for it."""
    asked: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append("asked")

    async with ScriptedServer(listen) as web:
        where = f"http://127.0.0.1:{web.port}/evil.dtd"
        declared = f"<!DOCTYPE stream SYSTEM '{where}' [<!ENTITY x SYSTEM '{where}'><!ENTITY % p SYSTEM '{where}'>%p;]>"
        await opening(f"<?xml version='1.0'?>{declared}{header()}&x;", "restricted-xml")(stage)
        await ready(declared, "restricted-xml")(stage)
        assert web.connections == 0
    assert asked == []


X01 = Attack(
    id="X01",
    what="A DOCTYPE: before the header or behind it, with nested entities (billion laughs), quadratic ones, "
    "parameter entities, or one to be fetched",
    see="CVE-2023-52426",
    unprotected="a kilobyte becomes gigabytes in memory, files and URLs of the attacker's choice are read",
    pcj="restricted-xml at the first `<!`, before any declaration is read; memory stays flat and nothing is fetched",
    plays={
        "before the header": opening(f"<?xml version='1.0'?><!DOCTYPE stream>{header()}", "restricted-xml"),
        "behind the header": negotiating("<!DOCTYPE stream>", "restricted-xml"),
        "billion laughs": opening(f"<!DOCTYPE stream [{LAUGHS}]>{header()}<a>&l9;</a>", "restricted-xml"),
        "quadratic": opening(
            f"<!DOCTYPE stream [<!ENTITY a '{'a' * 50_000}'>]>{header()}<a>{'&a;' * 10_000}</a>", "restricted-xml"
        ),
        "parameter entities": opening(
            f"<!DOCTYPE s [<!ENTITY % a '<!ENTITY b \"ha\">'>%a;]>{header()}<a>&b;</a>", "restricted-xml"
        ),
        "while READY": ready("<!DOCTYPE stream>", "restricted-xml"),
        "laughs while READY": ready(f"<!DOCTYPE s [{LAUGHS}]><a>&l9;</a>", "restricted-xml"),
        "inside a stanza": ready("<message><!DOCTYPE s [<!ENTITY a 'b'>]><body>&a;</body></message>", "restricted-xml"),
        "to be fetched": external_entity,
    },
)

X02 = Attack(
    id="X02",
    what="An entity: one of the five of XML redefined, an undeclared one in a text, in an attribute, in a name",
    unprotected="text changes its meaning behind whoever checked it",
    pcj="refused; the five of XML mean what XML says",
    plays={
        "redefined": opening(f"<!DOCTYPE s [<!ENTITY lt '&#38;#60;'>]>{header()}", "restricted-xml"),
        **everywhere({"undeclared": stanza("&nbsp;")}, "restricted-xml"),
        "in an attribute": ready("<message to='&home;'/>", "restricted-xml"),
        "in a name": ready("<&lt;message/>", "not-well-formed"),
        "the five": lives(
            lambda session: session.foe.send(stanza("&lt;&gt;&amp;&apos;&quot;")),
            lambda session: _are(session.bodies(), ["<>&'\""]),
        ),
    },
)


def _are(found: object, expected: object) -> None:
    assert found == expected, found


X03 = Attack(
    id="X03",
    what="A comment, a processing instruction, a second XML declaration: between stanzas, inside one, inside a tag",
    unprotected="parsers differ about what a comment divides: a filter sees another text than the client behind it",
    pcj="restricted-xml, or not-well-formed where XML itself forbids it; the stanza that holds it is not delivered",
    plays={
        **everywhere({"comment": "<!-- -->", "instruction": "<?php echo ?>"}, "restricted-xml"),
        "comment inside": ready(stanza("a<!-- -->b"), "restricted-xml"),
        "instruction inside": ready(stanza("a<?x y?>b"), "restricted-xml"),
        "declaration between": ready("<?xml version='1.0'?>", "not-well-formed"),
        "declaration inside": ready(stanza("<?xml version='1.0'?>"), "not-well-formed"),
        "before the declaration": opening(f"<!-- --><?xml version='1.0'?>{header()}", "restricted-xml"),
        "instruction first": opening(f"<?xml-stylesheet href='x'?>{header()}", "restricted-xml"),
        "inside a tag": ready("<message <!-- --> from='a@b'/>", "not-well-formed"),
    },
)


# ---- X04: CDATA


def cdata(size: int) -> Play:
    """What CDATA holds, cut into pieces of `size` bytes, is the same text."""

    async def play(stage: Stage) -> None:
        async with stage.session() as session:
            data = stanza("<![CDATA[<a>&amp;]]]]><![CDATA[></message>]]> &lt;")
            for at in range(0, len(data), size):
                session.foe.send(data[at : at + size])
                await session.foe.settle()
            await session.barrier()
            assert session.bodies() == ["<a>&amp;]]></message> <"]

    return play


X04 = Attack(
    id="X04",
    what="CDATA that holds tags and is cut wherever a read may end",
    unprotected="the end of a stanza is seen where there is none, and text of a stranger's becomes a stanza",
    pcj="the same text as without CDATA, at each cut",
    plays={"byte by byte": cdata(1), "by threes": cdata(3), "by sevens": cdata(7)},
)


# ---- X05 to X07: namespaces

X05 = Attack(
    id="X05",
    what="Names that namespaces forbid: an undeclared prefix, an empty or reserved declaration, one attribute twice "
    "by two prefixes",
    unprotected="a node is delivered that no two readers understand alike (libxml2 reports it behind the node)",
    pcj="not-well-formed, and the stanza is not delivered",
    plays={
        name: ready(data, "not-well-formed")
        for name, data in {
            "undeclared": "<message><evil:x/></message>",
            "undeclared attribute": "<message evil:x='1'/>",
            "empty": "<message xmlns:p=''><p:x/></message>",
            "xml rebound": "<message xmlns:xml='urn:x'/>",
            "xmlns declared": "<message xmlns:xmlns='urn:x'/>",
            "bound to xmlns": "<message xmlns:p='http://www.w3.org/2000/xmlns/'/>",
            "twice": "<message xmlns:a='urn:x' xmlns:b='urn:x' a:y='1' b:y='2'/>",
            "twice by one name": "<message to='a' to='b'/>",
            "end of another": "<message></presence>",
        }.items()
    },
)


def foreign_prefixes(xmlns: str) -> Play:
    """A stream whose prefixes are not the usual ones logs in and works."""

    async def play(stage: Stage) -> None:
        began = f"<?xml version='1.0'?><s:stream xmlns='{CLIENT}' xmlns:s='{STREAMS}' {xmlns} id='1' version='1.0'>"

        async def script(foe: Foe) -> None:
            await foe.greeting()
            foe.send(f"{began}<s:features>{mechanisms('SCRAM-SHA-256')}</s:features>")
            await foe.scram(PASSWORD)
            foe.success(foe.proof)
            await foe.greeting()
            foe.send(f"{began}<s:features><bind xmlns='{BIND}'/></s:features>")
            foe.send(bound(await foe.asked()) + HELLO)
            foe.send(f"<s:error><host-gone xmlns='{STREAM_ERRORS}'/></s:error></s:stream>")

        async with stage.server(script) as at:
            broker = stage.broker(CLIENT_KIND, at.port)
            record = stage.record(broker)
            await broker.connect()
            if broker.state == "ready":
                await broker.wait_for(Event.PCJ_SOCKETDISCONNECT, timeout=5)
            await broker.shutdown()
        assert [name for name in record.names if name in ("READY", "NODERECEIVED", "STREAM_ERROR")][:2] == [
            "READY",
            "NODERECEIVED",
        ]
        error = record.one(Event.STREAM_ERROR).error
        assert error is not None
        assert "host-gone" in str(error)

    return play


def not_of_the_stream(session: Session) -> None:
    """An element called stream:error by its prefix alone."""
    session.foe.send("<stream:error xmlns:stream='urn:example:other'><conflict/></stream:error>")


X06 = Attack(
    id="X06",
    what="The prefix `stream` bound to something else, or the stream's namespace under another prefix",
    unprotected="a client that goes by the prefix ends its link at a stranger's word, or overlooks the server's error",
    pcj="goes by namespace alone, never by prefix",
    plays={
        "another prefix": foreign_prefixes(""),
        "stream is something else": foreign_prefixes("xmlns:stream='urn:example:other'"),
        "an error by prefix alone": lives(
            not_of_the_stream, lambda session: _are(session.record.names.count("STREAM_ERROR"), 0)
        ),
    },
)

X07 = Attack(
    id="X07",
    what="A header with another stream namespace, with the content namespace of another kind of link, or with none",
    unprotected="credentials go to a service that is not the one meant",
    pcj="invalid-namespace before anything is sent; without a content namespace no element of it is one of ours, and "
    "the negotiation ends at its deadline or at the first of them",
    plays={
        "another stream": opening(header(streams="urn:example:stream"), "invalid-namespace"),
        "a server's": opening(header("jabber:server"), "invalid-namespace"),
        "a component's": opening(header(COMPONENT_ACCEPT), "invalid-namespace"),
        "no stream": opening("<html><body>", "bad-format"),
        "no prefix": opening("<stream xmlns='jabber:client' version='1.0'>", "invalid-namespace"),
    },
)


# ---- X08 to X10: elements in the wrong place

X08 = Attack(
    id="X08",
    what="A second `<stream:stream>` inside the stream",
    unprotected="the session is negotiated anew with what somebody else says, or its id is replaced",
    pcj="bad-format; it is never taken for a header",
    plays={
        "negotiating": negotiating(header().partition("?>")[2], "bad-format"),
        **{f"while READY, {kind}": ready(header(kind.xmlns).partition("?>")[2], "bad-format", kind) for kind in KINDS},
        **{
            f"closed at once, while READY, {kind}": ready(
                header(kind.xmlns).partition("?>")[2][:-1] + "/>", "bad-format", kind
            )
            for kind in KINDS
        },
        "inside a stanza, as text": lives(
            lambda session: session.foe.send(stanza("&lt;stream:stream>")),
            lambda session: _are(session.bodies(), ["<stream:stream>"]),
        ),
    },
)

NESTED: Final[Mapping[str, str]] = {
    "a message in forwarded": f"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='{CLIENT}'><body>no</body>"
    "</message></forwarded>",
    "a stream error": f"<stream:error><conflict xmlns='{STREAM_ERRORS}'/></stream:error>",
    "a success": f"<success xmlns='{SASL}'/>",
    "a ping": f"<iq xmlns='{CLIENT}' type='get' id='nested' from='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>",
}


def nested(payload: str, kind: Kind) -> Play:
    """Inside a message it is that message's, and nothing else."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            session.say(f"<message from='juliet@{DOMAIN}' to='{kind.jid}'><body>hello</body>{payload}</message>")
            await session.barrier()
            assert session.record.since("READY")[0] == "NODERECEIVED"
            assert session.bodies() == ["hello"]
            assert [name for name in session.record.since("READY") if name == "STREAM_ERROR"] == []
            assert 'id="nested"' not in session.foe.text

    return play


X09 = Attack(
    id="X09",
    what="Elements of the stream inside a stanza: a message in `<forwarded/>`, a stream error or `<success/>` in a "
    "message, a request",
    see="the kind of CVE-2017-5589",
    unprotected="a peer's payload is taken for a stanza or for the server's word: forged senders, a link cut by "
    "anybody",
    pcj="inert: only a child of the stream itself is one of its elements, by identity",
    plays={f"{name}, {kind}": nested(payload, kind) for name, payload in NESTED.items() for kind in KINDS},
)


def ignored(element: str, kind: Kind) -> Play:
    """Behind READY it is told of, and changes nothing."""

    async def play(stage: Stage) -> None:
        async with stage.session(kind) as session:
            before = len(session.foe.came)
            session.foe.send(element)
            await session.barrier()
            assert session.record.since("READY")[0] == "NODE_IGNORED"
            # Nothing was said to it: all that came is the answer to the ping.
            assert session.foe.came[before:].count(b"<iq") == session.foe.came[before:].count(b'id="barrier"') == 1
            assert "NODERECEIVED" not in session.record.names

    return play


X10 = Attack(
    id="X10",
    what="Elements of the negotiation while READY: features, `<proceed/>`, `<success/>`, `<failure/>`, `<challenge/>`",
    unprotected="the client begins TLS in TLS, authenticates again, or believes that it has failed",
    pcj="`NODE_IGNORED` for each, no change of state, nothing is sent",
    plays={
        name: ignored(element, CLIENT_KIND)
        for name, element in {
            "features": f"<stream:features>{mechanisms('PLAIN')}</stream:features>",
            "proceed": f"<proceed xmlns='{TLS}'/>",
            "TLS failure": f"<failure xmlns='{TLS}'/>",
            "success": f"<success xmlns='{SASL}'/>",
            "failure": f"<failure xmlns='{SASL}'><not-authorized/></failure>",
            "challenge": f"<challenge xmlns='{SASL}'>cj0=</challenge>",
        }.items()
    }
    | {f"features, {COMPONENT_KIND}": ignored("<stream:features/>", COMPONENT_KIND)},
)


# ---- X11 to X13: characters and encodings

X11 = Attack(
    id="X11",
    what="What is no XML text: NUL, U+FFFE, control characters, surrogates, overlong and Latin-1 bytes, text or a "
    "byte order mark between stanzas",
    unprotected="a NUL cuts a name short, an overlong form slips past a check, control characters steer a terminal",
    pcj="not-well-formed or bad-format; the stanza is not delivered",
    plays={
        **{
            name: ready(stanza(data), "not-well-formed")
            for name, data in {
                "NUL": b"a\0b",
                "escape": b"\x1b[2J",
                "U+FFFE": b"\xef\xbf\xbe",
                "surrogate": b"\xed\xa0\x80",
                "CESU-8 pair": b"\xed\xa0\xbd\xed\xb8\x80",
                "overlong slash": b"\xc0\xaf",
                "Latin-1": b"caf\xe9",
                "beyond Unicode": b"\xf4\x90\x80\x80",
                "NUL by reference": b"&#0;",
                "escape by reference": b"&#x1b;",
                "U+FFFF by reference": b"&#xFFFF;",
                "surrogate by reference": b"&#xD800;",
                "in an attribute": b"</body><x y='\x01'/><body>",
                "in a name": b"<a\x00b/>",
            }.items()
        },
        **everywhere({"text between": "hello"}, "bad-format"),
        "mark between": ready(b"\xef\xbb\xbf", "bad-format"),
        "no-break space between": ready("\u00a0", "bad-format"),
        "mark before the header": opening(b"\xef\xbb\xbf" + header().encode(), "not-well-formed"),
        "reference between": ready("&#65;", "bad-format"),
    },
)


def declared(declaration: str) -> Play:
    """A header behind this declaration is accepted."""

    async def play(stage: Stage) -> None:
        async def script(foe: Foe) -> None:
            await foe.greeting()
            foe.send(f"{declaration}{header().partition('?>')[2]}")
            foe.features(mechanisms("SCRAM-SHA-256"))
            await foe.log_in(PASSWORD, greeted=True)
            foe.send(bound(await foe.asked()))
            await foe.farewell()

        async with stage.server(script) as at:
            broker = stage.broker(CLIENT_KIND, at.port)
            await broker.connect()
            assert broker.state == "ready"
            await broker.shutdown()

    return play


def declares(declaration: str, answer: str) -> Play:
    """A header behind this declaration is refused."""
    return opening(f"{declaration}{header().partition('?>')[2]}", answer)


X12 = Attack(
    id="X12",
    what="A declaration of another encoding or version of XML",
    unprotected="bytes are read in two ways: what one reader takes for text is a tag to the next",
    pcj="unsupported-encoding for all but UTF-8 in any case, not-well-formed for XML 1.1; `standalone` means nothing",
    plays={
        "UTF-16": declares("<?xml version='1.0' encoding='UTF-16'?>", "unsupported-encoding"),
        "ISO-8859-1": declares("<?xml version='1.0' encoding='ISO-8859-1'?>", "unsupported-encoding"),
        "UTF-7": declares("<?xml version='1.0' encoding='UTF-7'?>", "unsupported-encoding"),
        "unknown": declares("<?xml version='1.0' encoding='x-evil'?>", "unsupported-encoding"),
        "XML 1.1": declares("<?xml version='1.1'?>", "not-well-formed"),
        "no version": declares("<?xml encoding='UTF-8'?>", "not-well-formed"),
        "utf-8": declared("<?xml version='1.0' encoding='utf-8'?>"),
        "uTf-8": declared('<?xml version="1.0" encoding="uTf-8"?>'),
        "standalone": declared("<?xml version='1.0' encoding='UTF-8' standalone='yes'?>"),
        "none": declared(""),
    },
)

X13 = Attack(
    id="X13",
    what="A whole stream in UTF-16 or UTF-32, with a byte order mark or without",
    unprotected="expat follows the mark: what a proxy in front took for UTF-8 is another document",
    pcj="unsupported-encoding at the first bytes",
    plays={
        name: opening(header().encode(name), "unsupported-encoding") for name in ("UTF-16", "UTF-16-BE", "UTF-16-LE")
    }
    | {"UTF-32": opening(header().encode("UTF-32"), "unsupported-encoding")},
)


# ---- X14: tokens in parts


def crumbs(opened: bytes, closed: bytes) -> Play:
    """One token in thousands of parts: the later ones cost what the first ones did."""

    async def play(stage: Stage) -> None:
        number, piece = 6_000, b"x" * 128
        async with stage.session() as session:
            session.foe.send(opened)
            spent: list[float] = []
            for _ in range(2):
                began = time.process_time()
                for _ in range(number // 2):
                    session.foe.send(piece)
                    await session.foe.settle()
                spent.append(time.process_time() - began)
            session.foe.send(closed)
            await session.barrier()
            assert session.record.names.count("NODERECEIVED") == 1
            # A token that is looked at anew for each part costs three times as much in its second half, and more.
            assert spent[1] < 2 * spent[0] + 0.05, spent

    return play


X14 = Attack(
    id="X14",
    what="One long token, an attribute or a text, in thousands of small parts",
    see="CVE-2023-52425",
    unprotected="expat before 2.6 reads the token from its beginning for each part: the cost grows with the square "
    "of its length",
    pcj="expat is only fed whole tags, each byte is looked at once: the cost grows with the bytes alone",
    plays={
        "attribute": crumbs(b"<message id='", b"'/>"),
        "text": crumbs(b"<message><body>", b"</body></message>"),
        "CDATA": crumbs(b"<message><body><![CDATA[", b"]]></body></message>"),
    },
)

ROWS: Final = [X01, X02, X03, X04, X05, X06, X07, X08, X09, X10, X11, X12, X13, X14]
