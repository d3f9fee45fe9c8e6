"""The outbound queue: what waits for a link, and what became of each node."""

from pcj.queue.buffer import WriteBuffer
from pcj.queue.memory import MemoryQueue
from pcj.queue.receipt import Entry, Receipt, ReceiptState

__all__ = ["Entry", "MemoryQueue", "Receipt", "ReceiptState", "WriteBuffer"]
