"""Headless Chromium, asked over its debugging pipe; a test presses keys in it as a person does."""

import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found, to open pages in")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-pipe"),
)
_JOIN = """
import os, sys
for given, wanted in zip(sys.argv[1:3], (3, 4)): os.dup2(int(given), wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""
_KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "Tab": 9}


@contextmanager
def browser(folder: Path) -> Iterator["Browser"]:
    """Run Chromium with its files in an empty folder."""
    (given, ours_out), (ours_in, taken) = os.pipe(), os.pipe()
    # out of the way of 3 and 4, from which Chromium reads and to which it writes
    theirs = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in (given, taken)]
    command = [sys.executable, "-c", _JOIN, *map(str, theirs), str(CHROMIUM), *_OPTIONS]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={folder}"], pass_fds=theirs, stderr=subprocess.DEVNULL
    )
    for each in (given, taken, *theirs):
        os.close(each)
    try:
        with os.fdopen(ours_out, "wb", 0) as out, os.fdopen(ours_in, "rb") as into:
            opened = Browser(out, into)
            yield opened
            opened.send("Browser.close")
    finally:
        process.terminate()
        process.wait(timeout=20)


@final
class Browser:
    """A browser with one page at a time."""

    def __init__(self, out: Any, into: Any) -> None:
        self._out, self._into = out, into
        self._numbers, self._session = itertools.count(1), ""
        self.errors: list[str] = []
        """What the page has complained of."""

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; note errors of the page on the way."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(self, page: Path, *, width: int = 1200, dark: bool = False) -> None:
        """Open a page, and wait until it is ready."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session, self.errors = attached["sessionId"], []
        for domain in ("Runtime", "Log", "Page"):
            self.send(f"{domain}.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=page.absolute().as_uri())
        self.ask(
            "await new Promise(done => { const look = () => document.readyState === 'complete' "
            "&& location.protocol === 'file:' ? done() : setTimeout(look, 20); look(); })"
        )

    def ask(self, question: str) -> Any:
        """Run the body of an asynchronous JavaScript function; return what it returns."""
        found = self.send(
            "Runtime.evaluate",
            expression=f"(async () => {{ {question} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key, and release it."""
        how = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 * shift}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, **how)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press the mouse at the first place of the window, and release it at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 2), "mouseReleased"]
        for kind, (x, y) in zip(kinds, places, strict=True):
            how = {"button": "left", "buttons": 1, "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **how)

    def _read(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._into.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            text += byte
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                self.errors.append(json.dumps(params["args"]))
            case "Log.entryAdded":
                self.errors.append(params["entry"]["text"])
