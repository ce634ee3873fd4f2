"""A simulation of encoders that work off chunks, and of machines that go away meanwhile; it is no benchmark itself.

What it says must follow from how `features --engine ray` works: the first encoder that is free takes the first chunk
that waits, has another one ahead, and gives back what it has when its machine goes away.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count


@dataclass(frozen=True)
class Cluster:
    """Encoders that work at once.

    Attributes:
        speeds: of each, in seconds of audio a second.
        overhead: what a chunk takes besides, on the encoder's time (seconds).
        ahead: how many chunks an encoder has at most, the one that it works on among them.
    """

    speeds: Sequence[float]
    overhead: float = 0.0
    ahead: int = 2


@dataclass(frozen=True)
class Loss:
    """Encoders, by their places in `speeds`, that go away together at a time and are back some seconds later."""

    at: float
    encoders: Sequence[int]
    away: float


@dataclass(frozen=True)
class Outcome:
    """How the work went.

    Attributes:
        seconds: until the last chunk was done.
        work: seconds of audio.
        lost: seconds that encoders had worked on chunks when they went away.
        losses: how often a chunk was begun and lost.
    """

    seconds: float
    work: float
    lost: float = 0.0
    losses: int = 0

    def efficiency(self, cluster: Cluster) -> float:
        """Return the part of the encoders' time in which they embedded what was kept; 1 is all of it."""
        return min(1.0, self.work / (self.seconds * sum(cluster.speeds))) if self.seconds else 1.0


def run_parts(parts: Sequence[Sequence[float]], cluster: Cluster) -> Outcome:
    """Give each encoder its part once and for all, as `accelerate launch` does."""
    works = [sum(part) for part in parts]
    seconds = [work / speed + cluster.overhead for work, speed in zip(works, cluster.speeds, strict=True) if work]
    return Outcome(max(seconds, default=0.0), sum(works))


def run_chunks(chunks: Sequence[float], cluster: Cluster, losses: Iterable[Loss] = ()) -> Outcome:
    """Let the encoders take chunks, the first first, until all are done.

    Args:
        chunks: seconds of audio of each.
        cluster: the encoders.
        losses: which of them go away, in any order; those after the end count for nothing.
    """
    return _Run(chunks, cluster, losses).outcome()


class _Run:
    """The state of a simulation: what waits, what each encoder has, and what will happen."""

    def __init__(self, chunks: Sequence[float], cluster: Cluster, losses: Iterable[Loss]) -> None:
        encoders = range(len(cluster.speeds))
        self.cluster, self.work, self.left = cluster, sum(chunks), len(chunks)
        self.waiting = deque(chunks)
        self.queues: list[deque[float]] = [deque() for _ in encoders]
        self.begun = [0.0] * len(encoders)
        # How often an encoder went away (what was to happen in an earlier life never does), and for how long.
        self.lives = [0] * len(encoders)
        self.back_at = [0.0] * len(encoders)
        self.now = self.lost = 0.0
        self.losses = 0
        self.order = count()
        # At a time comes a loss, or what an encoder does in one of its lives ends.
        self.events: list[tuple[float, int, Loss | tuple[int, int]]] = []
        for loss in losses:
            heappush(self.events, (loss.at, next(self.order), loss))

    def outcome(self) -> Outcome:
        self._feed()
        while self.left:
            self.now, _, event = heappop(self.events)
            if isinstance(event, Loss):
                self._lose(event)
            elif self.lives[event[0]] == event[1]:
                self._wake(event[0])
        return Outcome(self.now, self.work, self.lost, self.losses)

    def _feed(self) -> None:
        """Hand out what waits, in turns, as far as encoders have room."""
        for _ in range(self.cluster.ahead):
            for encoder in range(len(self.queues)):
                if self.back_at[encoder] <= self.now:
                    self._give(encoder)

    def _give(self, encoder: int) -> None:
        queue = self.queues[encoder]
        if self.waiting and len(queue) < self.cluster.ahead:
            queue.append(self.waiting.popleft())
            if len(queue) == 1:
                self._begin(encoder)

    def _begin(self, encoder: int) -> None:
        self.begun[encoder] = self.now
        seconds = self.queues[encoder][0] / self.cluster.speeds[encoder] + self.cluster.overhead
        self._plan(self.now + seconds, encoder)

    def _plan(self, at: float, encoder: int) -> None:
        heappush(self.events, (at, next(self.order), (encoder, self.lives[encoder])))

    def _wake(self, encoder: int) -> None:
        """Let an encoder go on that has done its chunk, or is back."""
        queue = self.queues[encoder]
        if queue:
            queue.popleft()
            self.left -= 1
            if queue:
                self._begin(encoder)
            self._give(encoder)
        else:
            for _ in range(self.cluster.ahead):
                self._give(encoder)

    def _lose(self, loss: Loss) -> None:
        for encoder in loss.encoders:
            queue = self.queues[encoder]
            if queue:
                self.lost += self.now - self.begun[encoder]
                self.losses += 1
            self.waiting.extendleft(reversed(queue))
            queue.clear()
            self.lives[encoder] += 1
            self.back_at[encoder] = max(self.back_at[encoder], self.now + loss.away)
            self._plan(self.back_at[encoder], encoder)
        self._feed()
