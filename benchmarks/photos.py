"""What does decoding a large photo cost? Reduced decoding, as in serving, beside full decoding.

    python -m benchmarks.photos --json photos.json

Soft shapes with camera noise, at the size and quality of a phone's photo and in other formats. CPU milliseconds
from the file's bytes to the encoder's input, the best of several runs, and the mean difference of the two
results in steps of 0…255.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.data.pictures import picture_files
from immr.model.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(224)
FILES: dict[str, tuple[tuple[int, int], str, dict[str, Any]]] = {
    "JPEG, 12 megapixels": ((4000, 3000), "JPEG", {"quality": 90}),
    "JPEG, 48 megapixels": ((8000, 6000), "JPEG", {"quality": 90}),
    "progressive JPEG, 12": ((4000, 3000), "JPEG", {"quality": 90, "progressive": True}),
    "WebP, 12": ((4000, 3000), "WEBP", {"quality": 80, "method": 2}),
    "PNG, 2 (a screenshot)": ((1170, 2000), "PNG", {}),
}


def main(json_file: JsonFile = None, runs: int = 5) -> None:
    """CPU time from bytes to pixels, by format."""
    figures = {name: measure(encoded(*described), runs) for name, described in FILES.items()}
    table = Table("photo", "whole, ms", "as served, ms", "ratio", "difference", title="from bytes to pixels")
    for name, found in figures.items():
        table.add_row(name, *(f"{value:.1f}" for value in found.values()))
    Console().print(table)
    write_figures(json_file, figures)


def encoded(size: tuple[int, int], image_format: str, options: dict[str, Any]) -> bytes:
    """A photo file of that size and format."""
    generator = np.random.default_rng(0)
    shapes = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    pixels_HWC = np.asarray(shapes.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    noise_HWC = generator.normal(0, 4, pixels_HWC.shape).astype(np.int16)
    content = io.BytesIO()
    picture = Image.fromarray((pixels_HWC + noise_HWC).clip(0, 255).astype(np.uint8))
    picture.save(content, image_format, **options)
    return content.getvalue()


def measure(content: bytes, runs: int) -> dict[str, float]:
    def whole() -> Any:
        return PREPROCESSING.apply(picture_files.decode(content))

    def served() -> Any:
        return PREPROCESSING.apply(picture_files.decode(content, PREPROCESSING.enough_px))

    whole_ms, served_ms = core_ms(whole, runs), core_ms(served, runs)
    difference = float(np.abs(whole() - served()).mean()) * PREPROCESSING.std
    return {
        "whole_ms": whole_ms,
        "served_ms": served_ms,
        "ratio": whole_ms / served_ms,
        "difference": difference,
    }


def core_ms(work: Callable[[], Any], runs: int) -> float:
    took_ms = []
    for _ in range(runs):
        start = time.process_time()
        work()
        took_ms.append(1000 * (time.process_time() - start))
    return min(took_ms)


if __name__ == "__main__":
    typer.run(main)
