"""A server whose every byte the test writes itself."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from types import TracebackType

from pcj.errors import UsageError
from pcj.testing.link import settle

__all__ = ["ScriptedServer"]


class ScriptedServer:
    """A TCP server for tests of what no real server would say; an asynchronous context manager.

    ::

        async def handler(reader, writer):
            await reader.readuntil(b">")
            writer.write(b"<stream:stream ...")

        async with ScriptedServer(handler) as server:
            ...  # connect to server.host, server.port

    A connection is closed when its handler returns. At the end all are broken off and the listener is closed; an
    exception that a handler raised (a failed `assert`), other than one of a lost connection, is raised then.

    Args:
        handler: called with the two streams of each connection.
        host: where to listen; loopback by default. port: 0 takes a free one.
        tls: a context for TLS from the first byte.

    Attributes:
        host, port: where it listens. connections: how many it has accepted.
    """

    def __init__(
        self,
        handler: Callable[[StreamReader, StreamWriter], Awaitable[None]],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.connections = 0
        self._handler = handler
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> ScriptedServer:
        if self._server is not None:
            raise UsageError("the server has been started already")
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        await settle()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        if self._failures and error is None:
            raise self._failures[0]

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._handle(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await self._handler(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone, which a handler need not care about
        except Exception as error:
            self._failures.append(error)
        finally:
            try:
                writer.transport.abort()
                await writer.wait_closed()
            except (OSError, AttributeError):
                pass  # CPython 3.11.2 looks for the TLS protocol that a closed transport has let go of
