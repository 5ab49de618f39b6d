"""Make the image goldens: small files of many kinds and what the Python Imaging Library reads in them, and its
resized images.

Run:

    pip install pillow numpy safetensors
    python make_image_goldens.py

images/ beside this script receives

    *.png *.jpg *.webp      24x17 pixels: bit depths, palettes, alpha, grey, CMYK, EXIF orientations, animations
    photo.png               61x47 pixels, of which the resized images are made
    goldens.safetensors     "FILE": RGB as read, upright; "FILTER WIDTHxHEIGHT": photo.png resized; all u8 [h, w, 3]
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent / "images"
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
# Larger, smaller, one side the same, far smaller than the filter's support, a single pixel. Width is never enlarged more
# than height: there Pillow 13 resizes vertically first, unlike its older versions and torchvision.
SIZES = [(100, 80), (24, 24), (61, 20), (31, 47), (7, 5), (60, 48), (1, 1), (5, 141)]


def picture(width, height, seed):
    """Smooth colours with noise and hard edges, so that filters overshoot."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 5 + seed), np.cos(y / 4 - x / 9), np.sin((x + y) / 7)]
    pixels = np.stack([127 + 110 * wave for wave in waves], -1)
    pixels += random.normal(0, 12, pixels.shape)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = [255, 0, 255]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_rgb16(path, pixels):
    """A 16-bit RGB PNG, which the library reads but does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def write_files():
    base = picture(24, 17, 1)
    gray = base.convert("L")
    alpha = base.copy()
    alpha.putalpha(gray.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    base.save(HERE / "rgb.png")
    gray.save(HERE / "gray.png")
    alpha.save(HERE / "rgba.png")
    alpha.convert("LA").save(HERE / "gray_alpha.png")
    base.quantize(16).save(HERE / "palette.png")
    base.quantize(16).save(HERE / "palette_alpha.png", transparency=3)
    gray.convert("1").save(HERE / "one_bit.png")
    gray16 = np.asarray(gray).astype(np.uint16) * 256 + 77
    Image.fromarray(gray16).save(HERE / "gray16.png")
    write_rgb16(HERE / "rgb16.png", np.asarray(base).astype(np.uint16) * 256 + 201)
    base.save(HERE / "baseline.jpg", quality=90, subsampling=0)
    base.save(HERE / "progressive.jpg", quality=90, progressive=True, subsampling=0)
    gray.save(HERE / "gray.jpg", quality=90)
    base.convert("CMYK").save(HERE / "cmyk.jpg", quality=95)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        base.save(HERE / f"exif{orientation}.jpg", quality=90, subsampling=0, exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    base.save(HERE / "exif6.png", exif=exif)
    base.save(HERE / "exif6.webp", lossless=True, exif=exif)
    base.save(HERE / "lossy.webp", quality=90)
    alpha.save(HERE / "alpha.webp", lossless=True, exact=True)
    frames = [picture(24, 17, seed) for seed in (2, 3)]
    base.save(HERE / "animated.webp", save_all=True, append_images=frames, duration=100, lossless=True)
    base.save(HERE / "animated.png", save_all=True, append_images=frames, duration=100)
    picture(61, 47, 4).save(HERE / "photo.png")


def main():
    HERE.mkdir(exist_ok=True)
    write_files()
    goldens = {}
    for path in sorted(HERE.iterdir()):
        if path.suffix in (".png", ".jpg", ".webp"):
            image = ImageOps.exif_transpose(Image.open(path))
            if image.mode.startswith("I;16"):
                # The library's own conversion to RGB cuts off what exceeds 255.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            goldens[path.name] = np.asarray(image.convert("RGB"))
    photo = Image.open(HERE / "photo.png").convert("RGB")
    for name, number in FILTERS.items():
        for width, height in SIZES:
            goldens[f"{name} {width}x{height}"] = np.asarray(photo.resize((width, height), number))
    goldens = {name: np.ascontiguousarray(pixels) for name, pixels in goldens.items()}
    save_file(goldens, HERE / "goldens.safetensors")
    print(f"{len(goldens)} tensors, {(HERE / 'goldens.safetensors').stat().st_size} bytes")


if __name__ == "__main__":
    main()
