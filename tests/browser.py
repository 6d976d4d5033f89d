"""A page as headless Chromium lays it out."""

import contextlib
import html
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import STUCK_SECONDS, started, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WRAPPER = """<!doctype html><body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:{height}px" srcdoc="{page}"></iframe>
<pre id="told"></pre>
<script>
addEventListener("load", () => {{
  const page = document.getElementById("page").contentDocument;
  const view = document.getElementById("page").contentWindow;
  document.getElementById("told").textContent = JSON.stringify(({script})(page, view));
}});
</script>"""


def asked(page: Path, script: str, folder: Path, *, width: int, height: int = 900, media: str = ""):
    """What a JavaScript function of document and window returns of a page in a frame of a size.

    Headless Chromium has no window of 390 pixels, so the page stands in a frame; what the style
    sheet keeps for a medium is taken as if it were there.
    """
    text = page.read_text(encoding="utf-8")
    if media:
        assert f"@media {media}" in text
        text = text.replace(f"@media {media}", "@media all")
    wrapper = folder / "wrapper.html"
    text = WRAPPER.format(width=width, height=height, page=html.escape(text), script=script)
    wrapper.write_text(text, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000"]
    command += ["--window-size=1600,1200", "--dump-dom", wrapper.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found[1]))


class Tab:
    """A page in a headless Chromium that is told what to do through a pipe (DevTools protocol)."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest = to, back, b""
        self._numbers = itertools.count(1)
        self._session = ""
        self.said: list[dict[str, Any]] = []  # what the page's console and the network tell
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        joined = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = joined["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]
            self.said.append(told)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._back, 1 << 20)
            assert part, "Chromium ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def ask(self, script: str) -> Any:
        """What a JavaScript expression comes to."""
        told = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, script: str) -> Any:
        """Its value as soon as it is true."""
        return wait_for(lambda: self.ask(script), STUCK_SECONDS)

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37}
        named = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def resize(self, width: int, height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def dark(self, wanted: bool) -> None:
        value = "dark" if wanted else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        self.call("Emulation.setEmulatedMedia", features=features)


@contextlib.contextmanager
def tab(folder: Path) -> Iterator[Tab]:
    """A tab of a Chromium of its own, whose profile lies in a folder."""
    theirs, to = os.pipe()
    back, own = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    options += ["--no-first-run", "--disable-background-networking"]
    options += [f"--user-data-dir={folder / 'profile'}", "about:blank"]
    # Chromium reads from 3 and writes to 4.
    line = f'exec "$0" "$@" 3<&{theirs} 4>&{own}'
    command = ["bash", "-c", line, CHROMIUM, *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        with started(command, pass_fds=(theirs, own), **quiet):
            os.close(theirs)
            os.close(own)
            yield Tab(to, back)
    finally:
        os.close(to)
        os.close(back)
