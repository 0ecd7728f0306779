"""Many paintings at once: a recipe -> a network that they share, and a vector for each.

[[painting]]
name = "starry_night"            # the style's
file = "starry_night.jpg"        # in the folder of paintings
title = "The Starry Night"       # this and artist, year, source, licence: for the card
px = 720                         # this and the other knobs of PaintingConfig

[training]                       # TrainConfig, for all tiers
identity_weight = 4.0

[tier.fast]                      # and for one of them; its network is nets.painter.SIZES'
iterations = 5000

[tier.fast.painting.starry_night]    # knobs of one painting in one tier
soften = 2.5
"""

import dataclasses
import datetime as dt
import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from impasto.errors import RequestError
from impasto.nets.painter import MULTIPLE_OF, SIZES
from impasto.styles import QUALITIES, Style, Vector, check_name, list_styles, save_style
from impasto.styles.card import VECTORS
from impasto.styles.vectors import unpack_vectors
from impasto.train import start as starts
from impasto.train.config import PaintingConfig, Rhythm, TrainConfig
from impasto.train.data import open_photographs
from impasto.train.journal import write_whole
from impasto.train.loop import CHECKPOINT
from impasto.train.studio import Listener, Studio, open_studio, trained
from impasto.train.style import PREPROCESSING, About, network_of

RECIPE = Path(__file__).with_name("recipe.toml")
"""How the shipped networks were trained."""
NETWORKS = "networks"

_NOT_GIVEN = {"paintings", "network", "frozen"}
"""Fields of TrainConfig that follow from the rest of the recipe."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One painting of a recipe."""

    name: str
    file: str
    about: About
    look: PaintingConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is trained together, and how."""

    paintings: tuple[Entry, ...]
    tiers: dict[str, TrainConfig]


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises RequestError for a file that can't be read, an unknown key, or a value of a wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"recipe {path} can't be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise RequestError(f"recipe {path} is not TOML: {error}") from error
    try:
        _only_known(table, {"painting", "training", "tier"})
        entries = tuple(_entry(each) for each in table.get("painting", []))
        common = table.get("training", {})
        tiers = {
            tier: _settings(tier, {**common, **more}, entries)
            for tier, more in table.get("tier", {}).items()
        }
    except (msgspec.ValidationError, ValueError, TypeError, AttributeError) as error:
        raise RequestError(f"recipe {path}: {error}") from error
    if not entries or not tiers:
        raise RequestError(f"recipe {path} needs at least one [[painting]] and one [tier.NAME]")
    return Recipe(entries, tiers)


def _entry(table: dict[str, Any]) -> Entry:
    about = {field.name for field in dataclasses.fields(About)}
    look = {field.name for field in dataclasses.fields(PaintingConfig)}
    _only_known(table, {"name", "file"} | about | look)
    return Entry(
        name=check_name(str(table.get("name", ""))),
        file=str(table.get("file", "")),
        about=msgspec.convert({key: table[key] for key in about & table.keys()}, About),
        look=msgspec.convert({key: table[key] for key in look & table.keys()}, PaintingConfig),
    )


def _settings(tier: str, table: dict[str, Any], entries: Sequence[Entry]) -> TrainConfig:
    if tier not in QUALITIES:
        raise ValueError(f"tier {tier!r} is none of {', '.join(QUALITIES)}")
    knobs = table.pop("painting", {})
    _only_known(knobs, {entry.name for entry in entries})
    _only_known(table, {field.name for field in dataclasses.fields(TrainConfig)} - _NOT_GIVEN)
    config = msgspec.convert(table, TrainConfig)
    looks = tuple(_adjusted(entry.look, knobs.get(entry.name, {})) for entry in entries)
    return dataclasses.replace(config, paintings=looks, network=SIZES[tier])


def _adjusted(look: PaintingConfig, knobs: dict[str, Any]) -> PaintingConfig:
    _only_known(knobs, {field.name for field in dataclasses.fields(PaintingConfig)})
    return msgspec.convert({**dataclasses.asdict(look), **knobs}, PaintingConfig)


def _only_known(table: dict[str, Any], known: set[str]) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; the keys are {', '.join(sorted(known))}")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a joint training reads and writes."""

    paintings: Path
    content: Path
    target: Path


