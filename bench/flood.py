"""The peer of the echo benchmark: accepts one component, floods it with messages, and counts the replies.

Run as a process of its own, so that its CPU time is not the component's. Prints the port, reads the component's process
number, serves one connection, and prints as JSON the CPU time (from the clock that the kernel keeps of each process)
and the wall time from the first message to the last reply.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import time

from bench.measure import cpu_seconds

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
    b"xmlns:stream='http://etherx.jabber.org/streams' from='echo.localhost' id='bench'>"
)
_BARRIER = re.compile(b"<iq .*?</iq>")
#: A chat message as servers route it: 322 bytes.
BODY = "Wherefore art thou, Romeo? Deny thy father and refuse thy name; or, if thou wilt not, be but sworn my love."


def stanza(number: int) -> bytes:
    """One message of 322 bytes."""
    text = (
        f"<message from='juliet@capulet.example/balcony' to='echo.localhost' id='{number:08d}' type='chat' "
        f"xml:lang='en'><body>{BODY}</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>"
    )
    return text.encode().replace(b"<body>", b"<body>" + b"." * (322 - len(text)))


def main(count: int, window: int) -> None:
    """Send `count` messages, at most `window` of them unanswered at a time, and wait for all replies."""
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    pid = int(sys.stdin.readline())
    link, _ = listener.accept()
    listener.close()
    heard = b""
    while b">" not in heard.partition(b"<stream:stream")[2]:
        heard += link.recv(65536)
    link.sendall(HEADER)
    heard = b""
    while b"</handshake>" not in heard:
        heard += link.recv(65536)
    link.sendall(b"<handshake/>")
    # One batch is a window's half, made beforehand: the flood must not be slower than the flooded.
    half = window // 2
    batch = b"".join(stanza(number) for number in range(half))
    link.setblocking(False)
    began, cpu = time.perf_counter(), cpu_seconds(pid)
    selector = selectors.DefaultSelector()
    selector.register(link, selectors.EVENT_READ | selectors.EVENT_WRITE)
    sent = answered = 0
    pending = memoryview(b"")
    barriers: list[bytes] = []  # pings of the component to itself, which go back as they came
    tail = b""
    while answered < count:
        ready = selector.select(30)
        if not ready:
            sys.exit(f"the component has answered {answered} of {sent} messages, and is silent for 30 seconds")
        for _, events in ready:
            if events & selectors.EVENT_READ:
                data = tail + link.recv(1 << 20)
                answered += data.count(b"</message>")
                tail = data[data.rfind(b"<") :] if not data.endswith(b">") else b""
                begins = data.rfind(b"<iq ")
                if begins >= 0:
                    barriers += _BARRIER.findall(data)
                    if b"</iq>" not in data[begins:]:
                        tail = data[begins:]
            if events & selectors.EVENT_WRITE:
                if not pending and barriers:
                    pending = memoryview(b"".join(barriers))
                    barriers.clear()
                if not pending and sent < count and sent - answered <= half:
                    pending = memoryview(batch)
                    sent += half
                if pending:
                    pending = pending[link.send(pending) :]
        busy = bool(pending or barriers) or (sent < count and sent - answered <= half)
        selector.modify(link, selectors.EVENT_READ | (selectors.EVENT_WRITE if busy else 0))
    cpu, wall = cpu_seconds(pid) - cpu, time.perf_counter() - began
    sys.stdout.write(json.dumps({"cpu": cpu, "wall": wall}) + "\n")
    sys.stdout.flush()
    link.setblocking(True)
    link.sendall(b"</stream:stream>")
    link.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
