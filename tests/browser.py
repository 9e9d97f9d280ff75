"""Open a page in headless Chromium, and ask it questions."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found, to open pages in")

_CATCH = """<script>
const errors = [];
addEventListener("error", event => errors.push(event.message));
addEventListener("unhandledrejection", event => errors.push(`${event.reason}`));
addEventListener("securitypolicyviolation", event => errors.push(event.violatedDirective));
console.error = console.warn = (...parts) => errors.push(parts.join(" "));
</script>"""
_ASK = """<script>
(async () => {
  const found = await (async () => { %s })().catch(error => ({ failed: `${error.stack}` }));
  found.errors = errors;
  document.body.innerHTML = "";
  document.body.append("RESULT" + JSON.stringify(found) + "END");
})();
</script>"""


def browse(page: str, question: str, folder: Path, *, width: int = 1200) -> dict[str, Any]:
    """Open a page and return what a question answers.

    Args:
        page: HTML.
        question: the body of an asynchronous JavaScript function that returns an object.
        folder: an empty place for the browser's files.
        width: of the window.
    """
    page = page.replace("<head>", f"<head>{_CATCH}", 1)
    before, _, after = page.rpartition("</body>")
    (folder / "page.html").write_text(f"{before}{_ASK % question}</body>{after}")
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--virtual-time-budget=60000", "--dump-dom", f"--window-size={width},1000"),
        f"--user-data-dir={folder / 'profile'}",
    ]
    command = [str(CHROMIUM), *options, (folder / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    answer = re.search(r"RESULT(.*)END", done.stdout, re.DOTALL)
    assert answer, done.stderr
    found: dict[str, Any] = json.loads(html.unescape(answer[1]))
    assert "failed" not in found, found["failed"]
    return found