def train_jointly(
    recipe: Recipe,
    tier: str,
    folders: Folders,
    *,
    perceptual: Sequence[Path],
    today: dt.date,
    start: Path | None = None,
    small: Path | None = None,
    small_tier: str = "fast",
    rhythm: Rhythm | None = None,
    listener: Listener | None = None,
) -> list[Style]:
    """Train one tier of a recipe.

    The target receives training-<tier>/ (checkpoint.pt, losses.jsonl, curves.png, samples/), then
    networks/<tier>.onnx and, for each painting, <name>/ with a card and vectors.npz, as the
    package holds them. Vectors that stand there for other tiers are kept. Called again after an
    interruption it goes on.

    Args:
        recipe: what to train.
        tier: "fast", "balanced" or "best".
        folders: of paintings, photographs, and the target.
        perceptual: VGG-19s; see `load_perceptual` and `TrainConfig.style_layers`.
        today: for the cards.
        start: a checkpoint of the same tier whose network and vectors to begin with.
        small: a checkpoint of a smaller tier to grow from; see `start.grow`.
        small_tier: the tier of `small`.
        rhythm: how often something is written.
        listener: hears how it goes.

    Raises:
        RequestError: no such tier, or something that can't be used.
        Interrupted: stopped by a signal, with a checkpoint.
    """
    if tier not in recipe.tiers:
        raise RequestError(f"the recipe has no tier {tier!r}; it has: {', '.join(recipe.tiers)}")
    listener = listener or Listener()
    config = recipe.tiers[tier]
    files = [folders.paintings / entry.file for entry in recipe.paintings]
    studio = open_studio(
        config,
        paintings=files,
        perceptual=perceptual,
        photographs=open_photographs(folders.content, listener.report),
        begun_from=[each for each in (start, small) if each is not None],
    )
    workshop = folders.target / f"training-{tier}"
    if not (workshop / CHECKPOINT).exists():
        if start is not None:
            starts.begin(studio.trainer, starts.checkpoint(start, config.network))
        elif small is not None:
            grown = starts.grow(starts.checkpoint(small, SIZES[small_tier]), config.network)
            starts.begin(studio.trainer, grown)
    studio.run(workshop, rhythm or Rhythm(), listener)
    return _publish(recipe, tier, folders.target, studio, today)


def _publish(
    recipe: Recipe, tier: str, target: Path, studio: Studio, today: dt.date
) -> list[Style]:
    """Write the network and every style's card and vectors."""
    trainer = studio.trainer
    path = target / NETWORKS / f"{tier}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    network = network_of(trainer.net)
    write_whole(path, lambda partial: partial.write_bytes(network))
    networks = {
        quality: (path.parent / f"{quality}.onnx").read_bytes()
        for quality in QUALITIES
        if (path.parent / f"{quality}.onnx").exists()
    }
    styles = []
    for place, entry in enumerate(recipe.paintings):
        folder = target / entry.name
        vectors, said = _kept(folder, networks)
        vector = trainer.styles[place].detach().cpu().numpy()
        card = Style(
            name=entry.name,
            **dataclasses.asdict(entry.about),
            network="painter",
            preprocessing=PREPROCESSING,
            multiple_of=MULTIPLE_OF,
            trained={**said, tier: trained(trainer, today, painting=place)},
            folder=folder,
        )
        styles.append(save_style(card, vectors={**vectors, tier: vector}, networks=networks))
    return styles


def _kept(folder: Path, networks: dict[str, bytes]) -> tuple[dict[str, Vector], dict[str, Any]]:
    """Vectors, and what the card says of their training, of the tiers that are still the same."""
    for style in list_styles(folder.parent):
        if style.folder == folder and style.networks:
            same = {
                quality
                for quality, network in networks.items()
                if style.networks.get(quality) == hashlib.sha256(network).hexdigest()
            }
            vectors = unpack_vectors((folder / VECTORS).read_bytes())
            return (
                {quality: vectors[quality] for quality in same},
                {each: said for each, said in style.trained.items() if each in same},
            )
    return {}, {}
