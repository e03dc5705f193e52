"""A real headless browser, driven over the WebDriver protocol.

with Browser() as browser:
    browser.open("http://127.0.0.1:5555/tasks")

Six requests of that protocol are all that is needed, so this speaks them to
Debian's chromedriver itself: a driving library would be one more dependency,
and selenium's downloads a browser where it finds none.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.service import wait_until
from tests.opened import Opened

_OPTIONS = (
    "--headless",
    # Its own walls need rights that a container does not give.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    # Nothing is to leave this machine.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--force-color-profile=srgb",
    # Letters in shades of grey make a smaller picture.
    "--disable-lcd-text",
    "--hide-scrollbars",
)


class Browser(Opened):
    """One browser with an empty profile; it and all of it are gone when it is left."""

    def __init__(self, *, width: int = 1600, height: int = 900, scale: float = 1) -> None:
        """Of this size as the page sees it; `scale` is the pixels of a picture to each of it."""
        self._size = f"--window-size={width},{height}", f"--force-device-scale-factor={scale}"
        super().__init__()

    def _open(self, opened: ExitStack) -> None:
        chromium, driver = need("chromium"), need("chromedriver")
        folder = Path(tempfile.mkdtemp(prefix="browser-", dir="/tmp"))
        opened.callback(wait_until, lambda: _is_removed(folder))
        port = free_port()
        # A home and a temporary directory of its own: it leaves files in both.
        environ = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
        process = subprocess.Popen(
            [driver, f"--port={port}"],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        opened.callback(process.wait, 20)
        opened.callback(process.terminate)
        self._url = f"http://127.0.0.1:{port}"
        wait_until(self._answers)
        arguments = [*_OPTIONS, *self._size, f"--user-data-dir={folder / 'profile'}"]
        wanted = {"goog:chromeOptions": {"binary": chromium, "args": arguments}}
        begun = self._ask("POST", "/session", capabilities={"alwaysMatch": wanted})
        self._url += f"/session/{begun['sessionId']}"
        opened.callback(self._ask, "DELETE", "")

    def open(self, url: str) -> None:
        """Go to a page; it has loaded when this returns."""
        self._ask("POST", "/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script on the page returns."""
        return self._ask("POST", "/execute/sync", script=script, args=list(arguments))

    @property
    def text(self) -> str:
        """What a person reads on the page."""
        seen: str = self.run("return document.body.innerText")
        return seen

    @property
    def source(self) -> str:
        """All that the page holds, shown or not."""
        held: str = self._ask("GET", "/source")
        return held

    def type(self, selector: str, text: str) -> None:
        """Type into what the selector finds, as a person does."""
        found = self._ask("POST", "/element", using="css selector", value=selector)
        (element,) = found.values()
        self._ask("POST", f"/element/{element}/value", text=text)

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def _answers(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except OSError:
            return False

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as refused:
            with refused:
                told = json.load(refused)["value"]
            raise AssertionError(f"{method} {path}: {told['message']}") from None


def _is_removed(folder: Path) -> bool:
    """Remove a folder; what a process wrote meanwhile while it ended goes the next time."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def need(program: str) -> str:
    """Where a program is; without it skip at home, fail where CI is set."""
    found = shutil.which(program)
    if found is None:
        missing = f"{program} is not installed (Debian: chromium, chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port
