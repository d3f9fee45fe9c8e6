"""What docs/delivery.md says is so: its programs run, what it names exists, its links lead somewhere."""

from __future__ import annotations

import dataclasses
import inspect
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from pcj import Broker, Config, Event, Receipt, ReceiptState, Status
from pcj.queue.file import read
from pcj.testing import Server
from tests.shell.cli.background import TIMEOUT, background, make_server

DOCUMENT = Path(__file__).parents[2] / "docs" / "delivery.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
EXAMPLES: list[str] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
ROMEO = "romeo@example.org/orchard"

#: Puts a broker where the test's server is; the program itself stays as it is written.
ELSEWHERE = """
import functools, pcj
pcj.Broker = functools.partial(pcj.Broker, host={host!r}, port={port!r}, ca_file={ca_file!r})
"""


def test_the_program_that_hands_its_session_over_is_followed_by_one_that_resumes_it(tmp_path: Path) -> None:
    (example,) = [example for example in EXAMPLES if "suspend" in example]
    with background(lambda: make_server(domain="example.org")) as runs:
        server = runs.it
        where = ELSEWHERE.format(host=server.host, port=server.client_port, ca_file=server.ca_file)
        program = where + example.replace('"secret"', '"s3cret-of-romeo"')
        resumed = []
        for _ in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            watchdog = threading.Timer(TIMEOUT, process.kill)
            watchdog.start()
            try:
                runs.do(server.wait_for_session(ROMEO, timeout=TIMEOUT))
                process.send_signal(signal.SIGTERM)
                assert process.communicate(timeout=TIMEOUT) == ("", "")
                assert process.returncode == 0
            finally:
                watchdog.cancel()
                process.kill()
            assert [info.jid for info in server.away] == [ROMEO]
            session = read(str(tmp_path / "romeo.db")).session
            assert session is not None
            resumed.append(session["management"]["id"])  # type: ignore[index]
        assert resumed[0] == resumed[1] != ""


def test_the_program_for_tests_finds_its_session_resumed() -> None:
    (example,) = [example for example in EXAMPLES if "pcj.testing" in example]
    exec(compile(example, str(DOCUMENT), "exec"), {"__name__": "__main__"})  # noqa: S102
    assert len(EXAMPLES) == 2  # no other is without a test


def test_its_table_has_every_state_of_a_receipt() -> None:
    assert re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE) == [str(state) for state in ReceiptState]


def test_what_it_names_exists() -> None:
    known = {option.name for option in dataclasses.fields(Config)}
    known |= {name for owner in (Broker, Receipt, Server, Status) for name in dir(owner)}
    known |= {*map(str, ReceiptState), *inspect.signature(Broker.output).parameters, "timeout"}
    known |= {"resumed", "list", "purge"}  # a key of a detail, and commands of `pcj queue`
    named = set(re.findall(r"`([a-z_]+)`", PROSE)) | set(re.findall(r"`([a-z_]+)=", PROSE))
    assert named - known == set()
    assert {"high_water_nodes", "on_doubt", "queue"} < named
    events = set(re.findall(r"\b(?:[A-Z]+_[A-Z_]+|PROBE)\b", PROSE))
    assert events - set(Event.__members__) == set()
    assert {"NODE_UNCERTAIN", "PROBE"} < events


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXT):
        assert (DOCUMENT.parent / link).exists(), link
