"""What was handed out and is not settled yet: the replies of batches, as they were handed out."""

from collections.abc import Iterator, Sequence
from itertools import chain

from penstock.worker.nats.message import JetStreamMessage, JetStreamMessages
from penstock.worker.pipeline.messages import Messages


class Unsettled:
    """Replies, a batch at a time, which is how they nearly always are settled. Where a part of a
    batch is, all that is out is taken apart; then each reply counts by itself.
    """

    def __init__(self) -> None:
        self._batches: dict[int, Sequence[bytes]] = {}
        self._single: dict[bytes, bool] = {}

    def __iter__(self) -> Iterator[bytes]:
        return chain(*self._batches.values(), self._single)

    def add(self, messages: JetStreamMessages) -> None:
        """These are handed out."""
        self._batches[id(messages.replies)] = messages.replies

    def take(self, messages: Messages) -> Sequence[bytes]:
        """Remove these, the messages of a batch or of a part. Returns the replies of those that
        were out: others belong to an older epoch.
        """
        if isinstance(messages, JetStreamMessages):
            replies: Sequence[bytes] = messages.replies
            if self._batches.pop(id(replies), None) is not None:
                return replies
        else:
            replies = [one.reply for one in messages if isinstance(one, JetStreamMessage)]
        self._single.update(dict.fromkeys(chain(*self._batches.values()), True))
        self._batches.clear()
        return [reply for reply in replies if self._single.pop(reply, False)]

    def clear(self) -> None:
        """Forget all of them: their stream or consumer is another one now."""
        self._batches.clear()
        self._single.clear()
