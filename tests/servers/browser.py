"""A real browser for pages made of one file: headless Chromium, spoken to over its debugging pipe.

Source: chromedevtools.github.io/devtools-protocol; messages end in a zero byte.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_ON_FILE_DESCRIPTORS_3_AND_4 = 'exec 3<&{} 4>&{}; exec "$@"'
_OPTIONS = (
    *("--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--hide-scrollbars"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-sandbox"),
)


def missing() -> str:
    """Return why there is no browser here; "" when there is one."""
    return "" if _program() else "needs Chromium (apt-get install chromium)"


def _program() -> str | None:
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


@dataclass
class Page:
    """One tab, and everything it has said since it opened."""

    call: Any
    said: list[dict[str, Any]] = field(default_factory=list)

    def show(self, path: Path, *, width: int, dark: bool = False, media: str = "") -> None:
        """Open a file in a window of this width, and wait until it has loaded."""
        phone = width < 600
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip
        self.said.clear()
        self.call("Page.navigate", until="Page.loadEventFired", url=path.as_uri())

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"]["value"]

    def screenshot(self) -> Image.Image:
        """Return the whole page as a picture."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")

    @property
    def requests(self) -> list[str]:
        """The addresses asked for, the page's own first."""
        return [
            said["params"]["request"]["url"]
            for said in self.said
            if said["method"] == "Network.requestWillBeSent"
        ]

    @property
    def complaints(self) -> list[str]:
        """What stands in the console: errors, warnings, what a policy blocked."""
        loud = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(said["params"]) for said in self.said if said["method"] in loud]


@contextmanager
def open_page() -> Iterator[Page]:
    """Start a browser with a profile of its own, give one tab, and end it."""
    with tempfile.TemporaryDirectory(prefix="r2maint-browser-", ignore_cleanup_errors=True) as home:
        orders_in, orders = os.pipe()
        answers, answers_out = os.pipe()
        command = _ON_FILE_DESCRIPTORS_3_AND_4.format(orders_in, answers_out)
        browser = subprocess.Popen(
            ["bash", "-c", command, "bash", _program(), *_OPTIONS, f"--user-data-dir={home}"],
            pass_fds=(orders_in, answers_out),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(orders_in)
        os.close(answers_out)
        with os.fdopen(orders, "wb", buffering=0) as send, os.fdopen(answers, "rb") as receive:
            try:
                yield _first_tab(send, receive)
            finally:
                browser.terminate()
                browser.wait()


def _first_tab(send: Any, receive: Any) -> Page:
    page, number, session, unread = Page(call=None), 0, None, bytearray()

    def read() -> dict[str, Any]:
        while b"\0" not in unread:
            piece = receive.read1(65536)
            if not piece:
                raise RuntimeError("the browser ended")
            unread.extend(piece)
        message, _, rest = bytes(unread).partition(b"\0")
        unread[:] = rest
        return json.loads(message)

    def call(method: str, until: str = "", **params: Any) -> Any:
        nonlocal number
        number += 1
        order = {"id": number, "method": method, "params": params}
        send.write(json.dumps(order | ({"sessionId": session} if session else {})).encode() + b"\0")
        result = None
        while result is None or until:
            message = read()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(message["error"])
                result = message["result"]
            elif "method" in message:
                page.said.append(message)
                until = "" if message["method"] == until else until
        return result

    page.call = call
    target = call("Target.createTarget", url="about:blank")["targetId"]
    session = call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log"):
        call(f"{domain}.enable")
    return page
