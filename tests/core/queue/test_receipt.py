"""What a receipt says."""

from __future__ import annotations

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
    assert str(ReceiptState.WRITTEN) == "written"
    assert {str(state) for state in ReceiptState} >= {"queued", "written", "expired", "dropped"}
