"""Contact sheets of photographs with their field of view drawn over, and overlap with masks where there are.

python benchmarks/field_of_view_sheets.py PHOTOS OUT [--masks DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from retina_fm.errors import PictureError
from retina_fm.pictures import Transform, expand, read_picture

TILE, COLUMNS, ROWS = 96, 20, 10


def tile(picture: np.ndarray, transform: Transform) -> tuple[Image.Image, bool]:
    geometry = transform.locate(picture)
    scale = TILE / max(picture.shape[:2])
    small = Image.fromarray(picture).resize(
        (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    )
    canvas = Image.new("RGB", (TILE, TILE), "navy")
    left, top = (TILE - small.width) // 2, (TILE - small.height) // 2
    canvas.paste(small, (left, top))
    draw = ImageDraw.Draw(canvas)
    if geometry.circle:
        y, x, r = geometry.centre_y * scale + top, geometry.centre_x * scale + left, geometry.radius * scale
        draw.ellipse((x - r, y - r, x + r, y + r), outline="lime")
    else:
        draw.rectangle((0, 0, TILE - 1, TILE - 1), outline="red", width=3)
    return canvas, geometry.circle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("out", type=Path)
    parser.add_argument("--masks", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    transform = Transform()
    tiles: list[Image.Image] = []
    whole: list[str] = []
    overlaps: dict[str, float] = {}
    for photo in expand(arguments.photos):
        try:
            picture = read_picture(photo)
        except PictureError as error:
            print(error)
            continue
        image, found = tile(picture, transform)
        ImageDraw.Draw(image).text((2, 2), str(len(tiles)), fill="white")
        tiles.append(image)
        if not found:
            whole.append(f"{len(tiles) - 1}:{Path(photo).name}")
        if arguments.masks:
            path = next(arguments.masks.glob(f"{Path(photo).stem}*"))
            mask = np.asarray(Image.open(path).convert("L")) > 127
            ours = transform.locate(picture).mask_in_picture()
            overlaps[Path(photo).stem] = float((ours & mask).sum() / (ours | mask).sum())
    per_sheet = COLUMNS * ROWS
    for start in range(0, len(tiles), per_sheet):
        sheet = Image.new("RGB", (TILE * COLUMNS, TILE * ROWS))
        for place, image in enumerate(tiles[start : start + per_sheet]):
            sheet.paste(image, (place % COLUMNS * TILE, place // COLUMNS * TILE))
        sheet.save(arguments.out / f"sheet_{start // per_sheet:02d}.png")
    print(f"{len(tiles)} photos, {len(whole)} without a circle: {', '.join(whole) or 'none'}")
    if overlaps:
        worst = min(overlaps, key=lambda stem: overlaps[stem])
        mean = np.mean(list(overlaps.values()))
        print(f"overlap with masks: mean {mean:.4f}, least {overlaps[worst]:.4f} ({worst})")


if __name__ == "__main__":
    main()
