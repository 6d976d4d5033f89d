"""A page as headless Chromium lays it out."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

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
