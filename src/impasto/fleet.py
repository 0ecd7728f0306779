"""How long machines take, what they cost, and which chunks suit them: arithmetic, and its words.

Times are seconds, rates are per hour of one machine (a node), and money has no unit of its own.
Where each formula comes from stands in docs/scaling.md.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from impasto.errors import RequestError

CHUNK_S = 0.1
"""What a chunk takes beyond its frames where nobody measured: a seek, filling and draining the
pipeline, an encoder's start, a put."""
START_S = 3.0
"""What a worker takes before its first frame where nobody measured: imports, and the network."""
BOOT_S = 120.0
"""From asking a cloud for a machine to the first process on it; a default for estimates alone."""
_STOPS_PER_HOUR = 1.0
"""Of a run, beside preemptions: Ctrl-C, a restart, an update. Whoever stops one also waits for the
chunks under way, so they are not to last for minutes."""
_WORTH = 4
"""Halving the last chunks saves each worker a quarter of a chunk's work on average and costs it
one more chunk, so it pays while that work is more than this many times the chunk's own cost."""
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, slots=True)
class Tail:
    """How chunks get shorter towards the end, so that workers finish together."""

    workers: int
    shortest: int
    """Frames; no chunk is made shorter for the sake of the end."""
    computed: bool = False
    """Whether it suits a fleet, as does the size of the other chunks; or else it is the default."""


@dataclass(frozen=True, slots=True)
class Price:
    """Of one node for an hour."""

    per_hour: float
    spot_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a run asks of a worker."""

    frame_s: float
    """Per frame and worker, with decoding, scoring and encoding side by side."""
    chunk_s: float = CHUNK_S
    start_s: float = START_S
    before_s: float = 0.0
    """The probe and the plan: on one machine, before anybody scores."""
    after_s: float = 0.0
    """Stitching and verifying: likewise, when all have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Who does it."""

    nodes: int = 1
    workers_per_node: int = 1
    boot_s: float = 0.0
    preemptions_per_hour: float = 0.0
    """How often a node is taken away, and another one asked for."""

    @property
    def workers(self) -> int:
        """On all nodes together."""
        return self.nodes * self.workers_per_node


@dataclass(frozen=True, slots=True)
class Bill:
    """What a run on a fleet takes."""

    wall_s: float
    score_s: float
    """Of it, the time in which chunks are scored."""
    chunk_frames: int
    """Of the longest chunk."""
    shortest: int
    """Frames of the shortest chunk."""
    chunks: int
    node_s: dict[str, float]
    """Seconds of nodes by what they go to: boot, start_up, scoring, chunks (their own cost), lost
    (to preemptions), waiting (for the last chunk) and driver (before and after)."""
    node_hours: float
    cost: float | None
    """Node-hours by the price; None without one."""
    utilisation: float
    """Share of the node-seconds in which frames are scored, 0..1."""


@dataclass(frozen=True, slots=True)
class WorkerTime:
    """Where a worker's seconds went while chunks were scored; they add up to its presence."""

    worker: str
    start_up_s: float = 0.0
    waiting_s: float = 0.0
    scoring_s: float = 0.0
    lost_s: float = 0.0
    """Spent on chunks that failed, or that it died with."""

    @property
    def total_s(self) -> float:
        """All of them."""
        return self.start_up_s + self.waiting_s + self.scoring_s + self.lost_s


@dataclass(frozen=True, slots=True)
class Cost:
    """Node-seconds of a run, and their price."""

    node_s: dict[str, float]
    """By what they went to: start_up, waiting, scoring, lost and driver (probe, plan, stitch and
    verify); workers that share a machine share its seconds."""
    share: dict[str, float]
    """Of the whole, 0..1."""
    per_hour: float | None = None
    total: float | None = None
    """Node-hours by the price; None without one."""
    workers: tuple[WorkerTime, ...] = field(default=())


def expected_s(length_s: float, fleet: Fleet, restart_s: float) -> float:
    """Expected seconds to finish `length_s` of work that a preemption loses whole.

    Daly (2006): preemptions come as a Poisson process of rate λ, each costs what was done and
    `restart_s` until a worker is back, so it is (1/λ + restart) (exp(λ length) - 1).
    """
    rate = fleet.preemptions_per_hour / 3600
    if rate == 0:
        return length_s
    if rate * length_s > _LARGEST_EXPONENT:
        return math.inf
    return (1 / rate + restart_s) * math.expm1(rate * length_s)


def best_chunk_frames(work: Work, fleet: Fleet, frames: int) -> int:
    """Frames per chunk with which `expected_run_s` is least, within `chunk_bounds`.

    Long chunks lose more to a preemption, short ones spend more on themselves: for one worker and a
    long film the best take sqrt(2 chunk_s / λ) seconds, as Young (1974) found for checkpoints.

    Args:
        work: what frames and chunks take.
        fleet: how many workers, and how often they are taken away.
        frames: of the whole run.
    """
    low, high = chunk_bounds(work, fleet, frames)
    while low < high:  # it is convex: it falls to its only minimum, and rises behind it
        middle = (low + high) // 2
        here, next_ = (expected_run_s(n, work, fleet, frames) for n in (middle, middle + 1))
        if next_ < here:
            low = middle + 1
        else:
            high = middle
    return low


