"""An animation: figures one after another, as a GIF or, by ffmpeg, as MP4."""

from __future__ import annotations

import itertools
import math
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from vaectl.base.errors import RunError
from vaectl.pictures.canvas import Figure
from vaectl.pictures.options import ffmpeg

DPI = 110
"""Pixels per inch of an animation, approximately."""
MARK = b"made by vaectl"
"""The comment in a GIF by which its maker is recognized."""
_HOLD = 2.0
"""Seconds for which the last figure stays."""

Frame = UInt8[np.ndarray, "height width 3"]


class Animation(NamedTuple):
    """Figures of one size, and their number."""

    figures: Iterable[Figure]
    total: int

    @property
    def seconds(self) -> float:
        """Seconds of each figure: eight in all, and between 0.05 and 0.8."""
        return min(max(8 / self.total, 0.05), 0.8)

    def savefig(self, file: IO[bytes], *, format: str, metadata: object = None) -> None:  # noqa: A002
        """Write all figures as one file, as a figure writes itself.

        Raises:
            ConfigError: an MP4 is wanted, and there is no ffmpeg.
            RunError: ffmpeg fails.
        """
        del metadata
        frames = _pixels(self.figures)
        (_gif if format == "gif" else _mp4)(file, frames, self.seconds)


def _pixels(figures: Iterable[Figure]) -> Iterator[Frame]:
    """Draw figures; those after the first are cut or filled up to its size."""
    size: tuple[int, ...] | None = None
    for figure in figures:
        canvas: Any = FigureCanvasAgg(figure)  # without types
        canvas.draw()
        drawn = np.asarray(canvas.buffer_rgba())[..., :3]
        size = size or drawn.shape
        frame = np.empty(size, np.uint8)
        frame[:] = drawn[0, 0]
        high, wide = np.minimum(size, drawn.shape)[:2]
        frame[:high, :wide] = drawn[:high, :wide]
        yield frame


def _gif(file: IO[bytes], frames: Iterator[Frame], seconds: float) -> None:
    images = [_palette(frame) for frame in frames]
    times = [round(1000 * seconds)] * (len(images) - 1) + [round(1000 * (seconds + _HOLD))]
    images[0].save(
        file, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0, comment=MARK
    )


def _palette(frame: Frame) -> Image.Image:
    """Reduce a frame to 256 colours; one without colours loses nothing."""
    grey = (frame[..., :1] == frame).all()
    image = Image.fromarray(frame)
    return image.convert("L") if grey else image.quantize(256, dither=Image.Dither.NONE)


def _mp4(file: IO[bytes], frames: Iterator[Frame], seconds: float) -> None:
    first = next(frames)
    high, wide, _ = first.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.mp4"
        command = [
            *(ffmpeg(), "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
            *("-s", f"{wide}x{high}", "-r", f"{1 / seconds:.4f}", "-i", "-"),
            # most players want even sizes and this coding of colours
            *("-vf", f"crop={wide - wide % 2}:{high - high % 2}:0:0,format=yuv420p"),
            *("-r", "30", "-movflags", "+faststart", str(path)),
        ]
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)  # noqa: S603
            assert process.stdin is not None  # noqa: S101  # it is a pipe
            try:
                last = first
                for last in itertools.chain([first], frames):
                    process.stdin.write(last.tobytes())
                for _ in range(math.ceil(_HOLD / seconds)):
                    process.stdin.write(last.tobytes())
                process.stdin.close()
            except BrokenPipeError:
                pass  # ffmpeg says below what is wrong
            except BaseException:
                process.kill()
                raise
            finally:
                code = process.wait()
            if code:
                said.seek(0)
                why = said.read().decode(errors="replace").strip().splitlines()
                raise RunError(
                    f"ffmpeg cannot write the animation: {(why or [f'exit code {code}'])[-1]}",
                    hint="write a GIF instead: end --out in .gif",
                )
        file.write(path.read_bytes())
