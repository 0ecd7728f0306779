"""Turn a video into a painting, with every frame and timestamp proven to be there."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impasto.api import Options, open_scorer, plan, probe, score, stylize, verify

__all__ = ["Options", "open_scorer", "plan", "probe", "score", "stylize", "verify"]
__version__ = version("impasto")


def __getattr__(name: str) -> Any:
    # `import impasto` stays instant: FFmpeg and OpenVINO load with the first use.
    if name in __all__:
        return getattr(import_module("impasto.api"), name)
    raise AttributeError(f"module 'impasto' has no attribute {name!r}")
