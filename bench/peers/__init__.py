"""The libraries beside which pcj is measured: where they are installed, and the program of each that does the work.

They are installed by `python -m bench.peers install` into bench/.peers, each by itself, and never by `./check`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HERE", "PEERS", "PLACE", "Peer", "available"]

HERE = Path(__file__).resolve().parent
PLACE = HERE.parent / ".peers"


@dataclass(frozen=True)
class Peer:
    """One library, and its programs.

    Attributes:
        name: in tables. command: of its program; the role is its first argument. language: it is written in.
        packages: what pip, npm or apt-get calls it. roles: what its program does.
    """

    name: str
    language: str
    command: tuple[str, ...]
    packages: tuple[str, ...]
    roles: tuple[str, ...]
    installed: Path

    def version(self) -> str:
        """Of what is installed; "" if it is not."""
        if not self.installed.exists():
            return ""
        if self.language == "Python":
            text = "import importlib.metadata as m, json, sys; print(json.dumps([m.version(n) for n in sys.argv[1:]]))"
            ran = subprocess.run(
                [self.command[0], "-c", text, self.packages[0]], capture_output=True, text=True, timeout=60
            )
            return str(json.loads(ran.stdout)[0]) if ran.returncode == 0 else ""
        if self.language == "JavaScript":
            package = PLACE / "xmpp.js" / "node_modules" / "@xmpp" / "component" / "package.json"
            return str(json.loads(package.read_text(encoding="utf-8"))["version"]) if package.exists() else ""
        ran = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", self.packages[0]], capture_output=True, text=True, timeout=60
        )
        return ran.stdout.partition("-")[0]


def _python(name: str, *packages: str, roles: tuple[str, ...]) -> Peer:
    interpreter = PLACE / name / "bin" / "python"
    command = (str(interpreter), str(HERE / f"{name}_program.py"))
    return Peer(name, "Python", command, packages, roles, interpreter)


PEERS = {
    peer.name: peer
    for peer in (
        _python("slixmpp", "slixmpp", roles=("echo-component",)),
        _python("wokkel", "wokkel", "twisted", "setuptools", roles=("echo-component",)),
        Peer(
            "xmpp.js",
            "JavaScript",
            ("node", str(HERE / "xmppjs_program.mjs")),
            ("@xmpp/component", "@xmpp/client"),
            ("echo-component",),
            PLACE / "xmpp.js" / "node_modules",
        ),
        Peer(
            "gloox",
            "C++",
            (str(PLACE / "gloox_program"),),
            ("libgloox-dev",),
            ("echo-component",),
            PLACE / "gloox_program",
        ),
    )
}


def available(role: str) -> list[Peer]:
    """The peers that are installed and have a program for a role."""
    return [peer for peer in PEERS.values() if role in peer.roles and peer.installed.exists()]


def own(name: str, role: str) -> list[str]:
    """The command of a program that this interpreter runs: pcj's own, or the bare loop."""
    return [sys.executable, str(HERE / f"{name}_program.py"), role]
