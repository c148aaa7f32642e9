"""Renders a labelled data set of any size from a seed. (ours)

An item is a shape in a colour with a pattern and a printed name. Its catalogue picture is clean; photos of it
are rotated, unevenly lit, partly covered and noisy, on a background unrelated to the item.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from PIL.Image import Resampling, Transpose

from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.errors import DatasetError
from immr.machine.progress_bar import with_progress
from immr.storage import fingerprint
from immr.storage.atomic import replace_folder_atomically
from immr.types import Item

MADE = datetime(2024, 1, 1, tzinfo=UTC)
COLOURS = {
    "red": (205, 38, 38),
    "orange": (242, 133, 28),
    "yellow": (245, 210, 50),
    "green": (46, 140, 60),
    "turquoise": (46, 190, 180),
    "blue": (40, 84, 190),
    "purple": (122, 60, 160),
    "pink": (240, 130, 170),
    "brown": (120, 78, 46),
    "black": (42, 42, 46),
}
SHAPES = {
    "bottle": "Drinks/Bottles",
    "can": "Drinks/Cans",
    "carton": "Drinks/Cartons",
    "jar": "Pantry/Jars",
    "box": "Pantry/Boxes",
    "bag": "Pantry/Bags",
    "ball": "Toys/Balls",
    "star": "Toys/Stars",
    "ring": "Toys/Rings",
    "mug": "Kitchen/Mugs",
}
PATTERNS = ("plain", "striped", "hooped", "dotted", "chequered", "diagonal")
_SYLLABLES = ("ba", "di", "fo", "ka", "lu", "me", "no", "pi", "ra", "so", "ti", "vu")
_SPRITE_PX = 180


@dataclass(frozen=True)
class SyntheticRecipe:
    """The size of the data set; the default is about as large as grocery."""

    seed: int = 0
    items: int = 80
    train_photos: int = 33  # per item
    val_photos: int = 4  # per item
    side_px: int = 224


@dataclass(frozen=True)
class Appearance:
    """What an item looks like, in the words of its description."""

    shape: str
    colour: str
    pattern: str
    accent: str
    label: str


def load(recipe: SyntheticRecipe, cache_dir: Path) -> LabelledSet:
    """Render the data set, or read it from the cache.

    Raises:
        DatasetError: the recipe asks for less than one item or photo.
    """
    if min(recipe.items, recipe.train_photos, recipe.val_photos) < 1:
        raise DatasetError(
            f"the data set synthetic needs at least one item and one photo per split, not {recipe}"
        )
    folder = (cache_dir / f"synthetic-{fingerprint.of_values('render-1', recipe)[:12]}").absolute()
    if not folder.is_dir():
        with replace_folder_atomically(folder) as aside:
            _render(recipe, aside)
    return _labelled(recipe, folder)


def _labelled(recipe: SyntheticRecipe, folder: Path) -> LabelledSet:
    items = [_item(index, appearance, folder) for index, appearance in enumerate(appearances(recipe))]
    photos = [
        DatasetPhoto(str(folder / _photo_name(split, item.item_id, number)), item.item_id, split)
        for split, count in _splits(recipe)
        for item in items
        for number in range(count)
    ]
    return LabelledSet("synthetic", items, photos)


def _splits(recipe: SyntheticRecipe) -> tuple[tuple[str, int], ...]:
    return (("train", recipe.train_photos), ("val", recipe.val_photos))


def _photo_name(split: str, item_id: str, number: int) -> str:
    return f"{split}/{item_id}/{number:04d}.jpg"


def _item_id(index: int) -> str:
    return f"syn-{index:06d}"


def _item(index: int, appearance: Appearance, folder: Path) -> Item:
    item_id = _item_id(index)
    pattern = (
        "in one colour" if appearance.pattern == "plain" else f"{appearance.pattern} with {appearance.accent}"
    )
    return Item(
        item_id=item_id,
        title=f"{appearance.label.capitalize()} {appearance.colour} {appearance.shape}",
        description=(
            f"A {appearance.colour} {appearance.shape}, {pattern}, with a {appearance.accent} label "
            f"that says {appearance.label.upper()}."
        ),
        category=SHAPES[appearance.shape],
        image=str(folder / "catalogue" / f"{item_id}.jpg"),
        price=(100 + int(fingerprint.of_bytes(item_id.encode())[:8], 16) % 2000) / 100,
        updated_at=MADE,
    )


def appearances(recipe: SyntheticRecipe) -> list[Appearance]:
    """Distinct appearances; the first 600 differ in shape, colour or pattern, which photos can show."""
    rng = np.random.default_rng([recipe.seed, 1])
    shapes, colours = list(SHAPES), list(COLOURS)
    main = rng.permutation(len(shapes) * len(colours) * len(PATTERNS))
    accent_shift, label_shift = rng.permutation(len(colours) - 1), rng.permutation(len(_SYLLABLES) ** 3)
    found = []
    for index in range(recipe.items):
        round_, within = divmod(index, len(main))
        rest, shape = divmod(int(main[within]), len(shapes))
        pattern, colour = divmod(rest, len(colours))
        step = 1 + int(accent_shift[(within + round_) % len(accent_shift)])
        word = int(label_shift[index % len(label_shift)])
        found.append(
            Appearance(
                shapes[shape],
                colours[colour],
                PATTERNS[pattern],
                colours[(colour + step) % len(colours)],
                _word(word),
            )
        )
    return found


def _word(number: int) -> str:
    base = len(_SYLLABLES)
    return _SYLLABLES[number // base**2] + _SYLLABLES[number // base % base] + _SYLLABLES[number % base]


def _render(recipe: SyntheticRecipe, folder: Path) -> None:
    per_item = recipe.train_photos + recipe.val_photos
    logging.getLogger(__name__).info("rendering %d items with %d photos each", recipe.items, per_item)
    (folder / "catalogue").mkdir()
    for index, appearance in enumerate(
        with_progress(appearances(recipe), "rendering", "items", recipe.items)
    ):
        sprite, item_id = _sprite(appearance), _item_id(index)
        _save(_catalogue_picture(sprite, recipe.side_px), folder / "catalogue" / f"{item_id}.jpg")
        rng = np.random.default_rng([recipe.seed, 2, index])
        for split, count in _splits(recipe):
            (folder / split / item_id).mkdir(parents=True)
            for number in range(count):
                _save(_photo(sprite, recipe.side_px, rng), folder / _photo_name(split, item_id, number))


def _save(image: Image.Image, path: Path) -> None:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    path.write_bytes(content.getvalue())


def _catalogue_picture(sprite: Image.Image, side_px: int) -> Image.Image:
    picture = Image.new("RGB", (side_px, side_px), "white")
    front = sprite.resize((side_px * 9 // 10, side_px * 9 // 10), Resampling.BILINEAR)
    picture.paste(front, (side_px // 20, side_px // 20), front)
    return picture


def _photo(sprite: Image.Image, side_px: int, rng: np.random.Generator) -> Image.Image:
    picture = _background(side_px, rng)
    size = int(side_px * rng.uniform(0.55, 0.9))
    front = sprite.resize((size, size), Resampling.BILINEAR).rotate(
        rng.uniform(-35, 35), Resampling.BILINEAR, expand=True
    )
    room = side_px - np.array(front.size)
    x, y = (int(v) for v in room / 2 + rng.uniform(-0.12, 0.12, 2) * side_px)
    picture.paste(front, (x, y), front)
    _occlude(picture, rng)
    return _lit(picture, rng)


def _background(side_px: int, rng: np.random.Generator) -> Image.Image:
    coarse = rng.integers(30, 226, (4, 4, 3)).astype(np.float32)
    coarse = coarse * 0.4 + rng.uniform(40, 215, 3).astype(np.float32) * 0.6
    return Image.fromarray(coarse.astype(np.uint8)).resize((side_px, side_px), Resampling.BICUBIC)


def _occlude(picture: Image.Image, rng: np.random.Generator) -> None:
    """Cover an edge of the item, in two photos of five."""
    if rng.random() > 0.4:
        return
    side = picture.width
    width, height = (int(v) for v in rng.uniform(0.15, 0.35, 2) * side)
    x = int(rng.choice([0.05, 0.7]) * side + rng.uniform(-0.05, 0.1) * side)
    y = int(rng.uniform(0.05, 0.7) * side)
    colour = tuple(int(v) for v in rng.integers(20, 235, 3))
    ImageDraw.Draw(picture).rectangle((x, y, x + width, y + height), fill=colour)


def _lit(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add light from one side, a colour cast, sensor noise and sometimes blur."""
    pixels = np.asarray(picture, dtype=np.float32)
    side = picture.width
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.2 * (np.cos(angle) * ramp[:, None] + np.sin(angle) * ramp[None, :])
    gain = rng.uniform(0.75, 1.15) * rng.uniform(0.93, 1.07, 3)
    noise = rng.integers(-12, 13, (side, side, 1), dtype=np.int8)
    pixels = pixels * (light[:, :, None] * gain).astype(np.float32) + noise
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image.filter(ImageFilter.BoxBlur(1)) if rng.random() < 0.3 else image


