"""The real servers as fixtures: each is started when a test first asks for it, and serves the whole run.

`prosody`, `ejabberd`, `ejabberd_plain`, `jabberd2`: one server each. `real_server`: the test runs once with each of
prosody, ejabberd and jabberd2. `legacy_server`: the same for iq:auth (XEP-0078), with ejabberd_plain. `workspace`: for
a test that wants a server of its own, to give it other settings or to end it for good:
``with Prosody(workspace, settings="...") as server``.

A test may kill or stop a shared server: it is started again before the next test.

`seen`: takes what a test of the matrix saw, see matrix.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.interop.links import Pair
from tests.interop.matrix import COMMAND, PATH, Seen, Table
from tests.interop.servers import Ejabberd, Jabberd2, Prosody, RealServer, Workspace

_HERE = Path(__file__).parent

Server = TypeVar("Server", bound=RealServer)


class Run:
    """What this run sees of the matrix.

    Attributes:
        table: the cells. complete: it is the whole matrix, all of it went well. elsewhere: the cells that differ from
            docs/compatibility.md where the server's version differs, too.
    """

    def __init__(self) -> None:
        self.table = Table()
        self.complete = True
        self.elsewhere: list[str] = []


_run = Run()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-compatibility", action="store_true", help=f"write docs/{PATH.name} from what is seen")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"behaviour(*rows): what it sees stands in docs/{PATH.name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = [place for place, item in enumerate(items) if item.path.is_relative_to(_HERE)]
    # What holds the run against the table comes last.
    ours = sorted((items[place] for place in places), key=lambda item: "whole_run" in _fixtures(item))
    for place, item in zip(places, ours, strict=True):
        items[place] = item
        item.add_marker(pytest.mark.interop)
    if not {item.path for item in ours} >= set(_HERE.glob("test_*.py")):
        _run.complete = False


def _fixtures(item: pytest.Item) -> list[str]:
    names: list[str] = getattr(item, "fixturenames", [])
    return names


def pytest_deselected(items: list[pytest.Item]) -> None:
    if any("seen" in _fixtures(item) for item in items):
        _run.complete = False


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if not report.passed and "behaviour" in report.keywords:
        _run.complete = False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _run.elsewhere:
        terminalreporter.section(f"other servers than those of docs/{PATH.name}")
        terminalreporter.write_line("\n".join(_run.elsewhere))
        terminalreporter.write_line(f"To have the table of these servers: {COMMAND}")


@pytest.fixture
def whole_run() -> Run:
    """What all tests saw before this one, which is the last."""
    return _run


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Seen:
    """Takes what a test marked with `behaviour` saw."""
    mark = request.node.get_closest_marker("behaviour")
    assert mark is not None, "which behaviour does this test show?"
    callspec = getattr(request.node, "callspec", None)
    pair = callspec.params.get("pair") if callspec is not None else None

    def version(of: Pair) -> str:
        return of.server_of(request).version

    return Seen(_run.table, mark.args, pair, version)


@pytest.fixture
def server(pair: Pair, request: pytest.FixtureRequest) -> RealServer:
    """The server of the test's pair."""
    return pair.server_of(request)


def require(kind: type[RealServer]) -> None:
    """Skips the test if this machine has no such server; where nothing may be skipped (CI=true), fails it."""
    reason = kind.missing()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; CI=true, so this is not skipped", pytrace=False)
    pytest.skip(reason)


_shared: list[RealServer] = []


def _share(server: Server) -> Iterator[Server]:
    server.start()
    _shared.append(server)
    try:
        yield server
    finally:
        _shared.remove(server)
        server.stop()


@pytest.fixture(autouse=True)
def _shared_servers_are_up() -> None:
    for server in _shared:
        if not server.running:
            server.stop()  # what is left of it
            server.start()


@pytest.fixture(scope="session")
def workspace() -> Iterator[Workspace]:
    """The temporary folder of the run, and the certificate of its servers."""
    with Workspace.open() as opened:
        yield opened


@pytest.fixture(scope="session")
def prosody(workspace: Workspace) -> Iterator[Prosody]:
    """Prosody: SCRAM-SHA-1, SASL2, iq:auth in plain text, components, direct TLS."""
    require(Prosody)
    yield from _share(Prosody(workspace))


@pytest.fixture(scope="session")
def ejabberd(workspace: Workspace) -> Iterator[Ejabberd]:
    """ejabberd, passwords hashed: SCRAM-SHA-1, SASL2, components, direct TLS.

    It offers iq:auth (in plain text), but with hashed passwords it answers even the right one with not-authorized.
    """
    require(Ejabberd)
    yield from _share(Ejabberd(workspace))


@pytest.fixture(scope="session")
def ejabberd_plain(workspace: Workspace) -> Iterator[Ejabberd]:
    """ejabberd, passwords kept as they are: DIGEST-MD5, and iq:auth plain and digest, besides."""
    require(Ejabberd)
    yield from _share(Ejabberd(workspace, password_format="plain"))


@pytest.fixture(scope="session")
def jabberd2(workspace: Workspace) -> Iterator[Jabberd2]:
    """jabberd2: DIGEST-MD5, iq:auth plain and digest, components and router protocol on one port."""
    require(Jabberd2)
    yield from _share(Jabberd2(workspace))


@pytest.fixture(params=["prosody", "ejabberd", "jabberd2"])
def real_server(request: pytest.FixtureRequest) -> RealServer:
    """Each of the three in turn; ``request.param`` as the test's id."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, RealServer)
    return server


@pytest.fixture(params=["prosody", "ejabberd_plain", "jabberd2"])
def legacy_server(request: pytest.FixtureRequest) -> RealServer:
    """Each of those that take a login by iq:auth (XEP-0078) in turn."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, RealServer)
    return server
