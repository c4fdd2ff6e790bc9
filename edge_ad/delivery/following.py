"""What a subscriber has seen of each topic: what is new, and how much is missing."""

from __future__ import annotations

from edge_ad.delivery.wire import SCORES, Header, ScoreBody


class Following:
    """Tells messages that are new from those that were seen, and counts what lies between. Not thread
    safe."""

    def __init__(self) -> None:
        self.lost = 0
        self._at: dict[str, tuple[str, int, int]] = {}  # topic: epoch, seq, number on this topic
        self._past: set[str] = set()  # epochs that have ended: what still comes of them is late

    def take(self, topic: str, header: Header, body: ScoreBody, counted: bool = True) -> bool:
        """Whether the message is new. Those between it and the last one are lost, where `counted`.

        Of an epoch that began meanwhile all before the message are lost; how many more the one before it
        had cannot be known.
        """
        number = header.seq if topic == SCORES else body.rejects
        if header.epoch in self._past:
            return False
        last = self._at.get(topic)
        if last is not None:
            epoch, seq, before = last
            if epoch == header.epoch and header.seq <= seq:
                return False
            if epoch != header.epoch:
                self._past.add(epoch)
                before = 0
            if counted:
                self.lost += max(0, number - before - 1)
        self._at[topic] = header.epoch, header.seq, number
        return True
