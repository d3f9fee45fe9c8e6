"""A process that works with a durable queue until it is killed; what it says was true when it said it.

    python -m tests.shell.queue.killed PATH SEED

It prints `stored N` of each node whose receipt said so, `acked N` before a node is forgotten and `gone N` once that is
on the disk.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from pcj.queue import Entry
from pcj.queue.durable import DurableQueue
from tests.shell.queue.disk import ACCOUNT, TIMEOUT, entry


def say(lines: list[str]) -> None:
    os.write(1, "".join(lines).encode())  # at once, and whole


async def work(path: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    queue = DurableQueue(path, account=ACCOUNT, on_failed=lambda error: None, max_nodes=1 << 20, max_bytes=1 << 30)
    live = []
    number = 0
    for found in queue.open():
        old = entry(found.stanza)
        old.key = found.key
        live.append(old)
        number = int(found.stanza.split(b"'")[1]) + 1
    number += 1_000_000  # of what the last process put and did not store, nothing is known
    say(["open\n"])
    told: set[int] = set()
    fresh: list[tuple[int, Entry]] = []
    while True:
        for _ in range(chance.choice((0, 1, 3, 40))):
            made = entry(b"<message id='%d'>%s</message>" % (number, b"x" * chance.choice((0, 10, 3000))))
            queue.put(made, ttl=None)
            fresh.append((number, made))
            live.append(made)
            number += 1
        queue.mark(chance.sample(live, min(len(live), chance.randrange(5))), written=True)
        if chance.random() < 0.3:
            queue.save_session({"last": number})
        if chance.random() < 0.3 and live:
            acked = live[: chance.randrange(1, 30)]
            del live[: len(acked)]
            names = [int(each.stanza.split(b"'")[1]) for each in acked]
            say([f"acked {name}\n" for name in names])
            queue.forget(acked)
            if chance.random() < 0.5:
                await queue.flush(TIMEOUT)
                say([f"gone {name}\n" for name in names])
        await asyncio.sleep(chance.choice((0, 0, 0.001, 0.004)))
        say([f"stored {name}\n" for name, made in fresh if made.receipt.stored])
        told.update(name for name, made in fresh if made.receipt.stored)
        fresh = [(name, made) for name, made in fresh if name not in told]


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