def _sprite(appearance: Appearance) -> Image.Image:
    """The item alone, RGBA, on a transparent background."""
    size = _SPRITE_PX * 2  # drawn at twice the size, for smooth edges
    mask = _shape_mask(appearance.shape, size)
    body = _patterned(appearance, size)
    _print_label(body, appearance, size)
    sprite = Image.new("RGBA", (size, size))
    sprite.paste(body, (0, 0), mask)
    outline = mask.filter(ImageFilter.FIND_EDGES).filter(ImageFilter.MaxFilter(5))
    sprite.paste(Image.new("RGBA", (size, size), (30, 30, 30, 255)), (0, 0), outline)
    return sprite.resize((_SPRITE_PX, _SPRITE_PX), Resampling.LANCZOS)


def _patterned(appearance: Appearance, size: int) -> Image.Image:
    base, accent = COLOURS[appearance.colour], COLOURS[appearance.accent]
    y, x = np.mgrid[0:size, 0:size].astype(np.int32)
    step = size // 8
    second = {
        "plain": np.zeros((size, size), dtype=bool),
        "striped": x // (step // 2) % 3 == 0,
        "hooped": y // (step // 2) % 3 == 0,
        "dotted": (x % step - step // 2) ** 2 + (y % step - step // 2) ** 2 < (step * 0.28) ** 2,
        "chequered": (x // step + y // step) % 2 == 0,
        "diagonal": (x + y) // (step // 2) % 3 == 0,
    }[appearance.pattern]
    shade = 0.8 + 0.35 * np.sin(np.pi * np.arange(size, dtype=np.float32) / size)[None, :, None]
    pixels = np.where(second[:, :, None], accent, base) * shade
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGBA")


def _print_label(body: Image.Image, appearance: Appearance, size: int) -> None:
    draw = ImageDraw.Draw(body)
    box = (size * 0.22, size * 0.48, size * 0.78, size * 0.64)
    draw.rectangle(box, fill=(250, 250, 245), outline=COLOURS[appearance.accent], width=size // 60)
    font = ImageFont.load_default(size=size // 10)
    draw.text(
        (size / 2, size * 0.56),
        appearance.label.upper(),
        fill=COLOURS[appearance.accent],
        font=font,
        anchor="mm",
    )


def _shape_mask(shape: str, size: int) -> Image.Image:
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    for kind, *numbers in _OUTLINES[shape]:
        points = [float(v) * size / 100 for v in numbers]
        if kind == "oval":
            draw.ellipse(points, fill=255)
        elif kind == "hole":
            draw.ellipse(points, fill=0)
        elif kind == "round":
            draw.rounded_rectangle(points, radius=size * 0.06, fill=255)
        else:
            draw.polygon(points, fill=255)
    return mask.transpose(Transpose.FLIP_LEFT_RIGHT) if shape == "mug" else mask


def _star_points() -> tuple[float, ...]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2, 24, 49)
    return tuple(np.stack([50 + radius * np.cos(angles), 52 + radius * np.sin(angles)], axis=1).ravel())


_OUTLINES: dict[str, tuple[tuple[str | float, ...], ...]] = {  # in percent of the sprite's side
    "bottle": (("round", 40, 2, 60, 30), ("oval", 26, 18, 74, 60), ("round", 26, 38, 74, 98)),
    "can": (("oval", 22, 8, 78, 26), ("poly", 22, 17, 78, 17, 78, 87, 22, 87), ("oval", 22, 78, 78, 96)),
    "carton": (("poly", 24, 30, 38, 4, 62, 4, 76, 30), ("poly", 24, 30, 76, 30, 76, 97, 24, 97)),
    "jar": (("round", 24, 6, 76, 22), ("round", 16, 18, 84, 96)),
    "box": (("poly", 6, 22, 94, 22, 94, 84, 6, 84),),
    "bag": (("poly", 14, 6, 86, 6, 78, 16, 94, 96, 6, 96, 22, 16),),
    "ball": (("oval", 4, 4, 96, 96),),
    "star": (("poly", *_star_points()),),
    "ring": (("oval", 3, 3, 97, 97), ("hole", 36, 16, 64, 44)),
    "mug": (("oval", 2, 30, 40, 76), ("hole", 11, 40, 32, 66), ("round", 24, 14, 90, 92)),
}
