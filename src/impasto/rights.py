"""What leaves the driver with a chunk: the right to that chunk's objects, and to nothing else."""

from dataclasses import replace
from functools import lru_cache

from impasto.access import Access
from impasto.keys import from_json, segment_key
from impasto.observe.logs import attempt_keys
from impasto.records import Chunk, Plan, Task
from impasto.stores import can_narrow, narrow, open_store
from impasto.worker import model_key


def limited(task: Task, chunk: Chunk) -> Task:
    """Return the task as a worker gets it, for this chunk.

    It may read the source, the network, the plan and, where frames follow from each other, what the
    chunk before left; and it may write this chunk's segment and log. The rights hold for hours.
    They come anew with every chunk, so that no worker ever needs to ask for more.

    Raises:
        RequestError: the store does not let these credentials make others.
    """
    if not any(map(can_narrow, task.access)):
        return task
    plan = _plan(task)
    at, run = f"{task.system}/".__add__, f"runs/{task.run_id}"
    key = segment_key(plan, chunk)
    reads = [task.source, at(f"{run}/plan.json"), at(model_key(plan.spec.scorer))]
    writes = [at(f"{key}.mkv"), at(f"{key}.json")]
    writes += map(at, attempt_keys(task.run_id, chunk.index))
    if plan.spec.scorer.optimise is not None:
        writes.append(at(f"{key}.state"))
        if chunk.index:
            reads.append(at(f"{segment_key(plan, plan.chunks[chunk.index - 1])}.state"))
    return replace(task, access=narrow(task.access, reads=reads, writes=writes))


def _plan(task: Task) -> Plan:
    return _read_plan(task.system, task.run_id, task.access)


@lru_cache(maxsize=1)
def _read_plan(system: str, run_id: str, access: tuple[Access, ...]) -> Plan:
    return from_json(open_store(system, access).get(f"runs/{run_id}/plan.json"), Plan)
