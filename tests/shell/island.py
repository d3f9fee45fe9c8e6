"""A network of its own, with dead and slow addresses, in which a broker finds its server by DNS.

`Island` starts this module as a program inside new namespaces (network and mounts; of users too, where we are not
root). There it has addresses and routes of its choice, the system's resolver asks the name server of the test, and the
embedded server listens. Then it runs one scenario after the other: a line of JSON in, a line of JSON out.

Silence is a TUN device: what is sent there is gone. A slow address is one whose packets come back from there, after a
while, with source and destination exchanged: whoever connects to it reaches himself.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcj import XMPP, Broker, ConnectionFailed, Status
from pcj.testing import Contract, Server, ServerOptions
from tests.shell.transport.nameserver import Zone, name_server

DOMAIN = "montague.example"
#: Who answers, on 5222 and with direct TLS on 5223; who refuses; who is silent.
LIVE4, LIVE6 = "203.0.113.5", "2001:db8:5::5"
REFUSES4, REFUSES6 = "203.0.113.6", "2001:db8:5::6"
SILENT4, SILENT6 = "192.0.2.7", "2001:db8::7"
#: Answer, after this time in seconds.
SLOW4, SLOW6 = "198.51.100.7", "2001:db8::77"
SLOWNESS = {SLOW4: 0.1, SLOW6: 0.6}
#: The kernel's own refusals: a route of the kind "unreachable", "prohibit", "blackhole"; none at all.
UNREACHABLE4, FORBIDDEN4, SWALLOWED4 = "198.51.100.17", "198.51.100.18", "198.51.100.19"
NOWHERE4, NOWHERE6 = "233.252.0.7", "2001:db8:ffff::7"

_OURS4, _OURS6 = "192.0.2.1", "2001:db8::1"  # on the TUN device
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_ROUTES4 = [
    f"addr add {LIVE4}/32 dev lo",
    f"addr add {REFUSES4}/32 dev lo",
    f"addr add {_OURS4}/24 dev tun0",
    "route add 198.51.100.0/28 dev tun0",
    f"route add unreachable {UNREACHABLE4}/32",
    f"route add prohibit {FORBIDDEN4}/32",
    f"route add blackhole {SWALLOWED4}/32",
]
_ROUTES6 = [
    f"-6 addr add {LIVE6}/128 dev lo nodad",
    f"-6 addr add {REFUSES6}/128 dev lo nodad",
    f"-6 addr add {_OURS6}/64 dev tun0 nodad",
]
_FILES = {
    "/etc/resolv.conf": "nameserver 127.0.0.1\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}
#: How long a scenario may take, in seconds.
_PATIENCE = 60.0


class Unable(Exception):
    """This machine does not permit such a network."""


# ---- outside


@dataclass(frozen=True, slots=True)
class Told:
    """What a scenario gave.

    Attributes:
        attempts: (address, outcome) of each ATTEMPT. resolved: of RESOLVED. names: of all events, without PCJ_.
        seconds: from CONNECTING to CONNECTED or CONNECTFAIL. failure: its message, phase, retry and tried.
        asked: what the name server was asked for. violations: what broke the order of events.
    """

    attempts: list[tuple[str, str]]
    resolved: list[str]
    names: list[str]
    seconds: float
    failure: dict[str, Any] | None
    asked: list[str]
    violations: list[str]


class Island:
    """Such a network, from outside. With `ipv6=False` it is one of a machine without IPv6: not even ::1.

    Raises:
        Unable: it cannot be had here; says why.
    """

    def __init__(self, *, ipv6: bool = True) -> None:
        if not sys.platform.startswith("linux"):
            raise Unable("network namespaces are Linux's")
        users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        namespaces = ["unshare", *users, "--net", "--mount"]
        try:
            subprocess.run([*namespaces, "true"], check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise Unable("there is no unshare(1)") from None
        except subprocess.CalledProcessError as error:
            raise Unable(f"network namespaces are not permitted: {error.stderr.strip()}") from None
        program = [sys.executable, "-m", "tests.shell.island", "6" if ipv6 else "4"]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            [*namespaces, *program], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            began = self._read()
            if "unable" in began:
                raise Unable(str(began["unable"]))
        except BaseException:
            self.close()
            raise

    def run(self, zone: Zone, **options: object) -> Told:
        """Connect romeo@montague.example with this in DNS, and shut down."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"zone": zone, "options": options}) + "\n")
        self._process.stdin.flush()
        told = self._read()
        return Told(**{**told, "attempts": [(address, outcome) for address, outcome in told["attempts"]]})

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the program in the namespace has ended; its last words are above"
        said: dict[str, Any] = json.loads(line)
        return said

    def close(self) -> None:
        """End it at once: threads may still wait for a silent name server."""
        self._process.kill()
        with self._process:
            pass


