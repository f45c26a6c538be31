"""The page in a real browser, opened from file://: no console error, no request, structures drawn, nothing sticks out.

Headless Chromium is driven through chromedriver's HTTP interface (W3C WebDriver), which needs the standard library only.
"""

import contextlib
import json
import re
import shutil
import subprocess
import urllib.request

import pytest

from heatbath.report import build

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and chromedriver"),
]

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# The browser must not reach anything, whatever it wants for itself: every name fails to resolve.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1280,1600",
]


class Browser:
    """One session of a browser."""

    def __init__(self, address):
        self.address, self.session = address, None

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.address}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with DIRECT.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def start(self, profile, *extra):
        options = {"binary": CHROMIUM, "args": [*ARGUMENTS, f"--user-data-dir={profile}", *extra]}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": logs}}
        self.session = f"/session/{self.call('POST', '/session', {'capabilities': wanted})['sessionId']}"

    def open(self, path):
        self.call("POST", f"{self.session}/url", {"url": path.as_uri()})

    def ask(self, script):
        return self.call("POST", f"{self.session}/execute/sync", {"script": f"return {script}", "args": []})

    def errors(self):
        """Console messages of level error, uncaught exceptions among them."""
        entries = self.call("POST", f"{self.session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def requests(self):
        """Addresses that pages asked for, without the page itself, data that it holds and the browser's own first tab."""
        entries = self.call("POST", f"{self.session}/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not re.match(r"data:|blob:|chrome|file:///.*\.html$", url)]


@contextlib.contextmanager
def started(profile, *extra):
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        try:
            port = next(found[1] for line in driver.stdout if (found := re.search(r"success.* on port (\d+)", line)))
            browser = Browser(f"http://127.0.0.1:{port}")
            browser.start(profile, *extra)
            yield browser
            browser.call("DELETE", browser.session)
        finally:
            driver.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def test_a_molecule_opens_without_error_or_request(browser, molecule_run):
    """A page that works in the author's browser only, or that loads something, is not self-contained."""
    browser.open(build(molecule_run))
    assert browser.ask("document.title") == "alanine-dipeptide – heatbath"
    assert browser.errors() == []
    assert browser.requests() == []


def test_structures_are_drawn(browser, molecule_run):
    """An empty box in place of a molecule: a wrong format, a missing library, a viewer of height zero."""
    browser.open(build(molecule_run))
    views = browser.ask("document.querySelectorAll('.view').length")
    assert views == 2
    assert browser.ask("document.querySelectorAll('.view canvas').length") >= views
    assert browser.ask("document.querySelectorAll('.view p').length") == 0
    assert browser.ask("document.querySelector('.view canvas').height") > 100


@pytest.mark.parametrize("width", [1280, 500])
def test_nothing_sticks_out(browser, molecule_run, width):
    """A table or figure wider than the window makes the whole page scroll sideways."""
    browser.call("POST", f"{browser.session}/window/rect", {"width": width, "height": 1600})
    browser.open(build(molecule_run))
    assert browser.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("width", [1280, 420])
def test_sections_of_generators_fit_the_window(browser, sections_run, width):
    """Wide tables and rows of maps scroll in their cards; the page itself never does."""
    browser.call("POST", f"{browser.session}/window/rect", {"width": width, "height": 1600})
    browser.open(build(sections_run))
    assert browser.errors() == []
    assert browser.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.ask("document.querySelectorAll('figure svg').length") >= 12


def test_a_toy_opens_without_error(browser, toy_run):
    """The page without structures carries no viewer and must not miss it."""
    browser.open(build(toy_run))
    assert browser.errors() == []
    assert browser.requests() == []
    assert browser.ask("document.querySelectorAll('figure svg').length") >= 5
    assert browser.ask("typeof $3Dmol") == "undefined"


def test_without_webgl_the_files_are_named(molecule_run, tmp_path):
    """On a machine without WebGL the reader must learn where the structures are, and see no error."""
    with started(tmp_path / "profile", "--disable-3d-apis") as browser:
        browser.open(build(molecule_run))
        assert "structures/basin-0.pdb" in browser.ask("document.querySelector('.view').innerText")
        assert browser.errors() == []


def test_the_check_sees_errors_and_requests(browser, tmp_path):
    """Negative control: a page that fails and calls home must be caught by the same functions."""
    page = tmp_path / "bad.html"
    page.write_text("<!doctype html><img src='http://example.invalid/x.png'><script>undefinedFunction()</script>")
    browser.open(page)
    assert any("undefinedFunction" in message for message in browser.errors())
    assert "http://example.invalid/x.png" in browser.requests()
