"""Whatever a hostile server writes, and wherever: the terminal gets nothing but visible text (and, on a terminal, our
own colours).
"""

from __future__ import annotations

import datetime
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rich.cells import cell_len
from rich.console import Console

import pcj.cli.timeline
from pcj.cli.escape import shown
from pcj.cli.group import pcj as command
from pcj.testing import ScriptedServer
from tests.shell.cli.background import background
from tests.shell.links import STREAMS, Wire, scripted

PASSWORD: Final = "s3cret-of-romeo"
COLUMNS: Final = 80
#: What a run may print in all, however much it was sent.
MOST_CHARACTERS: Final = 40_000

#: XML 1.0 allows C1 controls, but no others; ESC and BEL go where no XML parser stands in the way.
C1: Final = "\x9b2J\x9b97;41m\x9d0;title\x9c\x85\x90q\x7f"
BIDI: Final = "\u202e\u2066\u200f\u061c"
UNSEEN: Final = "\u200b\ufeff\u2060\u3164\ufe0f\u00ad\U000e0041\u2028\u2029"
LINES: Final = "\r\n   0.00  PCJ_READY             romeo@localhost\r"
#: A line that a terminal of 80 columns breaks just before what looks like one of ours.
WIDE: Final = "\u6f22" * 26 + "   0.00  PCJ_READY             romeo@localhost"
EVIL: Final = f"{C1}{BIDI}{UNSEEN}{LINES}{WIDE}[bold red]:boom:[/]"
LONG: Final = EVIL + "\x9bA" * 100_000
#: What can stand in a name of XML: letters of every width, and what joins the one before it.
NAME: Final = "a\u0301\u6f22\u3099\u0e33"
#: What newer editions of XML allow there, and ours does not.
NEWER_NAME: Final = "a\u200d\u200cb\u3164"
LONG_NAME: Final = NAME * 5_000

#: Our own colours, as the Timeline sets them; none of a server's is among them.
_OURS: Final = re.compile(r"\x1b\[(?:0|1|2|1;3[0-7]|3[0-7])m")
_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
_STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"
_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
_BIND = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"


def text(words: str) -> str:
    return words.replace("\r", "&#13;")


def attribute(words: str) -> str:
    return quoteattr(words, {"\n": "&#10;", "\r": "&#13;"})


def opening(**attributes: str) -> str:
    said = " ".join(
        f"{name}={attribute(value)}" for name, value in {"id": "s1", "version": "1.0", **attributes}.items()
    )
    return f"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' {said}>"


# ---- what a server can say, at each step


def at_header(said: str) -> Callable[[Wire], Awaitable[None]]:
    async def script(wire: Wire) -> None:
        await wire.until(">")
        wire.send(said)
        await wire.close()

    return script


def at_features(said: str) -> Callable[[Wire], Awaitable[None]]:
    return at_header(f"{opening()}<stream:features>{said}</stream:features>")


def at_authentication(said: str) -> Callable[[Wire], Awaitable[None]]:
    async def script(wire: Wire) -> None:
        await wire.header("jabber:client", version="1.0")
        wire.features(f"<mechanisms xmlns='{_SASL}'><mechanism>PLAIN</mechanism></mechanisms>")
        await wire.until("</auth>")
        wire.send(said)
        await wire.close()

    return script


def at_bind(said: str) -> Callable[[Wire], Awaitable[None]]:
    async def script(wire: Wire) -> None:
        await wire.login()
        wire.send(said.replace("ID", await wire.request()))
        await wire.close()

    return script


def when_ready(said: str) -> Callable[[Wire], Awaitable[None]]:
    async def script(wire: Wire) -> None:
        await wire.login()
        await wire.bind()
        wire.send(said)
        await wire.close()

    return script


def _error(condition: str, words: str) -> str:
    return (
        f"<stream:error><{condition} xmlns='{_STREAM_ERRORS}'/><text xmlns='{_STREAM_ERRORS}'>{text(words)}</text>"
        f"<{NAME} xmlns={attribute(words)} {NAME}={attribute(words)}>{text(words)}</{NAME}></stream:error>"
        "</stream:stream>"
    )


def _bound(jid: str) -> str:
    return (
        f"<iq type='result' id='ID'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{text(jid)}</jid></bind></iq>"
        f"<message from={attribute(jid)}/>"
    )


def _refused(condition: str, words: str) -> str:
    return (
        f"<iq type='error' id='ID'><error type={attribute(words)}><{condition} xmlns='{_STANZAS}'/>"
        f"<text xmlns='{_STANZAS}'>{text(words)}</text></error></iq>"
    )


