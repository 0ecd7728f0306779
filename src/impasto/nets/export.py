"""A network as one ONNX file, the only form in which Impasto stores and runs models."""

import warnings
from pathlib import Path

import torch
from torch import nn

INPUT = "frames"
"""float32 (N, 3, H, W), RGB 0..255."""
OUTPUT = "painted"
"""float32 (N, 3, H, W), RGB, not clamped."""
_OPSET = 17


def export_onnx(net: nn.Module, path: Path) -> None:
    """Write a network that maps frames to frames; N, H and W stay free.

    Weights are stored inside the file, which appears whole or not at all. Instance normalisation
    becomes InstanceNormalization, for which runtimes have a kernel of their own.
    """
    axes = {0: "n", 2: "h", 3: "w"}
    partial = path.with_name(path.name + ".partial")
    was_training = net.training
    device = next(net.parameters()).device
    with warnings.catch_warnings():
        # The tracing exporter is marked as old and warns. The new one is as fast at run time, but
        # writes the paths of source files and stack traces into the model.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (torch.zeros(1, 3, 64, 64, device=device),),
            str(partial),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: axes, OUTPUT: axes},
            opset_version=_OPSET,
            dynamo=False,
        )
    net.train(was_training)
    partial.replace(path)
