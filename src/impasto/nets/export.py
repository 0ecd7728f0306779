"""A network as one ONNX file, the only form in which Impasto stores and runs models."""

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from impasto.errors import RequestError, Unavailable
from impasto.nets.painter import Painter, PainterConfig

INPUT = "frames"
"""float32 (N, 3, H, W), RGB 0..255."""
STYLE = "style"
"""float32 (1, K): the style vector of a network that paints in many styles."""
OUTPUT = "painted"
"""float32 (N, 3, H, W), RGB, not clamped."""
_OPSET = 17


def export_onnx(net: nn.Module, path: Path, *, style: Tensor | None = None) -> None:
    """Write a network that maps frames, and a style vector if given one, to frames.

    N, H and W stay free. Of `style`, (1, K), only the length counts. Weights are stored inside the
    file, which appears whole or not at all. Instance normalisation becomes InstanceNormalization,
    for which runtimes have a kernel of their own.
    """
    axes = {0: "n", 2: "h", 3: "w"}
    partial = path.with_name(path.name + ".partial")
    was_training = net.training
    device = next(net.parameters()).device
    frames = torch.zeros(1, 3, 64, 64, device=device)
    with warnings.catch_warnings():
        # The tracing exporter is marked as old and warns. The new one is as fast at run time, but
        # writes the paths of source files and stack traces into the model.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (frames,) if style is None else (frames, style.to(device)),
            str(partial),
            input_names=[INPUT] if style is None else [INPUT, STYLE],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: axes, OUTPUT: axes},
            opset_version=_OPSET,
            dynamo=False,
        )
    net.train(was_training)
    partial.replace(path)


def read_painter(model: bytes) -> Painter:
    """Read a painter back from the ONNX file that `export_onnx` wrote of it.

    The exporter keeps the names of weights; sizes follow from their shapes.

    Raises:
        RequestError: it is not such a file, or the `onnx` package is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise Unavailable(
            "reading a network's weights needs: pip install 'impasto[train]' (onnx is missing)"
        ) from error
    try:
        graph = onnx.load_from_string(model).graph
        weights = {
            each.name: torch.from_numpy(numpy_helper.to_array(each).copy())
            for each in graph.initializer
        }
        net = Painter(_sizes(weights, graph))
        net.load_state_dict({name: weights[name] for name in net.state_dict()})
    except Exception as error:  # protobuf, onnx and torch have no common error
        raise RequestError(
            f"this ONNX file is not a painter of ours ({type(error).__name__}); "
            "give one of styles/networks"
        ) from error
    return net


def _sizes(weights: dict[str, Tensor], graph: Any) -> PainterConfig:
    width, head = weights["stem.weight"].shape[0], weights["colour.weight"].shape[1]
    first = re.compile(r"blocks\.(\d+)\.conv1\.weight")
    dilations: dict[int, int] = {}
    for node in graph.node:
        if node.op_type == "Conv" and (found := first.fullmatch(node.input[1])):
            steps = [each.ints[0] for each in node.attribute if each.name == "dilations"]
            dilations[int(found[1])] = int(steps[0]) if steps else 1
    return PainterConfig(
        channels=int(width),
        head_channels=int(head),
        dilations=tuple(dilations[place] for place in range(len(dilations))),
        head_blocks=sum(bool(re.fullmatch(f"head_{first.pattern}", name)) for name in weights),
    )
