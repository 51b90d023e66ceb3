"""A real Chromium, driven over the DevTools pipe with the standard library only."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

BINARIES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu",
    "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
ANSWER_S_MAX = 30.0


def find_chromium() -> str | None:
    """Where a Chromium is installed; None where none is."""
    return next((path for name in BINARIES if (path := shutil.which(name))), None)


class NavigatedError(RuntimeError):
    """The page went elsewhere, or was read anew, while it was asked."""


class Chromium:
    """One browser with an empty profile; ``page`` opens a tab."""

    def __init__(self, binary: str, profile: Path) -> None:
        to_read, to_write = os.pipe(), os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4; a shell puts ours there.
        shell = f'exec "$@" 3<&{to_read[0]} 4>&{to_write[1]}'
        command = ["bash", "-c", shell, "chromium", binary, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(to_read[0], to_write[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read[0])
        os.close(to_write[1])
        self._out, self._in = to_read[1], to_write[0]
        self._buffer = b""
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self.notices: deque[dict[str, Any]] = deque(maxlen=10_000)

    def page(self) -> Page:
        """A new tab with an empty page."""
        tab = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": tab, "flatten": True})["sessionId"]
        return Page(self, tab, session)

    def send(self, method: str, arguments: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """One DevTools command and its result."""
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": arguments or {}}
        if session:
            command["sessionId"] = session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        number, until = self._number, time.monotonic() + ANSWER_S_MAX
        while number not in self._answers:
            self.listen(until - time.monotonic())
            if time.monotonic() > until:
                raise TimeoutError(method)
        answer = self._answers.pop(number)
        if "error" in answer:
            navigated = "navigated" in answer["error"]["message"]
            raise (NavigatedError if navigated else RuntimeError)(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def listen(self, seconds: float) -> None:
        """Take what Chromium says within some seconds."""
        if not select.select([self._in], [], [], max(0.0, seconds))[0]:
            return
        chunk = os.read(self._in, 1 << 20)
        if not chunk:
            raise RuntimeError("Chromium has gone")
        *whole, self._buffer = (self._buffer + chunk).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.notices.append(message)

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        os.close(self._out)
        os.close(self._in)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Page:
    """One tab: open, look, act; ``complaints`` are console errors, exceptions and policy violations."""

    def __init__(self, browser: Chromium, tab: str, session: str) -> None:
        self._browser, self._tab, self._session = browser, tab, session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """One DevTools command to this tab."""
        return self._browser.send(method, arguments, self._session)

    def close(self) -> None:
        """Close the tab."""
        self._browser.send("Target.closeTarget", {"targetId": self._tab})

    def size(self, width: int, height: int, ratio: float = 1.0) -> None:
        """Set the screen in CSS pixels and its device pixel ratio."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", {**metrics, "screenWidth": width, "screenHeight": height})

    def prefer(self, **features: str) -> None:
        """Emulate media features, with ``_`` for ``-``: ``prefer(prefers_color_scheme="light")``."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", {"features": listed})

    def open(self, url: str) -> None:
        """Go to an address and wait for its styles and scripts: before them nothing is as people see it."""
        self.js("window.isBefore = true")  # the page before is complete too, and stays for a moment
        self.send("Page.navigate", {"url": url})
        self.wait("!window.isBefore && location.href !== 'about:blank' && document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True})
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 15.0) -> None:
        """Wait until an expression is true, whatever it throws and wherever the page goes before.

        Raises AssertionError when it never is.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(NavigatedError):
                if self.js(f"(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()"):
                    return
            self._browser.listen(0.05)
        raise AssertionError(f"never true: {expression}; complaints: {self.complaints()}")

    def text(self, selector: str) -> str:
        """The text of an element."""
        return str(self.js(f"document.querySelector({json.dumps(selector)}).textContent"))

    def screenshot(self, path: Path) -> None:
        """Save what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", {"format": "png"})["data"]))

    def complaints(self) -> list[str]:
        """Console errors, uncaught exceptions and policy violations of this tab so far."""
        self.js("0")
        found = []
        for notice in self._browser.notices:
            if notice.get("sessionId") != self._session:
                continue
            what, said = notice["method"], notice["params"]
            if what == "Runtime.exceptionThrown" or (what == "Runtime.consoleAPICalled" and said["type"] == "error"):
                found.append(json.dumps(said)[:500])
            if what == "Log.entryAdded" and said["entry"]["level"] == "error":
                found.append(f"{said['entry']['source']}: {said['entry']['text']}")
        return found
