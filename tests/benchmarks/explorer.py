"""What the explorer's page costs a browser: size, first paint, and the times of its computations.

    python -m tests.benchmarks.explorer RUN [RUN ...] [--plugin FILE.py]

Each run has its page made and opened in headless Chromium at 1200 pixels. `frame` is the median
time between two frames of the screen while the mouse is dragged over the plane, which 60 frames a
second make 16.7 ms; `late` is the share of frames that took longer than 25 ms.
"""

import argparse
import tempfile
from pathlib import Path

from tests.browser import browser
from vaectl.base import plugins
from vaectl.explorer import page as pages
from vaectl.runs.find import find

_TIMES = """
  await new Promise(done => setTimeout(done, 1500));
  const { model } = app, z = app.z.slice(), x = model.sets[0].image(0);
  const time = (count, act) => {
    for (let i = 0; i < 20; i++) act();
    const start = performance.now();
    for (let i = 0; i < count; i++) act();
    return (performance.now() - start) / count;
  };
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return [paint.startTime, time(200, () => model.decode(z)), time(100, () => model.encode(x)),
    time(3, () => model.assess(x, 32))];
"""
_COUNT = """
  window.gaps = [];
  let last = 0;
  requestAnimationFrame(function tick(now) {
    if (last) gaps.push(now - last);
    last = now;
    requestAnimationFrame(tick);
  });
  const box = document.querySelector(".plane").getBoundingClientRect();
  return [box.left, box.top, box.width];
"""
_GAPS = """
  const sorted = gaps.slice(2).sort((a, b) => a - b);
  return [sorted[sorted.length >> 1], sorted.filter(gap => gap > 25).length / sorted.length];
"""


def main() -> None:
    """Print a row for each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    for file in arguments.plugin:
        plugins.load_file(file)
    print("| run | MB | first paint, ms | decode, ms | encode | bound of 32 | frame | late |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder, "profile")) as chromium:
        for run in arguments.runs:
            path = Path(folder, "page.html")
            made = pages.explore([find(run, Path("runs"))], output=path)
            chromium.open(path)
            times = chromium.ask(_TIMES)
            left, top, side = chromium.ask(_COUNT)
            way = [0.1 + 0.8 * i / 200 for i in range(200)]
            chromium.drag(*[(left + t * side, top + (t - t**2 + 0.3) * side) for t in way])
            frame, late = chromium.ask(_GAPS)
            paint, *rest = times
            cells = " | ".join(f"{time:.2f}" for time in rest)
            print(f"| {made.runs[0]} | {made.size / 1e6:.1f} | {paint:.0f} | {cells} | ", end="")
            print(f"{frame:.1f} | {late:.0%} |", flush=True)


if __name__ == "__main__":
    main()
