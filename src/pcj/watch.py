"""What a READY connection owes its peer, and asks of it: answers, proofs, probes, and a sign of life."""

from __future__ import annotations

from collections.abc import Callable

from pcj.config import Config
from pcj.errors import ProtocolError
from pcj.liveness import Liveness
from pcj.outflow import Outflow
from pcj.queue import Ledger

__all__ = ["Watch"]


class Watch:
    """The watch over one connection; before `begin`, and after `end`, it does nothing.

    Args:
        config: of the broker. outflow: what goes out. ledger: what is to be proved. transmit: writes bytes, behind what
            was written. dead: called, once, when the peer is to be given up. tell: called for each probe with the
            seconds of the peer's silence and its kind ("sm", "ping" or "whitespace"). slow: whether what was written
            waits because the peer takes it slowly.
    """

    def __init__(
        self,
        config: Config,
        outflow: Outflow,
        ledger: Ledger,
        *,
        transmit: Callable[[bytes], bool],
        dead: Callable[[ProtocolError], None],
        tell: Callable[[float, str], None],
        slow: Callable[[], bool],
    ) -> None:
        self._config = config
        self._outflow = outflow
        self._ledger = ledger
        self._transmit = transmit
        self._dead = dead
        self._tell = tell
        self._slow = slow
        self._liveness: Liveness | None = None
        self._by = ""  # of what kind our probes are
        self._owed: Callable[[], bytes] | None = None  # an answer that the network did not take yet

    def begin(self, ask: Callable[[int], bytes] | None, by: str, idle_seconds: int | None) -> None:
        """Prove what is written, and look whether the peer lives, from now on.

        Args:
            ask: gives the bytes that ask for a proof of all up to a place, which are of the kind `by`; None: there are
                none. idle_seconds: how long the server allows us to be silent (XEP-0478).
        """
        self._by = by
        config = self._config
        self._liveness = liveness = Liveness(
            config.silence_timeout,
            config.probe_timeout,
            ask=self._probe,
            dead=self._dead,
            tell=self._tell,
            keepalive=self._keep_alive,
            idle=idle_seconds,
            slow=self._slow,
        )
        if ask is None:
            self._outflow.prover = None
            return
        given = ask

        def prove(place: int) -> bytes:
            liveness.asked(place)
            return given(place)

        self._outflow.prover = prove

    def end(self) -> None:
        """The connection closes: nothing is asked any more, but for what the close itself waits for."""
        if self._liveness is not None:
            self._liveness.cancel()

    def answer(self, answer: Callable[[], bytes]) -> None:
        """Send what the stream itself owes the peer; once, however often it was asked for while nothing could go."""
        if self._outflow.paused:
            self._owed = answer
        elif not self._outflow.stopped:
            self._transmit(answer())

    def resume(self) -> None:
        """The network takes more again."""
        owed, self._owed = self._owed, None
        if owed is not None:
            self.answer(owed)

    def _probe(self) -> str:
        prover = self._outflow.prover
        if prover is None:
            self._keep_alive()
            return "whitespace"
        place = self._ledger.total
        self._ledger.asked = place
        self._transmit(prover(place))
        return self._by

    def _keep_alive(self) -> None:
        """White space between stanzas (RFC 6120 4.6.1); what waits is no silence of ours."""
        if not self._outflow.paused and not self._outflow.stopped:
            self._transmit(b" ")

    # ---- what the connection tells

    def heard(self, size: int) -> None:
        """So many bytes came in."""
        if self._liveness is not None:
            self._liveness.heard(size)

    def sent(self) -> None:
        """Bytes went out."""
        if self._liveness is not None:
            self._liveness.sent()

    def answered(self, place: int) -> None:
        """A proof of all up to a place came."""
        if self._liveness is not None:
            self._liveness.answered(place)

    def stand(self) -> None:
        """Nothing is read from now on, by our own choice."""
        if self._liveness is not None:
            self._liveness.stand()

    def go_on(self) -> None:
        """It is read again."""
        if self._liveness is not None:
            self._liveness.go_on()
