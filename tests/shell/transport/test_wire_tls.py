"""The options about TLS, all the way from `Config` through a real socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pcj import ConfigError, ConnectionFailed
from tests.connect_failures import ways
from tests.connect_failures.ways import Scene, Way
from tests.shell.links import Record, run
from tests.shell.transport.pair import ENGINES, certificate_pin_of, good, issued, pin_of, srv_id


def told(way: Way, monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[list[str], str]:
    """The events, and why it ended; the server says nothing once TLS stands."""
    result: list[tuple[list[str], str]] = []

    async def main() -> None:
        async with way(Scene(monkeypatch, folder)) as broker:
            record = Record(broker)
            with pytest.raises((ConnectionFailed, ConfigError)) as raised:
                await broker.connect()
            result.append((list(record.names), str(raised.value)))

    run(main)
    return result[0]


#: The server is silent, so this is how long a link that has TLS lasts.
SHORT: dict[str, Any] = {"stream_timeout": 0.05, "auto_reconnect": False}


@pytest.mark.parametrize("engine", [None, *ENGINES])
def test_a_client_takes_a_certificate_of_its_service_where_the_engine_can_check_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str | None
) -> None:
    made = ways.presents(lambda: issued(names=srv_id("_xmpp-client.example.org")))
    events, why = told(ways.tls(made, tls_engine=engine, **SHORT), monkeypatch, tmp_path)
    assert ("SSLSUCCESS" in events) is (engine != "ssl")
    assert ("install 'pcj[binding]'" in why) is (engine == "ssl")


def test_a_component_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = ways.presents(lambda: issued(names=srv_id("_xmpp-client.localhost")))
    way = ways.tls(made, ways.component, host="localhost", tls_engine="openssl", **SHORT)
    events, why = told(way, monkeypatch, tmp_path)
    assert "SSLFAIL" in events
    assert "names only services or accounts (_xmpp-client.localhost), and not localhost" in why


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["key", "certificate", "neither"])
def test_either_pin_is_enough_and_a_wrong_one_ends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, kind: str
) -> None:
    chain = good("example.org")
    pin = {"key": pin_of(chain), "certificate": certificate_pin_of(chain), "neither": "cert-sha256:" + "0" * 64}[kind]
    pins = ("sha256:" + "0" * 64, pin)
    way = ways.tls(ways.presents(lambda: chain), pins=pins, tls_engine=engine, **SHORT)
    events, why = told(way, monkeypatch, tmp_path)
    assert ("SSLSUCCESS" in events) is (kind != "neither")
    assert ("is not one of the 2 pinned ones" in why) is (kind == "neither")
