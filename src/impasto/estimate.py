"""What a run on a fleet would take and cost, before it is begun."""

import math
import time
from dataclasses import dataclass, replace

from impasto.errors import RequestError
from impasto.fleet import Bill, Fleet, Price, Tail, Work, best_chunk_frames, best_tail, bill
from impasto.frames import video_at
from impasto.media.probe import probe
from impasto.plan import plan_chunks
from impasto.records import Ledger, Source, Spec
from impasto.request import Options, Request, resolve, scorer_spec
from impasto.settings import Settings
from impasto.settle import settle_precision
from impasto.stores import Place
from impasto.styles import Blend, find_style
from impasto.trial import Trial, try_out
from impasto.wording import plural

_MOST_NODES = 100_000
_MOST_PREEMPTIONS = 3600.0
_PROOF = 1.0
"""Stitching and verifying decode the target once and hash the source, as the probe does with the
source: measured at 0.92 of the probe's time for equal sizes (benchmarks, `finish`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a run is to be estimated."""

    fleet: Fleet = Fleet()  # noqa: RUF009 - frozen
    """Preemptions concern spot nodes alone."""
    price: Price | None = None
    gap_s: float | None = None
    """Between the end of a job and the next one."""
    fps: float | None = None
    """Frames per second of a node; None measures this machine's."""

    def check(self) -> None:
        """Refuse what no fleet is.

        Raises:
            RequestError: a number out of its range.
        """
        fleet, price = self.fleet, self.price or Price(0.0)
        if not 1 <= fleet.nodes <= _MOST_NODES:
            raise RequestError(f"--nodes must be within 1 and {_MOST_NODES}, got {fleet.nodes}")
        if fleet.workers_per_node < 1:
            raise RequestError(f"--workers must be at least 1, got {fleet.workers_per_node}")
        if not 0 <= fleet.preemptions_per_hour <= _MOST_PREEMPTIONS:
            raise RequestError(
                f"--preemptions-per-hour must be within 0 and {_MOST_PREEMPTIONS:.0f}, "
                f"got {fleet.preemptions_per_hour}"
            )
        named = {"--price": price.per_hour, "--spot-price": price.spot_per_hour}
        for name, value in named.items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise RequestError(f"{name} must be a number from 0 up, got {value}")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise RequestError(f"--fps must be a number above zero, got {self.fps}")


@dataclass(frozen=True, slots=True)
class Idle:
    """Whether nodes should wait for the next job, or go and be asked for again."""

    keep_warm: bool
    gap_s: float
    timeout_s: float
    """Keep nodes that long after a job, then let them go: never more than twice the cost of
    knowing when the next one comes (Karlin et al. 1988)."""
    node_s_warm: float
    """Node-seconds of waiting through the gap."""
    node_s_cold: float
    """Node-seconds of booting again."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run on a fleet would take and cost."""

    source: str
    style: str
    frames: int
    width: int
    height: int
    fps: float
    """Of a node."""
    measured: bool
    """Whether a trial on this machine says so, or the caller."""
    device: str
    precision: str
    fleet: Fleet
    work: Work
    stage_s: dict[str, float]
    """Busy seconds per frame of decode, score and encode; empty where nobody measured."""
    on_demand: Bill
    spot: Bill | None
    """None where neither a spot price nor preemptions were given."""
    binds: str
    """What most of the time goes to: decode, score, encode, boot, start_up or driver."""
    time_share: dict[str, float]
    """Of the time from start to proof, on demand: boot, start_up, scoring and driver."""
    idle: Idle | None


