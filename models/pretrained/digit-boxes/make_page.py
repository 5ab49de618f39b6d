"""Write page.png: the held-out sample digits of ../digits in ink on a sheet of paper, for a picture of found boxes.

    pip install numpy pillow
    python make_page.py
    wginfer detect page.png --out boxes.png
"""

from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 480, 360
# Digit, left, top, height in pixels, colour of the ink.
PLACES = [
    (3, 24, 40, 96, (28, 40, 110)),
    (1, 124, 52, 70, (28, 40, 110)),
    (4, 208, 40, 84, (28, 40, 110)),
    (7, 292, 64, 92, (120, 24, 30)),
    (0, 396, 30, 74, (30, 90, 50)),
    (5, 372, 146, 66, (30, 90, 50)),
    (2, 44, 200, 110, (40, 40, 44)),
    (8, 160, 214, 84, (40, 40, 44)),
    (6, 256, 230, 90, (120, 24, 30)),
    (9, 376, 244, 92, (28, 40, 110)),
]


def paper():
    """Warm white that darkens to the lower right."""
    shade = np.linspace(0, 1, WIDTH)[None, :, None] * 0.5 + np.linspace(0, 1, HEIGHT)[:, None, None] * 0.5
    return np.array([246.0, 240.0, 226.0]) - 44 * shade


def main():
    canvas = paper()
    for digit, left, top, height, ink in PLACES:
        image = np.asarray(Image.open(HERE.parent / f"digits/samples/digit_{digit}.png").convert("L"))
        rows, cols = np.flatnonzero(image.max(1) > 40), np.flatnonzero(image.max(0) > 40)
        image = Image.fromarray(image[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1])
        width = max(round(height * image.width / image.height), 6)
        alpha = np.asarray(image.resize((width, height), Image.BICUBIC), np.float64)[..., None] / 255
        part = canvas[top : top + height, left : left + width]
        part += (np.array(ink, np.float64) - part) * alpha
    Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).save(HERE / "page.png", optimize=True)


if __name__ == "__main__":
    main()