def chunk_bounds(work: Work, fleet: Fleet, frames: int) -> tuple[int, int]:
    """The chunk sizes to choose from: none spends more on itself than on its frames, and none is
    longer than half of a worker's share (Hummel, Schonberg and Flynn 1992).
    """
    most = frames if fleet.workers == 1 else -(-frames // (2 * fleet.workers))
    least = math.ceil(work.chunk_s / work.frame_s)
    return max(1, min(least, most)), max(1, most)


def expected_run_s(length: int, work: Work, fleet: Fleet, frames: int) -> float:
    """Expected seconds of scoring `frames` frames in chunks of `length`, start-up left out.

    Every worker scores its share, with what is lost on the way; and where a node is lost with one
    of the last chunks, that is scored once more when the others are done.
    """
    share = frames / fleet.workers
    chunk_s = work.chunk_s + length * work.frame_s
    risky = Fleet(preemptions_per_hour=fleet.preemptions_per_hour + _STOPS_PER_HOUR)
    losses = fleet.preemptions_per_hour / 3600 * fleet.nodes * chunk_s
    return share * expected_s(chunk_s, risky, 0.0) / length - chunk_s * math.expm1(-losses)


def best_tail(work: Work, fleet: Fleet, chunk_frames: int) -> Tail:
    """How far it pays to cut the last chunks finer: while a chunk's work is worth its own cost."""
    shortest = math.ceil(_WORTH * work.chunk_s / work.frame_s)
    return Tail(fleet.workers, max(1, min(chunk_frames, shortest)), computed=True)


def score_s(lengths: Sequence[int], work: Work, fleet: Fleet) -> float:
    """Expected seconds until the last chunk is scored.

    Each worker that comes free takes the next chunk, as engines hand them out (list scheduling,
    Graham 1969). What a node that is taken away had goes to another one, so that only a lone
    worker's boot is waited for.

    Args:
        lengths: of the chunks, frames, in their order.
        work: what they take.
        fleet: who takes them.
    """
    free = [0.0] * min(fleet.workers, len(lengths))
    for length in lengths:
        heapq.heapreplace(free, free[0] + _chunk_s(length, work, fleet))
    return max(free)


def _chunk_s(length: int, work: Work, fleet: Fleet) -> float:
    alone_s = work.chunk_s + length * work.frame_s
    return expected_s(alone_s, fleet, fleet.boot_s + work.start_s)


def bill(lengths: Sequence[int], work: Work, fleet: Fleet, per_hour: float | None) -> Bill:
    """Time, node-seconds and cost of scoring chunks of these `lengths` (frames) on a fleet.

    Nodes are asked for when the plan is made and given back when the last chunk is scored; one
    machine probes, stitches and verifies, and is paid for that as well.
    """
    scoring_s = score_s(lengths, work, fleet)
    share = 1 / fleet.workers_per_node
    alone_s = share * sum(work.chunk_s + length * work.frame_s for length in lengths)
    expected = share * sum(_chunk_s(length, work, fleet) for length in lengths)
    node_s = {
        "boot": fleet.nodes * fleet.boot_s,
        "start_up": fleet.nodes * work.start_s,
        "scoring": share * sum(lengths) * work.frame_s,
        "chunks": share * len(lengths) * work.chunk_s,
        "lost": expected - alone_s if fleet.preemptions_per_hour else 0.0,
        "waiting": fleet.nodes * scoring_s - expected,
        "driver": work.before_s + work.after_s,
    }
    whole_s = sum(node_s.values())
    return Bill(
        wall_s=fleet.boot_s + work.start_s + scoring_s + work.before_s + work.after_s,
        score_s=scoring_s,
        chunk_frames=max(lengths),
        shortest=min(lengths),
        chunks=len(lengths),
        node_s=node_s,
        node_hours=whole_s / 3600,
        cost=None if per_hour is None else whole_s / 3600 * per_hour,
        utilisation=node_s["scoring"] / whole_s,
    )


def cost_of(node_s: Mapping[str, float], per_hour: float | None) -> Cost:
    """Price node-seconds that were used, by what they went to."""
    whole_s = sum(node_s.values())
    return Cost(
        node_s={name: round(seconds, 3) for name, seconds in node_s.items()},
        share={name: round(seconds / whole_s, 4) for name, seconds in node_s.items()}
        if whole_s
        else dict.fromkeys(node_s, 0.0),
        per_hour=per_hour,
        total=None if per_hour is None else whole_s / 3600 * per_hour,
    )


def find_price(text: str, prices: Mapping[str, Price], *, name: str = "--price") -> Price:
    """Read "0.5", the name of a price in the configuration, or "NAME:spot".

    Raises:
        RequestError: neither, or a price that has no spot price.
    """
    try:
        per_hour = float(text)
    except ValueError:
        pass
    else:
        if not (math.isfinite(per_hour) and per_hour >= 0):
            raise RequestError(f"{name} must be a number from 0 up, got {text}")
        return Price(per_hour)
    key, colon, kind = text.rpartition(":")
    key = key if colon and kind == "spot" and key in prices else text
    if key not in prices:
        known = f"it has {', '.join(sorted(prices))}" if prices else "it has no [prices]"
        raise RequestError(f"{name} is no number and no price of the configuration: {text!r}; "
                           f"{known}")  # fmt: skip
    price = prices[key]
    if key == text:
        return price
    if price.spot_per_hour is None:
        raise RequestError(f"{name}: {key!r} has no spot_per_hour in the configuration")
    return Price(price.spot_per_hour)
