"""What the real servers have in common: ports, readiness, processes that never outlive the test run."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from tests.interop.servers.workspace import Workspace

# Where Debian keeps servers; a user's own PATH often lacks the second.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Startup takes two seconds on an idle machine. A busy one gets plenty: reaching this means that something is broken.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 15.0

NS_CLIENT = "jabber:client"
NS_COMPONENT_ACCEPT = "jabber:component:accept"


class ServerFailed(Exception):
    """A real server did not come up; the message ends with the last lines of its logs."""


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on, below the range from which the kernel takes outgoing ones.

    That matters because a server is started again on its port: a test's own outgoing connection must not have got it.
    """
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(max(1024, min(20000, lowest_outgoing - 8000)), max(lowest_outgoing, 9024))
    found: list[int] = []
    for port in random.sample(candidates, len(candidates)):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise ServerFailed(f"no {count} free ports on loopback between {candidates.start} and {candidates.stop}")


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of 127.0.0.1 now."""
    with socket.socket() as probe:
        # Connections that are still in TIME_WAIT do not keep a server from listening; only a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def greet(port: int, *, to: str, xmlns: str = NS_CLIENT, version: str | None = None, timeout: float = 10.0) -> str:
    """Sends a stream header, as plain as can be, and returns what the server says: its header, to the `>`.

    With a `version` the answer goes on to the end of the features, or of an error.

    Args:
        port: On 127.0.0.1.
        to: The domain, or a component's.
        xmlns: The stream's content namespace.
        version: "1.0", or None for the stream of the time before RFC 3920, which has no features.
        timeout: Seconds for the whole of it.

    Raises:
        OSError: Nobody listens, or the connection broke, or the time is over (`TimeoutError`).
    """
    attribute = f" version='{version}'" if version else ""
    streams = "http://etherx.jabber.org/streams"
    header = f"<?xml version='1.0'?><stream:stream xmlns='{xmlns}' xmlns:stream='{streams}' to='{to}'{attribute}>"
    ends = ("</stream:features>", "</stream:error>") if version else (">",)
    deadline = time.monotonic() + timeout
    heard = b""
    with socket.create_connection(("127.0.0.1", port), timeout) as link:
        link.sendall(header.encode())
        while True:
            start = heard.find(b"<stream:stream")
            if start >= 0 and any(end.encode() in heard[start:] for end in ends):
                return heard.decode()
            link.settimeout(max(0.001, deadline - time.monotonic()))
            more = link.recv(65536)
            if not more:
                return heard.decode()
            heard += more


# The kernel sends the signal of PR_SET_PDEATHSIG when the *thread* that started the child ends. So one thread starts
# them all, and it lives as long as the process; tests may then call start() from any thread.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-spawner")


@dataclass(eq=False)
class RealServer(ABC):
    """A real XMPP server, as child processes, on loopback, in a folder of its own.

    Domain ``localhost`` with two accounts, and a third whose name and password are not ASCII; two component domains
    that share a secret. Use it as a context manager, or `start` and `stop` it. `start` after an end of any kind takes
    the same ports and the same data again.

    `start`, `stop` and `wait` block: in a coroutine call them with `asyncio.to_thread`.
    """

    name: ClassVar[str]
    package: ClassVar[str]  # Debian's
    programs: ClassVar[tuple[str, ...]]

    workspace: Workspace
    host: str = field(default="127.0.0.1", init=False)
    domain: str = field(default="localhost", init=False)
    accounts: tuple[tuple[str, str], ...] = field(
        default=(("test01", "test01"), ("test02", "test02"), ("rené-дом", "pässwörd-ключ")), init=False
    )
    component_domains: tuple[str, ...] = field(default=("comp.localhost", "comp2.localhost"), init=False)
    component_secret: str = field(default="secret", init=False)
    folder: Path = field(init=False)
    log_folder: Path = field(init=False)
    c2s_port: int = field(default=0, init=False)
    component_port: int = field(default=0, init=False)
    direct_tls_port: int | None = field(default=None, init=False)
    router_port: int | None = field(default=None, init=False)
    http_port: int | None = field(default=None, init=False)  # WebSocket at /xmpp-websocket, BOSH at /http-bind
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False)
    _installed: bool = field(default=False, init=False)
    _deadline: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=self.workspace.folder))
        self.folder.chmod(0o755)
        self.log_folder = self.folder / "log"
        self.log_folder.mkdir()

    # ---- what each server defines

    @abstractmethod
    def _choose_ports(self) -> None:
        """Sets the ports, of which none may be in use."""

    @abstractmethod
    def _configure(self) -> None:
        """Writes the configuration; before the first start, and again if the ports had to be changed."""

    @abstractmethod
    def _launch(self) -> None:
        """Starts the processes and returns when the server answers."""

    @classmethod
    def missing(cls) -> str | None:
        """Why this server cannot run on this machine, naming the package to install; None if it can."""
        for program in (*cls.programs, "setpriv"):
            if shutil.which(program, path=PATH) is None:
                package = "util-linux" if program == "setpriv" else cls.package
                return f"{cls.name}: no program {program}; it is in Debian's package {package} (tools/install-servers)"
        return None

    # ---- for tests

    @functools.cached_property
    def version(self) -> str:
        """The upstream version, such as "13.0.1", as the package manager knows it."""
        command = ["dpkg-query", "-W", "-f", "${source:Upstream-Version}", self.package]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @property
    def ca_file(self) -> Path:
        """The certificate (PEM) with which a client verifies this server as ``localhost``."""
        return self.workspace.ca_file

    @property
    def ports(self) -> list[int]:
        """All ports it listens on."""
        ports = (self.c2s_port, self.direct_tls_port, self.component_port, self.router_port, self.http_port)
        return sorted({port for port in ports if port})

    @property
    def running(self) -> bool:
        """Whether every one of its processes lives."""
        return bool(self.processes) and all(process.poll() is None for process in self.processes.values())

    def start(self) -> None:
        """Starts the server and waits until it answers. After an end of any kind: again, on the same ports.

        Raises:
            ServerFailed: It did not come up in `START_TIMEOUT` seconds, or ended; with the last lines of its logs.
            RuntimeError: It is running.
        """
        if any(process.poll() is None for process in self.processes.values()):
            raise RuntimeError(f"{self.name} is running")
        self.kill()  # reaps
        if self._installed:
            self._try_to_start()
            return
        while True:
            self._choose_ports()
            self._configure()
            _give_to_servers_user(self.folder)
            try:
                self._try_to_start()
            except ServerFailed:
                # Between choosing a port and listening on it somebody else may have taken it: once more, elsewhere.
                if all(is_free(port) for port in self.ports):
                    raise
                continue
            self._installed = True
            return

    def _try_to_start(self) -> None:
        self._deadline = time.monotonic() + START_TIMEOUT
        try:
            self._launch()
        except BaseException:
            self.kill()
            raise

    def terminate(self, part: str | None = None) -> None:
        """SIGTERM: asks the server (or one of its processes, see `processes`) to end, and does not wait for it."""
        self._signal(signal.SIGTERM, part)

    def kill(self, part: str | None = None) -> None:
        """SIGKILL: ends the server (or one of its processes) at once: its links die without a word of XML."""
        self._signal(signal.SIGKILL, part)
        for name, process in list(self.processes.items()):
            if part in (None, name):
                _bury(process, STOP_TIMEOUT)
        if part is None and self.processes:
            self._sweep()
            self.processes.clear()

    def _sweep(self) -> None:
        """Ends what the processes had started in sessions of their own: Erlang's helpers outlive it by a moment."""
        deadline = time.monotonic() + STOP_TIMEOUT
        while left := processes_of(self.folder):
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name}: processes {left} outlive SIGKILL")
            for process in left:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)

    def wait(self, timeout: float = STOP_TIMEOUT, part: str | None = None) -> bool:
        """Waits up to `timeout` seconds for the end that `terminate` asked for, and returns whether it came."""
        deadline = time.monotonic() + timeout
        while any(process.poll() is None for name, process in self.processes.items() if part in (None, name)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def stop(self) -> None:
        """Ends the server in order, by force if it takes longer than `STOP_TIMEOUT` seconds; nothing of it is left."""
        deadline = time.monotonic() + STOP_TIMEOUT
        # One after the other, the last started first: a part of jabberd2's that sees its router go away waits for two
        # seconds, deaf to signals, before it looks for it again.
        for part in reversed(self.processes):
            self.terminate(part)
            self.wait(deadline - time.monotonic(), part)
        self.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def last_lines(self, count: int = 15) -> str:
        """The last lines of each of its logs, for the reader of a failure."""
        text = []
        for path in sorted(self.log_folder.iterdir()):
            lines = path.read_text(errors="replace").splitlines()[-count:]
            if lines:
                text.append("\n".join([f"--- {path.name}", *lines]))
        return "\n".join(text) or "(its logs are empty)"

    # ---- for the servers' own classes

    def _run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Runs a program of the server's to its end."""
        result = subprocess.run(
            [*_as_servers_user(), *command],
            env=self._environment(environment),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START_TIMEOUT,
        )
        if result.returncode != 0:
            raise ServerFailed(f"{' '.join(command)} ended with {result.returncode}: {result.stdout.decode()}")

    def _spawn(self, part: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Starts one process, in a session of its own, and enters it in `processes`."""
        with (self.log_folder / f"{part}.out").open("ab") as log:
            self.processes[part] = _spawner.submit(
                subprocess.Popen,
                [*_as_servers_user(), *command],
                env=self._environment(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ).result()

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        # Not this process's own: what a user has there (locale, LUA_PATH, ERL_FLAGS) must not change a test.
        return {"PATH": PATH, "HOME": str(self.folder), "LANG": "C.UTF-8", **(more or {})}

    def _wait_until(self, what: str, condition: Callable[[], bool]) -> None:
        while not condition():
            for part, process in self.processes.items():
                if process.poll() is not None:
                    raise ServerFailed(f"{part} ended while waiting until {what}\n{self.last_lines()}")
            if time.monotonic() > self._deadline:
                raise ServerFailed(f"{self.name}: waited {START_TIMEOUT:.0f} s until {what}\n{self.last_lines()}")
            time.sleep(0.02)

    def _wait_for_port(self, port: int) -> None:
        self._wait_until(f"port {port} is open", functools.partial(self._listens, port))

    def _listens(self, port: int) -> bool:
        """Whether one of our processes listens on `port`.

        Asking the kernel rather than knocking: a server that finds its port taken may well live on without it, and
        whoever took it may be a server of another test run, which would answer for ours.
        """
        listener = _listener(port)
        if listener is None:
            return False
        for process in self.processes.values():
            try:
                descriptors = list(Path(f"/proc/{process.pid}/fd").iterdir())
            except OSError:
                return False  # it has just ended, which is for `_wait_until` to say
            for descriptor in descriptors:
                with contextlib.suppress(OSError):  # closed meanwhile
                    if os.readlink(descriptor) == f"socket:[{listener}]":
                        return True
        raise ServerFailed(f"{self.name}: somebody else listens on port {port}")

    def _wait_for_header(self, port: int, to: str, xmlns: str, version: str | None = None) -> None:
        """A port can be open before the domain behind it is there: the header's answer tells."""
        self._wait_for_port(port)

        def answers() -> bool:
            try:
                reply = greet(port, to=to, xmlns=xmlns, version=version, timeout=5.0)
            except OSError:
                return False
            return "id=" in reply and "stream:error" not in reply

        self._wait_until(f"port {port} answers for {to}", answers)

    def _wait_for_line(self, log: str, text: str, offset: int) -> None:
        """Waits for `text` in a log, behind `offset` (bytes), where the log ended before this start."""
        path = self.log_folder / log
        self._wait_until(f'{log} says "{text}"', lambda: path.exists() and text.encode() in path.read_bytes()[offset:])

    def _log_size(self, log: str) -> int:
        path = self.log_folder / log
        return path.stat().st_size if path.exists() else 0

    def _signal(self, number: signal.Signals, part: str | None) -> None:
        if part is not None and part not in self.processes:
            raise ValueError(f"{self.name} has no process {part!r}, only {sorted(self.processes)}")
        for name, process in reversed(self.processes.items()):
            if part in (None, name):
                process.send_signal(number)  # does nothing if it has ended


def _listener(port: int) -> int | None:
    """The inode of the socket that listens on `port` of 127.0.0.1."""
    local, listening = f"0100007F:{port:04X}", "0A"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == local and fields[3] == listening:
            return int(fields[9])
    return None


def _bury(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Waits for the end of a process that was sent SIGKILL."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired as error:
        raise ServerFailed(f"process {process.pid} outlives SIGKILL") from error


@functools.cache
def _as_servers_user() -> tuple[str, ...]:
    """The command before each command: dies with us, and is not root (Prosody refuses to be)."""
    setpriv = shutil.which("setpriv", path=PATH) or "setpriv"
    command = [setpriv, "--pdeathsig", "KILL"]
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        command += [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return tuple(command)


def _give_to_servers_user(folder: Path) -> None:
    if os.geteuid() != 0:
        return
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


def processes_of(folder: Path) -> list[int]:
    """The processes that a server in `folder` has now, whoever their parent is: their HOME tells."""
    mark = f"HOME={folder}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has just ended, or it is somebody else's and so not ours
    return sorted(found)
