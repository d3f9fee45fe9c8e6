"""Every fault, in one table."""

from __future__ import annotations

from typing import Final

from bench.chaos import rows_link, rows_process, rows_server
from bench.chaos.rows import Row

__all__ = ["TABLE"]

TABLE: Final[dict[str, Row]] = {
    row.id: row for row in sorted((*rows_link.ROWS, *rows_server.ROWS, *rows_process.ROWS), key=lambda row: row.id)
}
