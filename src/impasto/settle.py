"""What the first start of a run decides for every resume: the chunks and the precision."""

from pathlib import Path

import numpy as np

from impasto.errors import RequestError, RunFailed
from impasto.keys import from_json, run_id, to_json
from impasto.media.decode import FrameReader
from impasto.media.pixels import RgbReader
from impasto.plan import plan_chunks
from impasto.records import Plan, Precision, Settings, Source, Spec
from impasto.runtimes.openvino import best_precision, supported_precisions
from impasto.scorers import gate_db
from impasto.stores import Store
from impasto.worker import model_key

_GATE_DB = 40.0
"""PSNR against f32, in dB, that a lower precision must reach on the first frame."""


def settle_plan(
    store: Store, spec: Spec, source: Source, path: Path, model: bytes, settings: Settings
) -> Plan:
    """Read the run's plan back from the store, or make it and put it there.

    Args:
        store: the system store.
        spec: what the run depends on.
        source: the probe of the source.
        path: the source.
        model: bytes of the ONNX file; put into the store for the workers.
        settings: limits.

    Raises:
        RequestError: the model can't be used, or the run was begun in a precision that this
            machine lacks.
        RunFailed: the plan in the store is damaged.
    """
    key = f"runs/{run_id(spec)}/plan.json"
    store.put(model_key(spec.scorer.model), model)  # whole, whatever a power cut left there
    try:
        plan = from_json(store.get(key), Plan)
    except FileNotFoundError:
        precision, gate = _settle_precision(spec, source, path, model, settings)
        chunks = plan_chunks(
            source.ledger, start=spec.start, stop=spec.stop, chunk_frames=spec.chunk_frames
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
            "finish it where it was begun, or start anew with --precision f32"
        )
    return plan


def _settle_precision(
    spec: Spec, source: Source, path: Path, model: bytes, settings: Settings
) -> tuple[Precision, float | None]:
    """Choose the precision, and prove it on the first frame that the run will score."""
    wanted: Precision = best_precision() if spec.precision == "auto" else spec.precision
    if wanted == "f32":
        return "f32", None
    encode = spec.encode
    with FrameReader(path, source, limits=settings.limits) as reader:
        (frame,) = reader.read(spec.start, spec.start + 1)
        picture = RgbReader(source, width=encode.width, height=encode.height)(frame)
    gate = gate_db(
        spec.scorer, model, np.ascontiguousarray(picture), precision=wanted,
    )  # fmt: skip
    return (wanted if gate >= _GATE_DB else "f32"), gate


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
