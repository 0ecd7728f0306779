"""One network on the CPU through OpenVINO: uint8 frames in, uint8 frames out.

A frame is scored by one core, and as many frames at a time as there are cores. That costs nothing
in frames per second, and it is what makes the result the same on any number of cores: sums inside
instance normalisation are taken in the order of the threads that share them, so a frame that two
threads score differs in its last bits from one that a single thread scores.
"""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, get_args

import numpy as np

from impasto.errors import OutOfMemory, RequestError, RunFailed
from impasto.records import Frames, Precision
from impasto.runtimes import cpu, graph
from impasto.runtimes.graph import Finish, Scaling

__all__ = ["Finish", "Network", "Scaling", "best_precision", "device_name", "supported_precisions"]

_BATCH_BYTES = 64 << 20
_FRAMES_PER_STREAM = 4
_CHANNELS = 3

# How OpenVINO, oneDNN and the C++ library say it; they use no type of error of its own.
_OUT_OF_MEMORY = ("bad_alloc", "failed to allocate", "can't alloc", "out of memory")


class Network:
    """A compiled network for frames of one size; it lives in one process, for one caller at a time.

    Satisfies the Scorer protocol. When memory runs out it goes on with half as many streams and
    says so in `notes`.

    Raises:
        RequestError: the model is malformed, or not a network from one picture to another of the
            same size; or the precision is not one that this processor computes in.
        OutOfMemory: there is no room for the network even on one stream.
    """

    def __init__(
        self,
        model: bytes,
        *,
        height: int,
        width: int,
        precision: str = "f32",
        streams: int = 0,
        scaling: Scaling | None = None,
        finish: Finish | None = None,
    ) -> None:
        """Compile `model`, an ONNX file's bytes, for frames of `height` x `width` pixels.

        Args:
            model: one float input (N, 3, H, W), one output of the same size.
            height: pixels, of any size from 1.
            width: pixels, of any size from 1.
            precision: "f32" or "bf16", see `supported_precisions`.
            streams: frames at the same time, one core each; 0 takes every core this process has.
            scaling: how the network's numbers stand to 0..255.
            finish: what happens to the painted frame before it is rounded.
        """
        _check_request(height, width, precision, streams)
        self.device = device_name()
        self.notes: list[str] = []
        self._config = {
            "INFERENCE_PRECISION_HINT": precision,
            # Processes that share the machine would all be pinned to its first cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled: Any = None
        self._requests: list[Any] = []
        self._frame_shape = (height, width, _CHANNELS)
        with _memory_watched("reading the network"):
            self._model = graph.build(model, height, width, scaling or Scaling(), finish)
        self._start(streams or cpu.usable_cores())

    def __call__(self, frames: Frames, /) -> Frames:
        """Score uint8 RGB frames (N, H, W, 3) → (N, H, W, 3); N is any number.

        Raises:
            ValueError: the frames have another shape or type.
            OutOfMemory: there is no room even for one frame at a time.
            RunFailed: the network stopped on a frame.
        """
        if frames.dtype != np.uint8 or frames.shape[1:] != self._frame_shape:
            raise ValueError(
                f"frames must be uint8 (N, *{self._frame_shape}), got {frames.dtype} {frames.shape}"
            )
        # OpenVINO reads the frames where they lie, and takes only memory that it could write.
        frames = np.require(frames, requirements=["C", "W"])
        while True:
            try:
                return self._score(frames)
            except OutOfMemory as error:
                self._start_with_less(error)

    def _score(self, frames: Frames) -> Frames:
        with _memory_watched("scoring"):
            painted = np.empty_like(frames)
        waiting: SimpleQueue[int] = SimpleQueue()
        for number in range(len(frames)):
            waiting.put(number)

        def take(request: Any) -> None:
            with _memory_watched("scoring"):
                while (i := _next(waiting)) is not None:
                    request.set_input_tensor(_shared(frames[i : i + 1]))
                    request.set_output_tensor(_shared(painted[i : i + 1]))
                    request.start_async()
                    request.wait()

        # Threads of our own that wait, and no callbacks: OpenVINO's threads, when they have called
        # into Python, may still let go of something while the interpreter ends, which aborts it.
        with ThreadPoolExecutor(len(self._requests)) as pool:
            tasks = [pool.submit(take, request) for request in self._requests]
            try:
                for task in tasks:
                    task.result()
            except BaseException as error:
                while _next(waiting) is not None:  # let the others end with the frame they have
                    pass
                wait(tasks)
                if not isinstance(error, OutOfMemory):  # after that one comes another network
                    # A request that failed tells of it again whenever it is asked.
                    self._requests = [self._compiled.create_infer_request() for _ in tasks]
                raise
        return painted

    def _start(self, streams: int) -> None:
        while True:
            try:
                self._compile(streams)
                break
            except OutOfMemory:
                if streams == 1:
                    raise
                streams = self._halve(streams)
        frame_bytes = int(np.prod(self._frame_shape))
        self.streams = len(self._requests)
        self.batch_size = max(
            self.streams, min(self.streams * _FRAMES_PER_STREAM, _BATCH_BYTES // frame_bytes)
        )

    def _start_with_less(self, error: OutOfMemory) -> None:
        if self.streams == 1:
            raise error
        self._start(self._halve(self.streams))

    def _halve(self, streams: int) -> int:
        self.notes.append(
            f"memory ran out with {streams} frames at a time; went on with {streams // 2}"
        )
        # Both at once would need more memory than there was.
        self._requests = []
        self._compiled = None
        return streams // 2

    def _compile(self, streams: int) -> None:
        with _memory_watched("compiling the network"):
            # One thread for each stream: see the top of this module.
            threads = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
            self._compiled = _core().compile_model(self._model, "CPU", self._config | threads)
            # OpenVINO grants no more streams than there are cores.
            granted = max(1, int(self._compiled.get_property("NUM_STREAMS")))
            self._requests = [self._compiled.create_infer_request() for _ in range(granted)]


def supported_precisions() -> tuple[Precision, ...]:
    """Precisions that this processor computes in, the exact one first.

    bf16 counts only where the processor multiplies it: OpenVINO offers it on every AVX-512
    processor, and imitates it at less than the speed of f32 where the hardware lacks it.
    """
    offered = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("f32", "bf16") if "BF16" in offered and cpu.native_bf16() else ("f32",)


def best_precision() -> Precision:
    """The fastest of `supported_precisions`."""
    return supported_precisions()[-1]


def device_name() -> str:
    """What executes networks here, for people: "AMD EPYC (AVX512-BF16)"."""
    name = str(_core().get_property("CPU", "FULL_DEVICE_NAME"))
    for mark in ("(R)", "(TM)", "(r)", "(tm)"):
        name = name.replace(mark, "")
    name = " ".join(name.split()) or "CPU"
    extension = cpu.extension()
    return f"{name} ({extension})" if extension else name


def _check_request(height: int, width: int, precision: str, streams: int) -> None:
    if height < 1 or width < 1:
        raise RequestError(f"frames must have at least 1 x 1 pixel, got {width} x {height}")
    if streams < 0:
        raise RequestError(f"streams must be 0 (every core) or more, got {streams}")
    if precision not in get_args(Precision):
        raise RequestError(f"precision must be f32 or bf16 on a CPU, got '{precision}'")
    if precision not in supported_precisions():
        raise RequestError(f"{device_name()} does not compute in {precision}; use f32")


def _next(waiting: SimpleQueue[int]) -> int | None:
    try:
        return waiting.get_nowait()
    except Empty:
        return None


def _shared(frame: Frames) -> Any:
    ov, _ = graph.openvino()
    return ov.Tensor(frame, shared_memory=True)


@functools.cache
def _core() -> Any:
    return graph.openvino()[0].Core()


@contextmanager
def _memory_watched(doing: str) -> Iterator[None]:
    """Turn a failure into OutOfMemory where memory is the reason, into RunFailed elsewhere."""
    try:
        yield
    except (OutOfMemory, RequestError):
        raise
    except MemoryError as error:
        raise OutOfMemory(f"no memory left for {doing}; use smaller frames") from error
    except Exception as error:
        text = str(error).lower()
        if any(word in text for word in _OUT_OF_MEMORY):
            raise OutOfMemory(f"no memory left for {doing}; use smaller frames") from error
        raise RunFailed(f"{doing} failed: {graph.reason(error)}") from error
