"""``python -m bench.peers install | list``: the libraries that the benchmarks measure beside pcj."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv

from bench.peers import HERE, PEERS, PLACE, Peer


def main() -> None:
    """Install what is missing, or say what is there."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("what", choices=("install", "list"))
    if options.parse_args().what == "install":
        PLACE.mkdir(exist_ok=True)
        (PLACE / ".gitignore").write_text("*\n", encoding="utf-8")
        for peer in PEERS.values():
            try:
                _install(peer)
            except (subprocess.SubprocessError, OSError) as error:
                print(f"{peer.name}: not installed: {_words(error)}")
        return
    for peer in PEERS.values():
        print(f"{peer.name} ({peer.language}): {peer.version() or 'not installed'}")


def _words(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stderr or error.stdout or "").strip()
        return f"{error.cmd[0]} ended with {error.returncode}: {said[-400:]}"
    return str(error)


def _install(peer: Peer) -> None:
    if peer.version():
        print(f"{peer.name}: {peer.version()} is there")
    elif peer.language == "Python":
        venv.create(PLACE / peer.name, with_pip=True)
        _run([peer.command[0], "-m", "pip", "install", "-q", *peer.packages])
    elif peer.language == "JavaScript":
        place = PLACE / peer.name
        place.mkdir(exist_ok=True)
        (place / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(place), *peer.packages])
    else:
        if shutil.which("apt-get") and os.geteuid() == 0:
            _run(["apt-get", "update", "-qq"])
            _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *peer.packages, "g++"])
        source = HERE / f"{peer.name}_program.cc"
        _run(["g++", "-O2", "-o", peer.command[0], str(source), "-lgloox", "-lpthread"])
    print(f"{peer.name}: {peer.version() or 'not installed'}")


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)


if __name__ == "__main__":
    sys.exit(main())
