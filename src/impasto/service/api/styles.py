"""Routes on styles."""

from typing import Annotated

from fastapi import APIRouter, Path

from impasto.errors import NotFound, RequestError
from impasto.service.api.access import BackendDep, only
from impasto.service.api.forms import STYLE_NAME
from impasto.service.api.models import StyleBrief, StyleCard, StyleList
from impasto.service.api.problems import documented
from impasto.service.roles import Permission
from impasto.service.words import in_api_words
from impasto.styles import Style, list_styles, read_style

router = APIRouter(
    prefix="/v1/styles", tags=["styles"], dependencies=[only(Permission.STYLES_READ)]
)


@router.get("", summary="List styles")
def show_styles(backend: BackendDep) -> StyleList:
    """The styles that a run can name."""
    found = list_styles(backend.service.core.user_styles)
    return StyleList(styles=[StyleBrief.model_validate(_brief(style)) for style in found])


@router.get("/{name}", summary="Show a style", responses=documented(404))
def show_style(
    name: Annotated[str, Path(pattern=STYLE_NAME, examples=["starry_night"])],
    backend: BackendDep,
) -> StyleCard:
    """A style, and whose painting it comes from."""
    try:
        style = read_style(name, user_styles=backend.service.core.user_styles)
    except RequestError as error:
        raise NotFound(in_api_words(error)) from error
    card = {key: getattr(style, key) for key in ("title", "artist", "year", "source", "licence")}
    return StyleCard.model_validate(_brief(style) | card)


def _brief(style: Style) -> dict[str, object]:
    return {
        "name": style.name,
        "shipped": style.shipped,
        "bytes": style.bytes,
        "qualities": list(style.qualities),
    }
