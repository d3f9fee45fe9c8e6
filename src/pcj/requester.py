"""`return_to_sender`: each request is followed by exactly one RTS_FINISH or RTS_FAIL (event-order C11)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pcj.dispatch import Dispatcher
from pcj.errors import RequestError, RequestTimeout
from pcj.events import Event
from pcj.queue import Entry, Receipt, ReceiptState
from pcj.rts import Requests
from pcj.stanza import Node

__all__ = ["Requester"]

_ENDS = {
    "drop": "the connection was lost before the reply came",
    "resume failed": "the connection was lost before the reply came, and the session could not be resumed",
    "resume timeout": "the connection was lost before the reply came, and the time to resume the session was over",
    "shutdown": "the broker was shut down before the reply came",
    "halt": "the broker was halted before the reply came",
    "expired": "the request waited too long in the queue and was never sent",
    "oversized": "the request has more bytes than the server takes, and was never sent",
}


class _Asker:
    """One request on its way. `over`: its RTS_FINISH or RTS_FAIL is out."""

    __slots__ = ("event", "future", "identity", "over", "receipt", "timer")

    def __init__(self, identity: str, event: str | None, future: asyncio.Future[Node], receipt: Receipt) -> None:
        self.identity = identity
        self.event = event
        self.future = future
        self.receipt = receipt
        self.timer: asyncio.TimerHandle | None = None
        self.over = False


def _has_left(asker: _Asker) -> bool:
    return asker.receipt.state is not ReceiptState.QUEUED


class Requester:
    """The requests of one broker.

    Args:
        dispatcher: tells of their fate. max_pending: how many may wait.

    Attributes:
        on_abandoned: called with the receipt of a request that is still queued and whose reply nobody awaits any more.
        unanswered: the requests that a late reply could be to; mostly none.
    """

    def __init__(self, dispatcher: Dispatcher, max_pending: int) -> None:
        self._dispatcher = dispatcher
        self._requests: Requests[_Asker] = Requests(max_pending, _has_left)
        self.on_abandoned: Callable[[Receipt], None] | None = None
        self.unanswered = self._requests.unanswered

    def __len__(self) -> int:
        return len(self._requests)

    def ask(
        self,
        identity: str,
        to: str | None,
        kind: str,
        timeout: float,
        event: str | None,
        receipt: Receipt,
        send: Callable[[], object],
    ) -> asyncio.Future[Node]:
        """Send a request by `send` and remember who asked; `receipt` tells whether it has left.

        Raises:
            QueueFull, UsageError: it was not sent; nothing is remembered.
        """
        loop = asyncio.get_running_loop()
        asker = _Asker(identity, event, loop.create_future(), receipt)
        self._requests.add(identity, to, asker, kind)
        # Before it is sent: that fires events, and a handler may end the request already.
        asker.timer = loop.call_later(timeout, self._timed_out, asker, timeout)
        asker.future.add_done_callback(lambda future: self._cancelled(asker) if future.cancelled() else None)
        try:
            send()
        except BaseException:
            self._end(asker)
            raise
        return asker.future

    def answer(self, node: Node, own: str) -> bool:
        """Whether `node` was a reply; its asker has it then."""
        if not self._requests:
            return False
        asker = self._requests.take(node, own)
        if asker is None:
            return False
        self._end(asker)
        self._dispatcher.fire(Event.PCJ_RTS_FINISH, node)
        if asker.event is not None:
            self._dispatcher.fire(asker.event, node)
        if not asker.future.done():
            asker.future.set_result(node)
        return True

    def late(self, node: Node, own: str) -> bool:
        """Whether `node` answers a request whose RTS_FAIL is out (event-order C11)."""
        return node.get("type") in ("result", "error") and self._requests.late(node, own)

    def fail_all(self, reason: str, *, sent_only: bool) -> None:
        """The link ended: tell every asker; with `sent_only` those whose request is still queued wait on."""
        for _, asker in self._requests:
            if not (sent_only and asker.receipt.state is ReceiptState.QUEUED):
                # By whatever way the session was lost, to the asker it is a drop (event-order C11).
                word = "drop" if reason.startswith("resume") else reason
                self._fail(asker, RequestError(f"no reply: {_ENDS[reason]}", reason=word))

    def fail_given_up(self, entries: list[Entry], reason: str) -> None:
        """Requests that were given up in the queue: "expired" or "oversized"."""
        receipts = {id(entry.receipt) for entry in entries}
        for _, asker in self._requests:
            if id(asker.receipt) in receipts:
                self._fail(asker, RequestError(f"no reply: {_ENDS[reason]}", reason=reason))

    def release(self, why: str) -> None:
        """No reply can be read for now: who waits for one waits no longer."""
        for _, asker in self._requests:
            self._fail(asker, RequestTimeout(f"no reply: {why}"))

    def _timed_out(self, asker: _Asker, timeout: float) -> None:
        queued = " (it was never sent: it waited in the queue)" if asker.receipt.state is ReceiptState.QUEUED else ""
        self._fail(asker, RequestTimeout(f"no reply within {timeout:g} s{queued}"))

    def _fail(self, asker: _Asker, error: RequestError) -> None:
        if not self._end(asker):
            return  # a handler of another's RTS_FAIL has ended it meanwhile
        self._tell(asker, error, error.reason)
        if not asker.future.done():
            asker.future.set_exception(error)
            if asker.event is not None:
                asker.future.exception()  # asked for by event: nobody need look at the future

    def _cancelled(self, asker: _Asker) -> None:
        """The user's task gave up waiting."""
        if self._end(asker):
            self._tell(asker, None, "cancelled")

    def _tell(self, asker: _Asker, error: RequestError | None, reason: str) -> None:
        """NODE_DROPPED and RTS_FAIL, both or none: a handler of the first may halt the broker (event-order C11)."""

        def tell() -> None:
            self._abandon(asker)
            self._dispatcher.fire(Event.RTS_FAIL, None, error, {"reason": reason, "id": asker.identity})

        self._dispatcher.together(tell)

    def _abandon(self, asker: _Asker) -> None:
        """To send it later would ask a question whose answer nobody hears."""
        if self.on_abandoned is not None and asker.receipt.state is ReceiptState.QUEUED:
            self.on_abandoned(asker.receipt)

    def _end(self, asker: _Asker) -> bool:
        """It waits no more; whether it did until now."""
        if asker.over:
            return False
        asker.over = True
        if asker.timer is not None:
            asker.timer.cancel()
            asker.timer = None
        self._requests.discard(asker.identity, asker)
        return True
