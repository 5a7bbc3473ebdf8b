"""Three seeds train for real; a browser draws their report, filters it, and asks nobody for anything."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SEEDS = (1, 2, 3)
SHORT = ("trainer.total_training_steps=3", "trainer.test_freq=3", "trainer.save_freq=-1")
COLOR_SCHEMES, WIDTHS = ("light", "dark"), (1200, 400)


class Browser:
    """A page of a headless Chromium, through its DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._numbers = connection, itertools.count()
        self.events: list[dict[str, Any]] = []
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, keep the events until its result comes, and return that."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, page: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while self.value("document.readyState") != "complete":
            time.sleep(0.1)

    def value(self, expression: str) -> Any:
        """Return what an expression of JavaScript is in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def choose(self, select: str, choice: str) -> None:
        changed = "new Event('change', {bubbles: true})"
        self.value(f"{select}.value = '{choice}'; {select}.dispatchEvent({changed})")

    def events_of(self, *methods: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event["method"] in methods]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    folder = tmp_path / "profile"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    process = subprocess.Popen([*command, "about:blank"], stderr=subprocess.DEVNULL)
    try:
        port = folder / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not port.is_file() or not port.read_text().strip():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.2)
        listed = urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list", timeout=30)
        [page] = [each for each in json.load(listed) if each["type"] == "page"]
        with connect(page["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Browser(connection)
    finally:
        process.kill()
        process.wait()


def shown(browser: Browser, kind: str) -> int:
    return browser.value(f"document.querySelectorAll('#answer-groups .answer.{kind}').length")


def test_the_report_of_three_seeds(browser: Browser, start: Callable, train: Callable, workplace: Path):
    runs = [train(f"seed={seed}", *SHORT)[0] for seed in SEEDS]
    page = workplace / "report.html"
    start(COMMAND, "report", *runs, "-o", page).output()

    browser.open(page)
    assert browser.value("document.querySelectorAll('figure svg').length") >= 8
    assert browser.value("document.querySelectorAll('.charts .line').length") > 0

    both = shown(browser, "right"), shown(browser, "wrong")
    assert min(both) > 0
    filter_of_kind = "[...document.querySelectorAll('#answer-controls select')][1]"
    browser.choose(filter_of_kind, "wrong")
    assert (shown(browser, "right"), shown(browser, "wrong")) == (0, both[1])
    browser.choose(filter_of_kind, "all")
    assert (shown(browser, "right"), shown(browser, "wrong")) == both

    for scheme, width in itertools.product(COLOR_SCHEMES, WIDTHS):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", features=features)
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 800
        )
        assert browser.value("document.documentElement.scrollWidth") <= width, (scheme, width)

    assert browser.events_of("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    asked = [event["request"]["url"] for event in browser.events_of("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith((page.as_uri(), "data:"))] == []
