"""What hostile servers present, and the two engines that must refuse it."""

from __future__ import annotations

import importlib.util
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.attacks.attack import Play
from tests.attacks.foe import Foe
from tests.attacks.stage import CLIENT_KIND, Kind, Stage
from tests.shell.transport.pair import Chain, authority, other_authority, server_context

#: What a link may be encrypted by: Python's ssl, and pyOpenSSL of the extra pcj[binding].
ENGINES: Final = ("ssl", "openssl")

Present = Callable[[Stage], ssl.SSLContext]


def ca_file(stage: Stage) -> str:
    """The authority that our certificates are of, and the only one that brokers trust."""
    file = stage.folder / "ca.pem"
    authority().cert_pem.write_to_path(str(file))
    return str(file)


def presents(chain: Callable[[], Chain], **changes: Any) -> Present:
    """The context of a server with this certificate."""

    def make(stage: Stage) -> ssl.SSLContext:
        context = server_context(chain(), stage.folder)
        for name, value in changes.items():
            setattr(context, name, value)
        return context

    return make


def foreign(*names: str) -> Callable[[], Chain]:
    """A certificate of an authority that is not ours."""

    def make() -> Chain:
        made = other_authority().issue_cert(*names)
        return Chain(made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes())

    return make


def tls(stage: Stage, engine: str, **options: Any) -> dict[str, Any]:
    """The options of a broker that requires TLS, and trusts our authority alone."""
    if engine == "openssl" and importlib.util.find_spec("OpenSSL") is None:
        pytest.skip("pcj[binding] is not installed")
    return {"require_tls": True, "ca_file": ca_file(stage), "tls_engine": engine, **options}


def by_engine(name: str, make: Callable[[str], Play]) -> Mapping[str, Play]:
    """A play with each engine."""
    return {f"{name}, {engine}" if name else engine: make(engine) for engine in ENGINES}


def refused(
    name: str, present: Present, *words: str, direct: bool = False, kind: Kind = CLIENT_KIND, **options: Any
) -> Mapping[str, Play]:
    """The handshake fails, by these words, before a byte of XML is sent in it; with each engine."""

    def make(engine: str) -> Play:
        async def play(stage: Stage) -> None:
            context = present(stage)

            async def script(foe: Foe) -> None:
                if direct:
                    await foe.start_tls(context)
                else:
                    await foe.upgrade(context, xmlns=kind.xmlns)
                await foe.greeting()
                raise AssertionError(f"the client went on: {foe.tls.version()}")

            outcome = await stage.refused(script, kind=kind, **tls(stage, engine, **{"direct_tls": direct, **options}))
            outcome.failed("SSLFAIL", *words)
            outcome.nothing_shown()
            assert "SSLSUCCESS" not in outcome.names

        return play

    return by_engine(name, make)


class Selecting:
    """A server of pyOpenSSL that selects a protocol, offered or not; Python's selects one that is offered."""

    def __init__(self, chain: Chain, protocol: bytes, folder: Path) -> None:
        SSL = pytest.importorskip("OpenSSL.SSL")
        server_context(chain, folder)
        self._ssl = SSL
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_privatekey_file(str(folder / "server.pem"))
        self._context.use_certificate_chain_file(str(folder / "server.pem"))
        self._context.set_alpn_select_callback(lambda connection, offered: protocol)

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool) -> Selected:
        """The server's end of one connection."""
        return Selected(self._ssl, self._context, incoming, outgoing)


class Selected:
    """Such a server's end, as `ssl.SSLObject` would be one."""

    def __init__(self, library: Any, context: Any, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._library = library
        self._connection = library.Connection(context, None)
        self._connection.set_accept_state()
        self._incoming, self._outgoing = incoming, outgoing

    def _do(self, work: Callable[[], Any]) -> Any:
        if data := self._incoming.read():
            self._connection.bio_write(data)
        try:
            return work()
        except self._library.WantReadError:
            raise ssl.SSLWantReadError from None
        except self._library.Error as error:
            raise ssl.SSLError(str(error)) from None
        finally:
            try:
                while data := self._connection.bio_read(1 << 16):
                    self._outgoing.write(data)
            except self._library.Error:
                pass  # there is no more

    def do_handshake(self) -> None:
        """Go on with it."""
        self._do(self._connection.do_handshake)

    def read(self, size: int) -> bytes:
        """What the client said."""
        return bytes(self._do(lambda: self._connection.recv(size)))

    def write(self, data: bytes | memoryview) -> int:
        """Say something."""
        return int(self._do(lambda: self._connection.send(bytes(data))))

    @property
    def session_reused(self) -> bool | None:
        """It never is."""
        return False

    def version(self) -> str | None:
        """Of TLS."""
        return str(self._connection.get_protocol_version_name())

    def cipher(self) -> tuple[str, str, int] | None:
        """Nobody asks for it."""
        return None
