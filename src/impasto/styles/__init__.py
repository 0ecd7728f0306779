"""Styles: networks with a name and a card."""

from impasto.styles.catalogue import DEFAULT_QUALITY, Style, check_name, find_style, list_styles
from impasto.styles.importer import import_checkpoint

__all__ = [
    "DEFAULT_QUALITY",
    "Style",
    "check_name",
    "find_style",
    "import_checkpoint",
    "list_styles",
]