def _failure(condition: str, words: str) -> str:
    return f"<failure xmlns='{_SASL}'><{condition}/><text>{text(words)}</text></failure>"


def _hail(words: str, name: str) -> str:
    return (
        f"<message type={attribute(words)} from={attribute(words)} id={attribute(words)} {name}={attribute(words)}>"
        f"<body>{text(words)}</body><{name} xmlns={attribute(words)}>{text(words)}</{name}>{text(words)}</message>"
        f"<iq type='get' id={attribute(words)} from={attribute(words)}><{name} xmlns={attribute(words)}/></iq>"
        f"<{name} xmlns={attribute(words)}>{text(words)}</{name}>"
    )


SCRIPTS: Final = {
    "no XML": at_header(f"\x1b[2J\x1b]0;title\x07{EVIL}"),
    "another protocol": at_header(f"SSH-2.0-{EVIL}\x1b[97;41m\r\n"),
    "a header's attributes": at_header(opening(id=EVIL, version=EVIL, **{"from": EVIL, "xml:lang": EVIL, NAME: EVIL})),
    "a header's version": at_header(opening(version=LONG)),
    "a header's namespace": at_header(f"<stream:stream xmlns:stream={attribute(EVIL)}>"),
    "an element in place of the header": at_header(f"<{NAME} xmlns={attribute(EVIL)} {NAME}={attribute(EVIL)}>"),
    "a tag that does not fit": at_header(f"{opening()}<{NAME} a={attribute(EVIL)}></{LONG_NAME}>"),
    "a name with what cannot be seen": at_header(f"{opening()}<{NEWER_NAME} a='b'/>"),
    "an entity": at_header(f"{opening()}<a>&{NAME};</a>"),
    "a document type": at_header(f"<!DOCTYPE {NAME} SYSTEM {attribute(EVIL)}>{opening()}"),
    "features": at_features(f"<{NAME} xmlns={attribute(EVIL)}><required/>{text(EVIL)}</{NAME}>"),
    "mechanisms": at_features(f"<mechanisms xmlns='{_SASL}'><mechanism>{text(EVIL)}</mechanism></mechanisms>"),
    "many mechanisms": at_features(
        f"<mechanisms xmlns='{_SASL}'>{f'<mechanism>{text(EVIL)}</mechanism>' * 1_000}</mechanisms>"
    ),
    "a stream error": at_header(opening() + _error("host-unknown", EVIL)),
    "a long stream error": at_header(opening() + _error("host-unknown", LONG)),
    "a stream error of an unknown condition": at_header(opening() + _error(LONG_NAME, EVIL)),
    "a redirect": at_header(
        f"{opening()}<stream:error><see-other-host xmlns='{_STREAM_ERRORS}'>{text(LONG)}</see-other-host>"
        "</stream:error>"
    ),
    "a failure": at_authentication(_failure("not-authorized", EVIL)),
    "a long failure": at_authentication(_failure("not-authorized", LONG)),
    "a failure of an unknown condition": at_authentication(_failure(LONG_NAME, EVIL)),
    "a challenge that is no base64": at_authentication(f"<challenge xmlns='{_SASL}'>{text(EVIL)}</challenge>"),
    "another element than due": at_authentication(f"<{LONG_NAME} xmlns={attribute(EVIL)} a={attribute(EVIL)}/>"),
    "an address": at_bind(_bound(f"romeo@localhost/{EVIL}")),
    "a long address": at_bind(_bound(f"{LONG}@localhost")),
    "a resource as it may be": at_bind(_bound(f"romeo@localhost/{NAME}{WIDE}")),
    "a bind that is refused": at_bind(_refused("not-allowed", EVIL)),
    "a long refusal": at_bind(_refused(LONG_NAME, LONG)),
    "stanzas": when_ready(_hail(EVIL, NAME) + _error("conflict", EVIL)),
    "long stanzas": when_ready(_hail(EVIL + "\u3164" * 20_000, LONG_NAME[:10_000]) + _error("conflict", LONG)),
    "a stanza of many children": when_ready(
        f"<message>{f'<{NAME} a={attribute(EVIL)}>' * 200}{f'</{NAME}>' * 200}"
        f"{f'<b>{text(EVIL)}</b>' * 1_000}</message>"
    ),
    "what is not well-formed": when_ready(f"<message {NAME}='&{NAME};'>{text(EVIL)}"),
}


def connect(server: ScriptedServer, *more: str, width: int = COLUMNS) -> Result:
    arguments = ["connect", "romeo@localhost", "--host", server.host, "--port", str(server.port), *more]
    return CliRunner().invoke(command, arguments, env={"PCJ_PASSWORD": PASSWORD, "COLUMNS": str(width)})


