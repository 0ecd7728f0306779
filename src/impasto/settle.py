"""What the first start of a run decides for every resume: the chunks and the precision."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import cast

import numpy as np

from impasto.errors import RequestError, RunFailed
from impasto.fleet import Fleet, Work, best_chunk_frames, best_tail
from impasto.keys import from_json, run_id, to_json
from impasto.media.decode import FrameReader
from impasto.media.pixels import Picture, RgbReader
from impasto.plan import plan_chunks
from impasto.protocols import Engine
from impasto.records import Plan, Precision, ScorerSpec, Source, Spec
from impasto.runtimes.openvino import best_precision, supported_precisions
from impasto.scorers import gate_db
from impasto.settings import Settings
from impasto.stores import Entry, Place, Store
from impasto.surroundings import Surroundings
from impasto.trial import try_out
from impasto.wording import plural
from impasto.worker import model_key

_GATE_DB = 40.0
"""PSNR against f32, in dB, that a lower precision must reach on the first frame."""


def settle_plan(
    store: Store,
    spec: Spec,
    source: Source,
    path: Place,
    model: bytes,
    settings: Settings,
    fleet: Fleet | None = None,
) -> Plan:
    """Read the run's plan back from the store, or make it and put it there.

    Args:
        store: the system store.
        spec: what the run depends on.
        source: the probe of the source.
        path: the source.
        model: bytes of the ONNX file; put into the store for the workers.
        settings: limits.
        fleet: whom chunks are cut for where `spec` says that they are to be computed.

    Raises:
        RequestError: the model can't be used, or the run was begun in a precision that this
            machine lacks.
        RunFailed: the plan in the store is damaged.
    """
    key = f"runs/{run_id(spec)}/plan.json"
    store.put(model_key(spec.scorer), model)  # whole, whatever a power cut left there
    try:
        plan = from_json(store.get(key), Plan)
    except FileNotFoundError:
        precision, gate = settle_precision(spec, source, path, model, settings)
        if spec.chunk_frames == 0:
            spec = _fit(spec, source, path, model, precision, settings, fleet or Fleet())
        chunks = plan_chunks(
            source.ledger,
            start=spec.start,
            stop=spec.stop,
            chunk_frames=spec.chunk_frames,
            tail=spec.tail,
        )
        plan = Plan(spec, source, chunks, precision, gate)
        store.put_new(key, to_json(plan))
        plan = from_json(store.get(key), Plan)  # another driver's, where it was quicker
    except ValueError as error:
        raise RunFailed(
            f"{key} in {store.url} is damaged ({error}); remove it and run again"
        ) from None
    if plan.precision not in supported_precisions():
        raise RequestError(
            f"run {run_id(spec)} was begun in {plan.precision}, which this machine lacks; "
            "finish it where it was begun, or start anew in precision f32"
        )
    return plan


def unused_models(store: Store, plan_ids: Iterable[str], before: datetime) -> list[Entry]:
    """Networks that none of these plans names; each start of a run makes its own young again.

    Args:
        store: the system store.
        plan_ids: of runs that are kept. A plan that can't be read needs no network: a run that goes
            on puts its own there.
        before: younger ones stay: a run may just begin.
    """
    unused = [entry for entry in store.list("models/") if entry.modified < before]
    for plan_id in plan_ids:
        if not unused:
            break
        with contextlib.suppress(FileNotFoundError, ValueError):
            plan = from_json(store.get(f"runs/{plan_id}/plan.json"), Plan)
            used = model_key(plan.spec.scorer)
            unused = [entry for entry in unused if entry.key != used]
    return unused


def fleet_of(engine: Engine, around: Surroundings, preemptions_per_hour: float) -> Fleet:
    """Whom computed chunks suit.

    Workers of this machine share it, those of a Ray cluster of our own too; MPI ranks on others are
    as many on each as here, where the launcher tells how many, or else each has one of its own.
    """
    sharing = engine.workers
    if engine.name == "mpi" and around.ranks is not None:
        sharing = around.ranks.local_size or 1
    elif engine.name == "mpi" and around.mpiexec:
        sharing = 1  # nobody knows
    elif engine.name == "ray" and around.ray.address not in {"", "local"}:
        sharing = 1  # nor here, before they are there: the report knows
    sharing = min(sharing, engine.workers)
    return Fleet(
        nodes=-(-engine.workers // sharing),
        workers_per_node=sharing,
        preemptions_per_hour=preemptions_per_hour,
    )


def _fit(
    spec: Spec,
    source: Source,
    path: Place,
    model: bytes,
    precision: Precision,
    settings: Settings,
    fleet: Fleet,
) -> Spec:
    """Compute the chunk size that suits the fleet, from what a trial on this machine takes."""
    trial = try_out(
        path,
        source,
        spec,
        model,
        precision,
        settings=settings,
        workers=fleet.workers_per_node,
    )
    work = Work(frame_s=trial.frame_s, chunk_s=trial.chunk_s, start_s=trial.start_s)
    frames = best_chunk_frames(work, fleet, spec.stop - spec.start)
    return replace(spec, chunk_frames=frames, tail=best_tail(work, fleet, frames))


def settle_precision(
    spec: Spec, source: Source, path: Place, model: bytes, settings: Settings
) -> tuple[Precision, float | None]:
    """Choose the precision, and prove it on the first frame that the run will score.

    Returns:
        The precision, and the frame's PSNR in dB against f32; None where it is f32 itself.
    """
    encode = spec.encode

    def first() -> Picture:
        with FrameReader(path, source, limits=settings.limits) as reader:
            (frame,) = reader.read(spec.start, spec.start + 1)
            return RgbReader(source, width=encode.width, height=encode.height)(frame)

    return choose_precision(spec.precision, spec.scorer, model, first)


def choose_precision(
    asked: str, scorer: ScorerSpec, model: bytes, picture: Callable[[], Picture]
) -> tuple[Precision, float | None]:
    """Choose the precision that `picture` can be scored in, and its PSNR in dB against f32.

    Args:
        asked: "auto" or a precision.
        scorer: what is applied.
        model: bytes of the ONNX file.
        picture: gives the RGB picture, where it is needed.
    """
    wanted = best_precision() if asked == "auto" else cast("Precision", asked)
    if wanted == "f32" or scorer.optimise is not None:
        return "f32", None
    gate = gate_db(scorer, model, np.ascontiguousarray(picture()), precision=wanted)
    return (wanted if gate >= _GATE_DB else "f32"), gate


def chunk_notes(plan: Plan) -> list[str]:
    """Which chunk size was computed, where one was."""
    spec = plan.spec
    if spec.tail is None or not spec.tail.computed:
        return []
    workers = plural(spec.tail.workers, "worker")
    finer = f", down to {spec.tail.shortest} at the end" if spec.tail.workers > 1 else ""
    frames = plural(spec.chunk_frames, "frame")
    return [f"chunks of {frames}{finer}, computed for {workers} when the run began"]


def precision_notes(plan: Plan) -> list[str]:
    """What a person should know about the precision that was taken."""
    if plan.gate_db is None or plan.precision != "f32":
        return []
    return [
        (
            f"a lower precision gave only {plan.gate_db:.1f} dB against f32 on the first frame "
            f"(at least {_GATE_DB:.0f} is asked), so f32 is taken"
        )
    ]
