"""Gives up a connection to the broker on which nothing is heard any more.

kombu waits for messages with a BRPOP, which the broker answers every second, be
it with nothing. On a connection that is half-open no answer ever comes, and
kombu 5.6 waits for it all the same: its worker is deaf until somebody starts it
again. (5.7 notices such silence itself.) Keepalive alone would not do: a proxy
in between, or a broker that hangs, acknowledges every packet.
"""

import logging
import select
from typing import Any

from celery import bootsteps

log = logging.getLogger("deletions.listener")

#: Seconds between two looks. A connection that was silent from one to the next
#: is given up.
LOOK_EVERY = 5.0


class Listener(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery publishes no types
    """Lets Celery connect anew where an answer that is due every second does not come."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._timer: Any = None
        self._heard: object = None

    def start(self, parent: Any) -> None:
        """Begin to listen on the connection that the consumer has now."""
        self._heard = None
        self._timer = parent.timer.call_repeatedly(LOOK_EVERY, self.look, (parent,))

    def stop(self, parent: Any) -> None:
        """Listen no more: the connection ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self, parent: Any) -> None:
        """Compare what was heard with the last look. Raises ConnectionError: nothing was."""
        waiting: Any = getattr(parent.task_consumer.channel, "_in_poll", None)
        sock = getattr(waiting, "_sock", None)
        if sock is None:
            self._heard = None
            return
        # It moves on with every answer.
        heard = (waiting, waiting.next_health_check)
        if heard == self._heard and not _has_come(sock):
            log.warning("broker.silent", extra={"seconds": LOOK_EVERY})
            raise ConnectionError("the broker does not answer on this connection any more")
        self._heard = heard


def _has_come(sock: Any) -> bool:
    """Whether something lies there that a busy worker has not read yet."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))
