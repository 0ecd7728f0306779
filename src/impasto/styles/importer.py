"""From a published checkpoint to a style of one's own: an ONNX file and a card."""

import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto.errors import RequestError
from impasto.runtimes.rehearse import rehearse
from impasto.styles.card import MODEL, Style
from impasto.styles.catalogue import check_own_name, save_style

if TYPE_CHECKING:
    from torch import nn

MAX_BYTES = 512 << 20
"""A checkpoint may be this big at most, packed and unpacked."""

_PREPROCESSING = "RGB 0..255 float32 NCHW"
_MAX_WIDTH = 512
# Written by releases of PyTorch in which instance normalisation could track statistics.
_DEPRECATED = re.compile(r"in\d+\.(running_mean|running_var|num_batches_tracked)$")
_FIRST_WEIGHT = "conv1.conv2d.weight"


def import_checkpoint(
    path: Path,
    *,
    name: str,
    user_styles: Path,
    title: str = "",
    licence: str = "",
    source: str = "",
    force: bool = False,
) -> Style:
    """Make a style of a checkpoint, and put it whole into the folder `user_styles`.

    Taken are: state dicts of the standard transform network at any width (.pth, .pt, .model), the
    arrays of the tiny network (.npz), and networks that are ONNX files already (.onnx), with RGB
    0..255 in and out.

    Args:
        path: the checkpoint.
        name: what the style is called from now on.
        user_styles: the folder of the user's own styles; made if it is missing.
        title: for people, such as "Candy".
        licence: under which the weights may be used.
        source: where they come from.
        force: replace a style of that name.

    Raises:
        RequestError: the name is taken or not a name; the file is missing, too big, malformed, or
            of another network; or what converting it needs is not installed.
    """
    check_own_name(name)
    if (user_styles / name).exists() and not force:
        raise RequestError(f"style '{name}' exists; choose another name, or replace it by --force")
    _check_size(path)
    match path.suffix.lower():
        case ".onnx":
            kind, parameters, model = "onnx", 0, _read(path)
        case ".npz":
            kind, parameters, model = "tiny", *_exported(_tiny(path))
        case _:
            kind, parameters, model = "transformer", *_exported(_transformer(path))
    rehearse(model)
    style = Style(
        name=name,
        title=title,
        source=source,
        licence=licence,
        network=kind,
        parameters=parameters,
        preprocessing=_PREPROCESSING,
        folder=user_styles / name,
    )
    return save_style(style, model=model)


def _check_size(path: Path) -> None:
    try:
        if not path.is_file():
            raise RequestError(f"no checkpoint at {path}")
        size = path.stat().st_size
        # Both .npz and .pth are ZIP archives, and so may unpack to more than they are.
        if path.suffix.lower() != ".onnx" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(member.file_size for member in archive.infolist()))
    # zipfile has the second for archives of a version that it does not know.
    except (OSError, NotImplementedError, ValueError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path} can't be read: {_line(error)}") from error
    if size > MAX_BYTES:
        raise RequestError(f"{path} holds {size} bytes; at most {MAX_BYTES} are accepted")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}") from error


def _transformer(path: Path) -> "nn.Module":
    torch = _torch()
    from impasto.nets.transformer import TransformerNet

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own advice is to load without that safety: it is not passed on.
        raise RequestError(
            f"{path} is not a checkpoint that holds weights only ({type(error).__name__})"
        ) from error
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in loaded.items()
    ):
        raise RequestError(f"{path} holds no state dict: a mapping from names to tensors")
    weights = {key: value for key, value in loaded.items() if not _DEPRECATED.search(key)}
    first = weights.get(_FIRST_WEIGHT)
    if first is None or first.ndim != 4 or not 1 <= first.shape[0] <= _MAX_WIDTH:
        shape = "missing" if first is None else f"of shape {tuple(first.shape)}"
        raise RequestError(
            f"{path} is not a transform network that Impasto knows: {_FIRST_WEIGHT} is {shape}"
        )
    net = TransformerNet(width=first.shape[0])
    _check_finite(path, weights)
    _check_shapes(path, wanted=net.state_dict(), found=weights)
    net.load_state_dict(weights)
    return net


def _tiny(path: Path) -> "nn.Module":
    torch = _torch()
    import numpy as np

    from impasto.nets.tiny import TinyNet, load_variables

    try:
        # Given a path and a broken archive, numpy leaves the file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            variables = {key: archive[key] for key in archive.files}
    except Exception as error:  # zlib's, zipfile's and numpy's own have no common name
        raise RequestError(f"{path} is not an archive of arrays: {_line(error)}") from error
    net = TinyNet()
    try:
        tensors = {key: torch.from_numpy(value) for key, value in variables.items()}
        _check_finite(path, tensors)
        load_variables(net, variables)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise RequestError(
            f"{path} is not a tiny transform network that Impasto knows: {_line(error)}"
        ) from error
    return net


def _check_finite(path: Path, weights: dict[str, Any]) -> None:
    for key, value in weights.items():
        if not value.isfinite().all():
            raise RequestError(f"{path} is damaged: {key} holds a number that is not finite")


def _check_shapes(path: Path, *, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    for key in sorted(wanted.keys() | found.keys()):
        if key not in wanted or key not in found:
            what = "unknown" if key in found else "missing"
            raise RequestError(f"{path} is not a transform network: {key} is {what}")
        if wanted[key].shape != found[key].shape:
            raise RequestError(
                f"{path} is not a transform network: {key} has shape {tuple(found[key].shape)}, "
                f"expected {tuple(wanted[key].shape)}"
            )


def _exported(net: "nn.Module") -> tuple[int, bytes]:
    """Return the number of parameters, and the ONNX file's bytes."""
    try:
        import onnx  # noqa: F401 - the exporter needs it, and says so less clearly
    except ImportError as error:
        raise _needs_train() from error
    from impasto.nets.export import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        export_onnx(net, path)
        return sum(each.numel() for each in net.parameters()), path.read_bytes()


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise _needs_train() from error
    return torch


def _needs_train() -> RequestError:
    return RequestError("importing a checkpoint needs: pip install 'impasto[train]'")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