def estimate(
    source: str | Place, *, style: str | Blend, options: Options, settings: Settings, terms: Terms
) -> Estimate:
    """Probe the source, score a few of its frames here, and compute the rest.

    Args:
        source: path or URL of the video, or of a folder of frames.
        style: as in `stylize`.
        options: of the run; its target may exist.
        settings: folders and limits.
        terms: the fleet and its prices. Its nodes are taken to be like this machine, unless `fps`
            says what they do.

    Raises:
        RequestError: the source can't be read, or a term is out of its range.
        RunFailed: the trial failed.
    """
    terms.check()
    path = video_at(source, settings, rate=options.rate, work=options.work)
    found, model = find_style(style, options.quality, user_styles=settings.user_styles)
    scorer = scorer_spec(found.name, model, options)
    began = time.perf_counter()
    probed = probe(path, settings.limits)
    probe_s = time.perf_counter() - began
    request = Request(path, None, scorer, {}, replace(options, force=True))
    spec = resolve(request, probed, max_pixels=settings.limits.max_pixels).spec
    precision = spec.precision
    trial, plan_s = None, 0.0
    if terms.fps is None:
        began = time.perf_counter()
        precision, _ = settle_precision(spec, probed, path, model, settings)
        plan_s = time.perf_counter() - began
        trial = try_out(
            path,
            probed,
            spec,
            model,
            precision,
            settings=settings,
            workers=terms.fleet.workers_per_node,
        )
        if options.chunk_frames == "auto":  # then the run begins with such a trial as well
            plan_s = time.perf_counter() - began
    work = _work(terms, trial, probe_s, plan_s, _growth(spec, probed))
    bills = _bills(probed.ledger, spec, options.chunk_frames, work, terms)
    stage_s = trial.stage_s if trial else {}
    time_share, binds = _binds(bills[0], work, terms.fleet, stage_s)
    return Estimate(
        source=str(source),
        style=found.name,
        frames=spec.stop - spec.start,
        width=spec.encode.width,
        height=spec.encode.height,
        fps=terms.fleet.workers_per_node / work.frame_s,
        measured=trial is not None,
        device=trial.device if trial else "",
        precision=precision,
        fleet=terms.fleet,
        work=work,
        stage_s=stage_s,
        on_demand=bills[0],
        spot=bills[1],
        binds=binds,
        time_share=time_share,
        idle=idle_advice(terms.fleet, terms.gap_s) if terms.gap_s is not None else None,
    )


def _growth(spec: Spec, source: Source) -> float:
    """Pixels of the target per pixel of the source, over the part that is painted."""
    encode = spec.encode
    area = encode.width * encode.height / (source.width * source.height)
    return area * (spec.stop - spec.start) / len(source.ledger)


def _work(terms: Terms, trial: Trial | None, probe_s: float, plan_s: float, growth: float) -> Work:
    after_s = _PROOF * growth * probe_s
    if trial is None:
        assert terms.fps is not None
        frame_s = terms.fleet.workers_per_node / terms.fps
        return Work(frame_s=frame_s, before_s=probe_s, after_s=after_s)
    return Work(
        frame_s=trial.frame_s,
        chunk_s=trial.chunk_s,
        start_s=trial.start_s,
        before_s=probe_s + plan_s,
        after_s=after_s,
    )


def _bills(
    ledger: Ledger, spec: Spec, asked: int | str | None, work: Work, terms: Terms
) -> tuple[Bill, Bill | None]:
    """On demand, and on spot nodes where anything is said of them."""
    price, fleet = terms.price, terms.fleet
    steady = replace(fleet, preemptions_per_hour=0.0)

    def priced(nodes: Fleet, per_hour: float | None) -> Bill:
        chunk_frames, tail = _cut(asked, spec, work, nodes)
        chunks = plan_chunks(
            ledger, start=spec.start, stop=spec.stop, chunk_frames=chunk_frames, tail=tail
        )
        lengths = [len(chunk) for chunk in chunks]
        found = bill(lengths, work, nodes, per_hour)
        if not math.isfinite(found.wall_s):
            raise RequestError(
                f"at {nodes.preemptions_per_hour:g} preemptions an hour a chunk of "
                f"{plural(max(lengths), 'frame')} is never finished; give a smaller --chunk-frames"
            )
        return found

    on_demand = priced(steady, None if price is None else price.per_hour)
    spot_price = None if price is None else price.spot_per_hour
    if spot_price is None and not fleet.preemptions_per_hour:
        return on_demand, None
    return on_demand, priced(fleet, spot_price)


def _cut(asked: int | str | None, spec: Spec, work: Work, fleet: Fleet) -> tuple[int, Tail | None]:
    if isinstance(asked, int):
        return asked, None
    frames = best_chunk_frames(work, fleet, spec.stop - spec.start)
    return frames, best_tail(work, fleet, frames)


def _binds(
    found: Bill, work: Work, fleet: Fleet, stage_s: dict[str, float]
) -> tuple[dict[str, float], str]:
    """Shares of the time, and what has the largest: among the stages of scoring, the busiest."""
    times_s = {
        "boot": fleet.boot_s,
        "start_up": work.start_s,
        "scoring": found.score_s,
        "driver": work.before_s + work.after_s,
    }
    share = {name: seconds / found.wall_s for name, seconds in times_s.items()}
    largest = max(share, key=lambda name: share[name])
    if largest != "scoring":
        return share, largest
    return share, max(stage_s, key=lambda name: stage_s[name]) if stage_s else "score"


def idle_advice(fleet: Fleet, gap_s: float) -> Idle:
    """Compare waiting through a gap with booting again; both cost the same where it is one boot."""
    return Idle(
        keep_warm=gap_s < fleet.boot_s,
        gap_s=gap_s,
        timeout_s=fleet.boot_s,
        node_s_warm=fleet.nodes * gap_s,
        node_s_cold=fleet.nodes * fleet.boot_s,
    )
