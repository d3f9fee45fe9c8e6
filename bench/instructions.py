"""Processor instructions per stanza on the hot path, counted by valgrind: the same whatever else the machine does.

``python -m bench.instructions`` counts, and prints beside it what bench/instructions.json has of this Python. With
``--check`` it fails where a stanza costs more than 5 % more than that; ``--write`` keeps the figures, to be committed
with the change that explains them. What is counted: a component that echoes messages of 322 bytes, with the compiled
part and without, and the same behind 100 filters that select none of them. No network is in it, and what starting
costs is taken off: the figure is the difference of a long and a short run. The figures are those of one build of Python
on one kind of machine; on another there is nothing to compare them with, which is then said.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.flood import HEADER, stanza
from bench.measure import ROOT

KEPT = ROOT / "bench" / "instructions.json"
#: How much more than before a stanza may cost, as a part of that.
TOLERANCE = 0.05
#: Stanzas of one read, and reads of the short and the long run.
BATCH, SHORT, LONG = 100, 5, 25
CASES = ("echo", "echo in pure Python", "100 filters in vain")
_IQ = re.compile(rb"<iq .*?</iq>")


class _Sink(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def write(self, data: Any) -> None:
        self.data += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def abort(self) -> None:
        pass


async def _echo(case: str, reads: int) -> None:
    """One run: the reads, each with its replies and their proof."""
    from pcj import JABBERD14_COMPONENT, Broker, Config, Event, Status, message
    from pcj.connection import Connection

    # By time nothing is asked for: under valgrind time goes its own way.
    options: dict[str, Any] = {"ack_every_seconds": 3600.0, "silence_timeout": 3600.0}
    broker = Broker(JABBERD14_COMPONENT, "echo.localhost", password="secret", **options)
    assert isinstance(broker.config, Config)

    @broker.on(Event.PCJ_NODERECEIVED)
    def reply(status: Status) -> None:
        node = status.node
        assert node is not None
        body = node.findtext("{jabber:client}body")
        broker.output(message(to=node.get("from"), from_=node.get("to"), id=node.get("id"), type="chat", body=body))

    if case == CASES[2]:
        for number in range(100):
            broker.add_filter(f"filter {number}", f"/message[@type='chat']/x[@n='{number}']")
    sink = _Sink()

    async def connect() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Server(), "127.0.0.1", 0)
        await broker.connect("127.0.0.1", server.sockets[0].getsockname()[1])
        server.close()

    await connect()
    connection = broker._link.connection
    assert isinstance(connection, Connection)
    assert connection._wire is not None
    connection._wire._transport = sink
    data = b"".join(stanza(number) for number in range(BATCH))
    answered = 0
    for _ in range(reads):
        connection.data_received(data)
        await asyncio.sleep(0)
        written, sink.data = sink.data, b""
        answered += written.count(b"</message>")
        proofs = b"".join(_IQ.findall(written))
        if proofs:
            connection.data_received(proofs)
            await asyncio.sleep(0)
    if answered != reads * BATCH:
        raise SystemExit(f"{answered} of {reads * BATCH} messages were answered")
    broker.halt()


class _Server(asyncio.Protocol):
    """The peer, as far as READY."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        before, self._heard = self._heard, self._heard + data
        if b">" in self._heard.partition(b"<stream:stream")[2] and b"<stream:stream" not in before:
            self._transport.write(HEADER)
        if b"</handshake>" in self._heard:
            self._transport.write(b"<handshake/>")
            self._heard = b""


def _count(case: str, reads: int) -> int:
    """Instructions of one run in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="pcj-instructions-") as folder:
        out = Path(folder) / "out"
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        environment["PCJ_PURE"] = "1" if case == CASES[1] else ""
        ran = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"),
                *(sys.executable, "-m", "bench.instructions", "--run", case, str(reads)),
            ],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if ran.returncode:
            raise SystemExit(f"the run to be counted ended with {ran.returncode}: {ran.stderr.strip()[-600:]}")
        found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(encoding="utf-8"), re.MULTILINE)
        if found is None:
            raise SystemExit(f"valgrind counted nothing: {ran.stderr.strip()[-600:]}")
        return int(found[1])


def counted() -> dict[str, int]:
    """Instructions per stanza of each case."""
    runs = [(case, reads) for case in CASES for reads in (SHORT, LONG)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        totals = dict(zip(runs, pool.map(lambda run: _count(*run), runs), strict=True))
    return {case: round((totals[case, LONG] - totals[case, SHORT]) / ((LONG - SHORT) * BATCH)) for case in CASES}


def build() -> str:
    """What the figures are figures of: this Python, as it was built, and the kind of machine."""
    try:
        import pcj._speed  # noqa: F401
    except ImportError:
        compiled = "without the compiled part"
    else:
        compiled = "with the compiled part"
    made = " ".join(platform.python_build())
    return (
        f"Python {platform.python_version()} ({made}, {platform.python_compiler()}), {platform.machine()}, {compiled}"
    )


def verdict(now: dict[str, int], before: dict[str, int]) -> list[str]:
    """A sentence for each case that costs too much more."""
    return [
        f"{case}: {now[case]} instructions per stanza, {now[case] / before[case] - 1:+.1%} against {before[case]}; "
        f"{TOLERANCE:.0%} are allowed. If that is worth it: python -m bench.instructions --write, and say why"
        for case in now
        if case in before and now[case] > before[case] * (1 + TOLERANCE)
    ]


def main() -> int:
    """Count; 0 where all is well."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="fail where it costs more than 5 %% more than was kept")
    options.add_argument("--write", action="store_true", help="keep the figures")
    options.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.run:
        asyncio.run(_echo(given.run[0], int(given.run[1])))
        return 0
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: no instructions can be counted (Debian: apt-get install valgrind)")
        return 1 if os.environ.get("CI") == "true" or not given.check else 0
    kept: dict[str, dict[str, int]] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    here = build()
    now, before = counted(), kept.get(here, {})
    for case, count in now.items():
        was = f", {count / before[case] - 1:+.1%} against {before[case]}" if case in before else ""
        print(f"{case}: {count} instructions per stanza{was}")
    if given.write:
        KEPT.write_text(json.dumps({**kept, here: now}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    elif not before:
        print(f"nothing to compare with: bench/instructions.json has no figures of {here}")
    if given.check:
        worse = verdict(now, before)
        print("".join(f"{sentence}\n" for sentence in worse), end="", file=sys.stderr)
        return 1 if worse else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
