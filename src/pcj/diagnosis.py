"""What the failures of one link mean: the sentence, all that was tried, and whether going on can help."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pcj.config import Config
from pcj.connection import Connection
from pcj.errors import ConnectionFailed, Failure, Phase, Retry, StreamErrorReceived
from pcj.explain import clause
from pcj.protocol import Dialect
from pcj.protocol.retry import failure_of, settled
from pcj.route import Elsewhere, Route

__all__ = ["Diagnosis", "none_reached"]


class Diagnosis:
    """Reads the errors of one link.

    Args:
        config, dialect: of the link.

    Attributes:
        route: of the round that is under way, or the last. was_ready: whether the link has been READY before.
    """

    def __init__(self, config: Config, dialect: Dialect) -> None:
        self._config = config
        self._dialect = dialect
        self.route: Route | None = None
        self.was_ready = False

    def of_connection(self, error: BaseException | None, phase: Phase, connection: Connection | None) -> Failure:
        """What an error on a connection means; None: the server closed its stream."""
        address = connection.where if connection is not None else ""
        component = self._dialect.component
        failure = failure_of(error, phase, address=address, component=component, was_ready=self._proven)
        try:
            there = self.elsewhere(error, connection)
        except ConnectionFailed as refused:
            failure = dataclasses.replace(failure, message=str(refused), retry=refused.failure.retry)
        else:
            endpoint = self.route.endpoint if self.route is not None else None
            if endpoint is not None and there is None:
                failure = dataclasses.replace(failure, message=endpoint.told(failure.message))
        return self._with_tried(failure)

    def of_dialling(self, failure: Failure) -> Failure:
        """What it means that no connection was made."""
        retry = settled(failure.retry, failure.phase, was_ready=self._proven)
        message = failure.message
        if self.route is not None and self.route.unusable:
            message = f"{clause(message)}; DNS also names what cannot be used: {'; '.join(self.route.unusable[:5])}."
        return self._with_tried(dataclasses.replace(failure, message=message, retry=retry))

    def elsewhere(self, error: BaseException | None, connection: Connection | None) -> Elsewhere | None:
        """Where the server sends us on to (RFC 6120 4.9.3.19), if it does.

        Raises:
            ConnectionFailed: nowhere that we go.
        """
        route = self.route
        if not isinstance(error, StreamErrorReceived) or not error.see_other_host or connection is None or not route:
            return None
        return route.elsewhere(error.see_other_host, guarded=connection.guarded, sent_by=connection.where)

    def retries(self, failure: Failure) -> bool:
        """Whether another round follows."""
        return self._config.auto_reconnect and failure.retry is not Retry.FATAL

    def more_helps(self, failure: Failure | None) -> bool:
        """Whether this round has something left to try, and trying it can help."""
        if failure is None or self.route is None or not self.route.more:
            return False
        # What is wrong with one server's TLS or stream (it may be none of XMPP's at all) need not be with the next's;
        # what is wrong with the account is.
        return failure.retry is not Retry.FATAL or failure.phase in (Phase.TLS, Phase.STREAM)

    @property
    def _proven(self) -> bool:
        """Whether the options have worked, or are not to blame: they do not say where a server sends us."""
        return self.was_ready or (self.route is not None and self.route.redirected)

    def _with_tried(self, failure: Failure) -> Failure:
        tried = self.route.tried if self.route is not None else ()
        return dataclasses.replace(failure, tried=tuple(tried)) if tried else failure


def none_reached(failures: Sequence[Failure]) -> Failure:
    """No endpoint of a round could be connected to: what that means in all."""
    if len(failures) == 1:
        return failures[0]
    message = f"none of {len(failures)} servers could be reached: " + "; ".join(clause(str(each)) for each in failures)
    soonest = min(failures, key=lambda failure: (Retry.FAST, Retry.SLOW, Retry.FATAL).index(failure.retry))
    return dataclasses.replace(soonest, message=message)
