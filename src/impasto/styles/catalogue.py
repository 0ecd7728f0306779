"""The styles there are: those that ship inside the package, and the user's own.

A style is a folder named like it, with a card (card.json) and either the vectors with which the
shipped networks paint in it (vectors.npz), or a network of its own (style.onnx).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from impasto.errors import RequestError, Way
from impasto.styles.card import (
    CARD,
    MODEL,
    VECTORS,
    Style,
    card_of,
    check_name,
    names_in,
    publish,
    read_card,
    read_file,
    sha256_of,
)
from impasto.styles.vectors import (
    QUALITIES,
    Vector,
    bind_style,
    check_vector,
    mix,
    network_bytes,
    normalise,
    pack_vectors,
    unpack_vectors,
)
from impasto.wording import did_you_mean

DEFAULT_QUALITY = "balanced"
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""How the file of a painting ends, of which a style can be learned."""

Blend = Mapping[str, float]
"""Names of styles → weights from 0 up; only their proportions count."""

_SHIPPED = Path(__file__).parent


def list_styles(user_styles: Path | None = None) -> tuple[Style, ...]:
    """Return every style: the shipped ones, then the user's own, each by name.

    Raises:
        RequestError: a card is damaged.
    """
    return tuple(
        read_card(root / name, shipped=root == _SHIPPED)
        for root in _roots(user_styles)
        for name in names_in(root)
    )


def read_style(name: str, *, user_styles: Path | None = None) -> Style:
    """Return what the card of one style says; other cards may be damaged.

    Raises:
        RequestError: no such style, or a damaged card.
    """
    roots = _roots(user_styles)
    found = [root / name for root in roots if name in names_in(root)]
    if not found:
        raise _unknown(name, [each for root in roots for each in names_in(root)])
    return read_card(found[0], shipped=found[0].parent == _SHIPPED)


def find_style(
    style: str | Blend, quality: str = DEFAULT_QUALITY, *, user_styles: Path | None = None
) -> tuple[Style, bytes]:
    """Return a style and an ONNX file, frames to frames, that paints in it; checked by the card.

    Args:
        style: a name, or a blend of several styles that share the networks. Weights are divided by
            their sum; a style with weight 0 has no part in it, so a blend of one is that style.
        quality: "fast", "balanced" or "best".
        user_styles: the folder of the user's own styles.

    Raises:
        RequestError: no such style or quality, a damaged one, or one that can't be blended.
    """
    if not isinstance(style, str):
        cards = {name: read_style(name, user_styles=user_styles) for name in style}
        weights = normalise(style)
        if len(weights) > 1:
            return _blend([cards[name] for name in weights], weights, quality)
        (style,) = weights
    found = read_style(style, user_styles=user_styles)
    _check_quality(found, quality)
    if not found.networks:
        return found, _read_model(found, quality)
    vector, network = _read_vector(found, quality)
    return found, bind_style(network, vector)


def style_vectors(name: str, *, user_styles: Path | None = None) -> dict[str, Vector]:
    """Return the vectors of a style by quality: float32 (K,), where K belongs to the network.

    Raises:
        RequestError: no such style, a damaged one, one with a network of its own, or vectors that
            were learned for other networks than those that ship.
    """
    style = read_style(name, user_styles=user_styles)
    _check_vectors(style)
    return {quality: _read_vector(style, quality)[0] for quality in style.networks}


def name_of(style: str | Blend) -> str:
    """What a style or a blend is called in file names and reports: "a", or "a70_b30" in percent.

    Raises:
        RequestError: weights that make no blend.
    """
    if isinstance(style, str):
        return style
    weights = normalise(style)
    if len(weights) == 1:
        return next(iter(weights))
    return "_".join(f"{name}{100 * weight:.0f}" for name, weight in weights.items())


