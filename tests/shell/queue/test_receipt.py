"""What a receipt says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pcj.errors import DeliveryError
from pcj.queue import Entry, Receipt, ReceiptState


def test_a_receipt_begins_queued_and_says_what_became_of_its_node() -> None:
    receipt = Receipt()
    assert (receipt.state, receipt.reason) == (ReceiptState.QUEUED, "")
    assert repr(receipt) == "Receipt(queued)"
    receipt.state, receipt.reason = ReceiptState.DROPPED, "the broker was halted"
    assert repr(receipt) == "Receipt(dropped: the broker was halted)"


def test_each_entry_has_a_receipt_of_its_own_and_no_repr_of_its_bytes() -> None:
    one, two = Entry(b"<secret/>", b"<secret/>", 1.0), Entry(b"", b"", 1.0)
    assert one.receipt is not two.receipt
    assert "secret" not in repr(one)


def test_states_read_as_their_names() -> None:
    assert [str(state) for state in ReceiptState] == ["queued", "written", "acked", "uncertain", "expired", "dropped"]


ENDS = [
    (ReceiptState.ACKED, None),
    (ReceiptState.UNCERTAIN, "the node was not acked: so it is"),
    (ReceiptState.EXPIRED, "the node was not acked: so it is"),
    (ReceiptState.DROPPED, "the node was not acked: so it is"),
    (ReceiptState.WRITTEN, "the node was not acked: so it is"),  # where nothing proves anything
]


@pytest.mark.parametrize("before", [True, False], ids=["settled before", "settled while it is awaited"])
@pytest.mark.parametrize(("state", "says"), ENDS)
def test_acked_returns_once_the_server_has_the_node_and_fails_with_what_became_of_it_else(
    state: ReceiptState, says: str | None, before: bool
) -> None:
    async def main() -> None:
        receipt = Receipt()
        if before:
            receipt.settle(state, "so it is")
        waiting = [asyncio.ensure_future(receipt.acked()) for _ in range(2)]
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [before, before]
        if not before:
            receipt.state = ReceiptState.UNCERTAIN  # which it may be on the way, and is not final by itself
            await asyncio.sleep(0)
            assert not waiting[0].done()
            receipt.settle(state, "so it is")
        done = await asyncio.gather(*waiting, return_exceptions=True)
        if says is None:
            assert done == [None, None]
            return
        for error in done:
            assert isinstance(error, DeliveryError)
            assert (str(error), error.state) == (says, state)

    asyncio.run(main())


def test_who_waits_in_vain_or_is_cancelled_changes_nothing_for_the_others() -> None:
    async def main() -> None:
        receipt = Receipt()
        for wait in (receipt.acked, receipt.on_disk):
            with pytest.raises(TimeoutError):
                await wait(0.001)
        waiting = [asyncio.ensure_future(receipt.acked(5.0)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        receipt.settle(ReceiptState.ACKED)
        await asyncio.gather(*waiting[1:])
        assert waiting[0].cancelled()

    asyncio.run(main())


def stored(receipt: Receipt) -> None:
    receipt.is_stored()


def acked(receipt: Receipt) -> None:
    receipt.settle(ReceiptState.ACKED)


def given_up(receipt: Receipt) -> None:
    receipt.settle(ReceiptState.DROPPED, "the broker was halted")


@pytest.mark.parametrize(
    ("happens", "says"),
    [(stored, None), (acked, None), (given_up, "the node is not on disk: the broker was halted")],
)
@pytest.mark.parametrize("before", [True, False])
def test_on_disk_returns_once_a_crash_cannot_lose_the_node(
    happens: Callable[[Receipt], None], says: str | None, before: bool
) -> None:
    async def main() -> None:
        receipt = Receipt()
        if before:
            happens(receipt)
        waiting = asyncio.ensure_future(receipt.on_disk(5.0))
        await asyncio.sleep(0)
        if not before:
            assert not waiting.done()
            happens(receipt)
        (done,) = await asyncio.gather(waiting, return_exceptions=True)
        assert (None if done is None else str(done)) == says

    asyncio.run(main())
