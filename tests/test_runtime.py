"""One network on the CPU: exact, the same on any number of cores, and safe with any file."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import networks
from impasto.errors import OutOfMemory, RequestError, RunFailed
from impasto.records import Frames
from impasto.runtimes import cpu, openvino
from impasto.runtimes.onnx_file import check
from impasto.runtimes.openvino import (
    Network,
    Scaling,
    best_precision,
    device_name,
    supported_precisions,
)
from impasto.runtimes.rehearse import rehearse

# (width, height): a usual size, an odd one, and some that no network takes as they are.
SIZES = [(854, 480), (853, 479), (16, 16), (17, 2), (5, 3), (1, 1)]
EVERY_SIZE = pytest.mark.parametrize(("width", "height"), SIZES)
EVERY_PRECISION = pytest.mark.parametrize("precision", supported_precisions())


def noise(count: int, height: int, width: int) -> Frames:
    """Frames in which every pixel counts."""
    return np.random.default_rng(7).integers(0, 256, (count, height, width, 3), np.uint8)


@EVERY_SIZE
@EVERY_PRECISION
def test_the_identity_is_exact(width: int, height: int, precision: str) -> None:
    frames = noise(2, height, width)
    network = Network(networks.identity(), height=height, width=width, precision=precision)
    assert np.array_equal(network(frames), frames)


@EVERY_SIZE
def test_every_size_comes_back_as_it_was(width: int, height: int) -> None:
    frames = noise(2, height, width)
    painted = Network(networks.painterly(), height=height, width=width)(frames)
    assert painted.shape == frames.shape
    assert painted.dtype == np.uint8
    assert painted.flags.c_contiguous


@EVERY_PRECISION
def test_streams_and_batches_do_not_change_a_bit(precision: str) -> None:
    frames = noise(7, 98, 131)

    def painted(streams: int, batch: int) -> Frames:
        network = Network(
            networks.painterly(), height=98, width=131, precision=precision, streams=streams
        )
        parts = [network(frames[i : i + batch]) for i in range(0, len(frames), batch)]
        return np.concatenate(parts)

    expected = painted(streams=1, batch=1)
    assert expected.std() > 10  # a picture, not a flat one on which anything agrees
    for streams, batch in [(1, 7), (2, 1), (2, 3), (2, 7), (3, 2), (3, 7), (0, 7)]:
        assert np.array_equal(painted(streams, batch), expected), (streams, batch)


def test_a_second_network_gives_the_same_bytes() -> None:
    frames = noise(3, 64, 96)
    runs = []
    for _ in range(2):
        network = Network(networks.painterly(), height=64, width=96, precision=best_precision())
        runs += [network(frames), network(frames)]
    assert all(np.array_equal(run, runs[0]) for run in runs)


def test_the_position_in_the_batch_does_not_matter() -> None:
    frames = noise(4, 32, 32)
    network = Network(networks.painterly(), height=32, width=32)
    assert np.array_equal(network(frames)[::-1], network(np.ascontiguousarray(frames[::-1])))


def test_read_only_and_strided_frames_are_taken() -> None:
    frames = noise(4, 32, 32)
    network = Network(networks.invert(), height=32, width=32)
    frames.flags.writeable = False
    assert np.array_equal(network(frames[::2]), 255 - frames[::2])


def test_no_frames_are_no_frames() -> None:
    assert Network(networks.identity(), height=8, width=8)(noise(0, 8, 8)).shape == (0, 8, 8, 3)


@pytest.mark.parametrize(("value", "expected"), [(-3, 0), (999, 255), (99.4, 99), (99.6, 100)])
def test_values_are_limited_and_rounded_not_cut(value: float, expected: int) -> None:
    painted = Network(networks.constant(value), height=4, width=4)(noise(1, 4, 4))
    assert (painted == expected).all()


@pytest.mark.parametrize("scaling", [Scaling(high=1.0), Scaling(low=-1.0, high=1.0)])
def test_a_network_for_other_ranges_sees_and_gives_its_own(scaling: Scaling) -> None:
    frames = noise(1, 20, 20)
    kept = Network(networks.identity(), height=20, width=20, scaling=scaling)(frames)
    assert np.array_equal(kept, frames)
    middle = (scaling.low + scaling.high) / 2
    grey = Network(networks.constant(middle), height=20, width=20, scaling=scaling)(frames)
    assert (grey == 128).all()


def test_normalisation_applies_to_the_input() -> None:
    scaling = Scaling(high=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    frames = np.full((1, 16, 16, 3), 204, np.uint8)  # 0.8 → 0.6 → 153
    assert (Network(networks.identity(), height=16, width=16, scaling=scaling)(frames) == 153).all()
    with pytest.raises(RequestError, match="std > 0"):
        Scaling(std=(1.0, 0.0, 1.0))


def test_a_mirror_continues_the_frame_that_the_network_sees() -> None:
    frames = noise(1, 30, 30)
    wider = np.pad(frames, ((0, 0), (0, 2), (0, 2), (0, 0)), mode="reflect")
    model = networks.painterly()
    painted = Network(model, height=30, width=30)(frames)
    assert np.array_equal(painted, Network(model, height=32, width=32)(wider)[:, :30, :30])


def test_batches_keep_every_stream_busy_and_fit_a_bound() -> None:
    small = Network(networks.identity(), height=8, width=8, streams=2)
    assert small.batch_size >= 2 * small.streams
    large = Network(networks.identity(), height=4000, width=4000, streams=2)
    assert large.batch_size == large.streams


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"", "no graph"),
        (b"hello, I am no network", "not a sound ONNX file"),
        (b"\0" * 100, "not a sound ONNX file"),
        (b"\x3a\xff\xff\xff\xff\x0f", "ends within a field"),
        (b"\xff" * 20, "has no end"),
        (b"\xba\x80\x80\x80\x10\x00", "field number"),  # a tag of more than 32 bits
        (b'<?xml version="1.0"?><net name="a" version="11"><layers/></net>', "not a sound ONNX"),
        (networks.painterly()[:-200], "ends within a field"),
        (networks.doubling(), r"same size|input's size .* found f32 \[1,3,64,64\]"),
        (networks.two_inputs(), "found 2 inputs and 1 outputs"),
        (networks.of_type(2, ["N", 3, "H", "W"]), r"must be float .*found u8"),
        (networks.of_type(1, ["N", 1, "H", "W"]), r"3 channels, .*found f32 \[\?,1"),
        (networks.of_type(1, ["N", "H", "W", 3]), r"3 channels, .*found f32 \[\?,\?,\?,3\]"),
        (networks.of_type(1, ["N", 3, "H"]), r"found f32 \[\?,3,\?\]"),
        (networks.with_external_weights("weights.bin"), "in other files"),
        (networks.with_hidden_external_weights("weights.bin"), "in other files"),
        (networks.looping(), "operator Loop"),
        (networks.nested(15), "nested"),
    ],
)
def test_a_model_that_is_not_one_is_refused_in_one_line(model: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        Network(model, height=32, width=32)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_float_type_is_taken() -> None:
    frames = noise(1, 16, 16)
    half = networks.of_type(10, ["N", 3, "H", "W"])
    assert np.array_equal(Network(half, height=16, width=16)(frames), frames)


def test_external_weights_are_refused_without_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.float32(255).tobytes())
    monkeypatch.chdir(tmp_path)
    for location in (str(secret), "secret.bin"):
        with pytest.raises(RequestError, match="in other files"):
            Network(networks.with_external_weights(location), height=32, width=32)


def test_too_big_a_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impasto.runtimes.onnx_file.MAX_BYTES", 100)
    with pytest.raises(RequestError, match="at most 100"):
        check(networks.painterly())


def test_a_damaged_byte_never_raises_anything_else() -> None:
    model = networks.painterly()
    random = np.random.default_rng(3)
    for at in random.integers(0, len(model), 2000):
        damaged = bytearray(model)
        damaged[at] ^= int(random.integers(1, 256))
        with contextlib.suppress(RequestError):
            check(bytes(damaged))


def test_a_rehearsal_takes_a_sound_model() -> None:
    rehearse(networks.painterly())


def test_a_model_that_has_passed_is_not_rehearsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rehearse(networks.painterly())
    monkeypatch.setattr(subprocess, "run", None)
    rehearse(networks.painterly())


def test_a_model_that_ends_its_process_ends_only_the_rehearsal() -> None:
    with pytest.raises(RequestError) as caught:
        rehearse(networks.pad_without_pads())
    assert "\n" not in str(caught.value)


def test_a_rehearsal_says_why_it_refuses() -> None:
    with pytest.raises(RequestError, match=r"found f32 \[1,3,128,128\]"):
        rehearse(networks.doubling())


@pytest.mark.parametrize(
    ("height", "width", "precision", "streams", "message"),
    [
        (0, 4, "f32", 0, "1 x 1 pixel"),
        (4, -1, "f32", 0, "1 x 1 pixel"),
        (4, 4, "f8", 0, "precision must be"),
        (4, 4, "f16", 0, "does not compute in f16"),
        (4, 4, "f32", -1, "streams must be"),
    ],
)
def test_a_wrong_request_names_the_value(
    height: int, width: int, precision: str, streams: int, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        Network(
            networks.identity(), height=height, width=width, precision=precision, streams=streams
        )


def test_frames_of_another_shape_or_type_are_an_error() -> None:
    network = Network(networks.identity(), height=8, width=8)
    with pytest.raises(ValueError, match=r"got uint8 \(1, 8, 9, 3\)"):
        network(noise(1, 8, 9))
    with pytest.raises(ValueError, match="got float32"):
        network(noise(1, 8, 8).astype(np.float32))


@pytest.mark.skipif(cpu.usable_cores() < 2, reason="needs two cores for two streams")
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Failed to allocate 9 bytes")])
def test_when_memory_runs_out_half_the_streams_go_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = noise(3, 32, 32)
    network = Network(networks.painterly(), height=32, width=32, streams=2)
    expected = network(frames)
    shared = openvino._shared

    def scarce(frame: Frames) -> object:
        if network.streams > 1:
            raise error
        return shared(frame)

    monkeypatch.setattr(openvino, "_shared", scarce)
    assert np.array_equal(network(frames), expected)
    assert network.streams == 1
    assert network.notes == ["memory ran out with 2 frames at a time; went on with 1"]


def test_out_of_memory_escapes_only_from_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(networks.identity(), height=8, width=8)

    def no_room(frame: Frames) -> object:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(openvino, "_shared", no_room)
        with pytest.raises(OutOfMemory, match="no memory left for scoring"):
            network(noise(2, 8, 8))
    assert network.streams == 1
    frames = noise(2, 8, 8)
    assert np.array_equal(network(frames), frames)  # and with room again, it works again


def test_a_failed_frame_does_not_spoil_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(networks.identity(), height=8, width=8)
    frames = noise(5, 8, 8)

    def broken(frame: Frames) -> object:
        raise RuntimeError("Exception from here:\nCheck 'x' failed\nthe kernel gave up\n\n")

    with monkeypatch.context() as patch:
        patch.setattr(openvino, "_shared", broken)
        with pytest.raises(RunFailed, match=r"^scoring failed: the kernel gave up$"):
            network(frames)
    assert np.array_equal(network(frames), frames)


def test_precisions_follow_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert supported_precisions()[0] == "f32"
    monkeypatch.setattr(cpu, "flags", lambda: frozenset({"avx512f", "avx2"}))
    assert supported_precisions() == ("f32",)  # where bf16 would only be imitated
    assert best_precision() == "f32"
    assert device_name().endswith("(AVX512)")
    with pytest.raises(RequestError, match="does not compute in bf16; use f32"):
        Network(networks.identity(), height=8, width=8, precision="bf16")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
    ],
)
def test_a_quota_limits_the_cores(
    files: dict[str, str], cores: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cpu, "_TOPOLOGY", tmp_path)  # none: every CPU is a core
    assert cpu.usable_cores() == (8 if cores is None else cores)


def test_hardware_threads_of_one_core_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 2},{number % 2 + 2}\n")
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    monkeypatch.setattr(cpu, "_TOPOLOGY", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert cpu.usable_cores() == 2


def test_scoring_opens_no_connection_and_leaves_nothing_at_home(tmp_path: Path) -> None:
    program = """
import sys
seen = []
watched = ("socket.connect", "socket.getaddrinfo", "os.fork", "subprocess.Popen", "urllib.Request")
sys.addaudithook(lambda event, args: seen.append(event) if event in watched else None)
import networks, numpy
from impasto.runtimes.openvino import Network
Network(networks.identity(), height=8, width=8)(numpy.zeros((1, 8, 8, 3), numpy.uint8))
telemetry = [name for name in sys.modules if "telemetry" in name]
print(seen, telemetry, "openvino.tools.ovc" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.stdout.strip() == "[] [] False"
    assert not list(tmp_path.iterdir())