def save_style(
    style: Style,
    *,
    model: bytes | None = None,
    vectors: Mapping[str, Vector] | None = None,
    networks: Mapping[str, bytes] | None = None,
) -> Style:
    """Put a style into `style.folder`: the card and its one file, both or neither.

    What the style was before is replaced; other files in the folder stay.

    Args:
        style: what the card says, and the folder, which is named like the style; digests and
            qualities are filled in here.
        model: a network of its own, an ONNX file.
        vectors: for the shipped networks, float32 (K,) by quality; one of the two is given.
        networks: the ONNX files that the vectors belong to, by quality; those that ship when None.

    Returns:
        The style as it is found from now on.

    Raises:
        RequestError: not a name, vectors that don't fit the networks, or the folder can't be
            written.
    """
    if style.folder.name != check_name(style.name):
        raise RequestError(f"style '{style.name}' can't stand in {style.folder}")
    if vectors:
        digests = {}
        for quality in sorted(vectors, key=_tier):
            network = network_bytes(quality) if networks is None else networks[quality]
            check_vector(vectors[quality], network)
            digests[quality] = sha256_of(network)
        file, content = VECTORS, pack_vectors({each: vectors[each] for each in digests})
    elif model is not None:
        digests, file, content = {}, MODEL, model
    else:
        raise RequestError(f"style '{style.name}' needs a network or vectors")
    style = dataclasses.replace(
        style,
        qualities=dict.fromkeys(digests or [DEFAULT_QUALITY], file),
        networks=digests,
        sha256=sha256_of(content),
        sha256_by_quality={},
    )
    publish(style.folder, {file: content, CARD: card_of(style)})
    return read_card(style.folder, shipped=style.folder.parent == _SHIPPED)


def check_own_name(name: str) -> str:
    """Return `name` if a style of the user's own may be called so.

    Raises:
        RequestError: it is no name, or that of a style that ships.
    """
    if is_shipped(check_name(name)):
        raise RequestError(f"style '{name}' ships with Impasto; choose another name")
    return name


def is_shipped(name: str) -> bool:
    """Whether a style of that name is part of the package."""
    return name in names_in(_SHIPPED)


def _roots(user_styles: Path | None) -> list[Path]:
    # A user's style can't take the place of a shipped one: runs name styles, and are repeatable.
    return [_SHIPPED] if user_styles is None else [_SHIPPED, user_styles]


def _check_quality(style: Style, quality: str) -> None:
    if quality not in style.qualities:
        known = ", ".join(style.qualities)
        raise RequestError(f"style '{style.name}' has no quality '{quality}'; it has: {known}")


def _read_model(style: Style, quality: str) -> bytes:
    default = DEFAULT_QUALITY if DEFAULT_QUALITY in style.qualities else next(iter(style.qualities))
    digests = {default: style.sha256} | style.sha256_by_quality
    return read_file(style, style.qualities[quality], digests.get(quality, ""))


def _check_vectors(style: Style) -> None:
    if not style.networks:
        raise RequestError(
            f"style '{style.name}' has a network of its own, no vector: it can't be blended"
        )


def _read_vector(style: Style, quality: str) -> tuple[Vector, bytes]:
    """The vector of a style, and the shipped network that it belongs to."""
    network = network_bytes(quality)
    if sha256_of(network) != style.networks[quality]:
        raise RequestError(
            f"style '{style.name}' was learned for the '{quality}' network of another release of "
            "Impasto; learn it again"
        )
    file = style.qualities[quality]
    try:
        vectors = unpack_vectors(read_file(style, file, style.sha256))
        if quality not in vectors:
            raise RequestError(f"it holds no vector for '{quality}'")
        check_vector(vectors[quality], network)
    except RequestError as error:
        raise RequestError(f"style '{style.name}', {file}: {error}") from error
    return vectors[quality], network


def _blend(styles: list[Style], weights: dict[str, float], quality: str) -> tuple[Style, bytes]:
    vectors = {}
    for style in styles:
        _check_vectors(style)
        _check_quality(style, quality)
        vectors[style.name], network = _read_vector(style, quality)
    blend = Style(
        name=name_of(weights),
        title=", ".join(f"{weights[each.name]:.0%} {each.title or each.name}" for each in styles),
        network=styles[0].network,
        preprocessing=styles[0].preprocessing,
        multiple_of=styles[0].multiple_of,
        qualities={quality: VECTORS},
        networks={quality: styles[0].networks[quality]},
        shipped=all(style.shipped for style in styles),
    )
    return blend, bind_style(network, mix(vectors, weights))


def _tier(quality: str) -> int:
    return QUALITIES.index(quality) if quality in QUALITIES else len(QUALITIES)


def _unknown(name: str, names: list[str]) -> RequestError:
    message = f"no style {name[:80]!r}"
    if Path(name).suffix.lower() in PICTURES:
        return RequestError(
            f"{message}; a painting is learned first: "
            f"impasto styles learn {name[:80]} --content photos/"
        )
    hint = did_you_mean(name, names)
    return RequestError(f"{message}; {hint}") if hint else RequestError(message, Way("styles"))