CLEAR: Final = ("--no-require-tls", "--allow-plain")


def check(output: str, *, most: int = MOST_CHARACTERS) -> None:
    """Nothing that a terminal would obey, nothing unseen, and not too much of it."""
    for line in output.splitlines():
        assert line.isprintable(), ascii(line)
        assert shown(line) == line
    assert "\x0b" not in output  # at which splitlines() splits, and others of its kind
    assert set(re.findall(r"[^\S ]", output)) <= {"\n"}
    assert len(output) <= most


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_nothing_that_a_server_says_steers_the_terminal(script: Callable[[Wire], Awaitable[None]]) -> None:
    with background(lambda: scripted(script)) as runs:
        result = connect(runs.it, *CLEAR)
        assert "Traceback" not in result.output
        assert result.exit_code in (0, 1)
        check(result.output)
        lines = result.stdout.splitlines()
        # No line is broken by the terminal: only so nothing of a server's stands at the beginning of one. After READY a
        # resource is all that is like our own words.
        assert max(map(cell_len, lines)) <= COLUMNS
        begun = [line.split()[1] for line in lines if re.match(r" *-?\d+\.\d\d  +\S", line)]
        assert begun.count("PCJ_READY") <= 1
        as_json = connect(runs.it, *CLEAR, "--json")
        check(as_json.stdout, most=10_000_000)  # that is for programs: all there is, in JSON
        check(as_json.stderr)
        assert [json.loads(line)["event"] for line in as_json.stdout.splitlines()]


@pytest.mark.parametrize("name", ["a stream error", "stanzas", "no XML"])
def test_on_a_terminal_there_are_no_colours_but_ours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pcj.cli.timeline.make_console

    def terminal(*, stderr: bool = False) -> Console:
        console = made(stderr=stderr)
        console._force_terminal = True  # what a real one would be taken for
        console._color_system = Console(force_terminal=True, color_system="standard")._color_system
        return console

    monkeypatch.setattr("pcj.cli.connect.make_console", terminal)
    with background(lambda: scripted(SCRIPTS[name])) as runs:
        result = connect(runs.it, *CLEAR)
    assert _OURS.search(result.stdout)
    check(_OURS.sub("", result.stdout))


@contextmanager
def certificate(folder: Path) -> Iterator[ssl.SSLContext]:
    """A server's, of a hostile authority, whose every name is meant for a terminal."""
    names = [
        (x509.NameOID.COMMON_NAME, f"\x1b[2J{C1}"),  # 64 octets at most
        (x509.NameOID.ORGANIZATION_NAME, f"\x07{BIDI}\u200b\u3164"),
        (x509.NameOID.LOCALITY_NAME, LINES),
    ]
    subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in names])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("\x1b[97;41mevil\x07\r\n.example"),
                    x509.UniformResourceIdentifier("xmpp:\x1b[2J"),
                    *(
                        x509.DNSName(f"{number}.\x9d\x1b" if number < 0 else f"n{number}.example")
                        for number in range(2_000)
                    ),
                ]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "evil.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    yield context


@pytest.mark.parametrize("trusted", [False, True], ids=["unknown authority", "another name"])
def test_no_name_in_a_certificate_steers_the_terminal(trusted: bool, tmp_path: Path) -> None:
    async def never(*streams: object) -> None:
        pytest.fail("the certificate was accepted")

    with certificate(tmp_path) as context, background(lambda: ScriptedServer(never, tls=context)) as runs:
        options = ["--direct-tls", *(["--ca-file", str(tmp_path / "evil.pem")] if trusted else [])]
        for more in ([], ["--json"]):
            result = connect(runs.it, *options, *more)
            assert result.exit_code == 1
            assert "PCJ_SSLFAIL" in result.stdout
            check(result.output)


def test_what_is_remote_in_the_demonstration_does_not_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its peers answer with what a hostile one would; of the server in between, everything is its own.
    monkeypatch.setattr("pcj.cli.play._ANSWER", EVIL.replace("\x00", ""))
    for more in ([], ["--json"]):
        result = CliRunner().invoke(command, ["demo", *more], env={"COLUMNS": str(COLUMNS)})
        assert result.exit_code == 0, result.output
        assert "\\x9b2J" in result.stdout or "\\u009b2J" in result.stdout
        check(result.output, most=200_000)


def test_every_command_is_among_those_that_were_tried() -> None:
    assert set(command.commands) == {
        "connect",
        "demo",
        "queue",
    }  # the last shows what its own file holds: test_queue.py
