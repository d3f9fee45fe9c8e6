"""The table: what goes wrong, what the user reads, whether it is tried again.

The numbers are those of the page docs/howto/cannot-connect.md. A letter after the number is another way to the same
sentence, or another sentence of the same kind; rows without a number come last. Most ways are played for real, on
loopback; `instead` says what was put in the place of the world where that cannot be.

What cannot be told of yet, because pcj does not do it, is `NOT_YET`.
"""

from __future__ import annotations

from typing import Final

from tests.connect_failures.rows_reaching import CONNECTING, NOT_XMPP, RESOLVING
from tests.connect_failures.rows_session import AUTHENTICATION, BIND, OTHERS, STREAM
from tests.connect_failures.rows_tls import TLS

#: What has no row: its number in the list (0 without one), what it is, and why.
NOT_YET: Final = [
    (0, "A FAST token is refused (XEP-0484)", "pcj logs in with SASL (RFC 6120) alone, not with SASL2"),
    (0, "A proxy refuses us, or what is behind it does not answer", "pcj connects through no proxy"),
]

ROWS: Final = [*RESOLVING, *CONNECTING, *NOT_XMPP, *TLS, *STREAM, *AUTHENTICATION, *BIND, *OTHERS]