# ---- inside


def _set_up(*, ipv6: bool) -> int:
    """Addresses, routes and the files of the resolver. Gives the TUN device's file descriptor."""
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN | _IFF_NO_PI))
        for command in ["link set lo up", "link set tun0 up", *_ROUTES4, *(_ROUTES6 if ipv6 else [])]:
            _system(f"ip {command}")
        if not ipv6:
            _system("ip -6 addr flush dev lo")
            _system("ip -6 addr flush dev tun0")
        for name, text in _FILES.items():
            with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
                file.write(text)
                file.flush()
                if Path(name).exists():
                    _system(f"mount --bind {file.name} {name}")
    except OSError as error:
        raise Unable(f"the network could not be set up: {error}") from error
    except subprocess.CalledProcessError as error:
        raise Unable(f"{' '.join(error.cmd)} fails: {error.stderr.strip()}") from error
    return device


def _system(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, text=True)


def _reflect(device: int) -> None:
    """Bring a packet to a slow address back to us, half of its time later; all others are gone."""
    try:
        packet = os.read(device, 65536)
    except BlockingIOError:
        return
    at, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    source, destination, rest = packet[at : at + size], packet[at + size : at + 2 * size], packet[at + 2 * size :]
    slowness = SLOWNESS.get(str(ipaddress.ip_address(destination)))
    if slowness is not None:
        # The checksums are sums: they do not mind the exchange.
        back = packet[:at] + destination + source + rest
        asyncio.get_running_loop().call_later(slowness / 2, os.write, device, back)


async def _relay(host: str, port: int, to: int) -> asyncio.Server:
    """Let the embedded server, which is on 127.0.0.1, be at another address too."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass  # an end like another
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(copy(reader, back), copy(there, writer))

    return await asyncio.start_server(accept, host, port)


async def _scenario(server: Server, zone: Zone, options: Mapping[str, Any]) -> dict[str, object]:
    statuses: list[Status] = []
    failure: dict[str, object] | None = None
    async with name_server(zone, port=53) as (_, asked):
        broker = Broker(
            XMPP,
            f"romeo@{DOMAIN}",
            password="secret",
            **{"ca_file": server.ca_file, "auto_reconnect": False, **options},
        )
        contract = Contract(broker)
        broker.subscribe("*", statuses.append)
        try:
            async with asyncio.timeout(_PATIENCE):
                await broker.connect()
        except ConnectionFailed as error:
            failed = error.failure
            failure = {
                "message": str(failed),
                "phase": str(failed.phase),
                "retry": str(failed.retry),
                "tried": failed.tried,
            }
        await broker.shutdown()
    names = [status.event.removeprefix("PCJ_") for status in statuses]
    over = next((name for name in names if name in ("CONNECTED", "CONNECTFAIL")), "SHUTDOWN_FINISH")
    at = {name: status.at for name, status in reversed(list(zip(names, statuses, strict=True)))}
    return {
        "attempts": [(s.detail["address"], s.detail["outcome"]) for s in statuses if s.event == "ATTEMPT"],
        "resolved": [entry for s in statuses if s.event == "RESOLVED" for entry in s.detail["addresses"]],  # type: ignore[attr-defined]
        "names": names,
        "seconds": at[over] - at["CONNECTING"],
        "failure": failure,
        "asked": asked,
        "violations": contract.violations,
    }


async def _serve(*, ipv6: bool) -> None:
    loop = asyncio.get_running_loop()
    try:
        device = _set_up(ipv6=ipv6)
    except Unable as error:
        _say({"unable": str(error)})
        return
    loop.add_reader(device, _reflect, device)
    options = ServerOptions(component_port=None, router_port=None)
    async with Server(domain=DOMAIN, accounts={"romeo": "secret"}, options=options) as server:
        for host in (LIVE4, _OURS4, *((LIVE6, _OURS6) if ipv6 else ())):
            await _relay(host, 5222, server.client_port)
            await _relay(host, 5223, server.direct_tls_port)
        _say({"began": time.monotonic()})
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            _say(await _scenario(server, asked["zone"], asked["options"]))


def _say(what: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(ipv6=sys.argv[1] == "6"))
