"""The outbound queue: what waits for a link, and what became of each node."""

from pcj.queue.buffer import WriteBuffer
from pcj.queue.ledger import Ledger
from pcj.queue.memory import MemoryQueue
from pcj.queue.receipt import Entry, Receipt, ReceiptState

__all__ = ["Entry", "Ledger", "MemoryQueue", "Receipt", "ReceiptState", "WriteBuffer"]
