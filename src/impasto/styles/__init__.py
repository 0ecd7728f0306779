"""Styles: vectors for the shipped networks, or networks of their own, with a name and a card."""

from impasto.styles.card import Style, check_name
from impasto.styles.catalogue import (
    DEFAULT_QUALITY,
    PICTURES,
    Blend,
    check_own_name,
    find_style,
    list_styles,
    name_of,
    read_style,
    save_style,
    style_vectors,
)
from impasto.styles.importer import import_checkpoint
from impasto.styles.vectors import QUALITIES, Vector, network_bytes

__all__ = [
    "DEFAULT_QUALITY",
    "PICTURES",
    "QUALITIES",
    "Blend",
    "Style",
    "Vector",
    "check_name",
    "check_own_name",
    "find_style",
    "import_checkpoint",
    "list_styles",
    "name_of",
    "network_bytes",
    "read_style",
    "save_style",
    "style_vectors",
]
