"""The page of a participant in a real browser, opened from its file."""

import os
import shutil

import pytest

from vxmprep.reports.page import write_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture
def tab():
    """A page of a headless Chromium, which notes errors and what it asks of other machines."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("VXMPREP_TEST_BROWSER") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    if program is None:
        pytest.skip("no Chromium is at hand; set VXMPREP_TEST_BROWSER")
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=options)
        tab = browser.new_page(viewport={"width": 1300, "height": 900})
        tab.wrong, tab.asked = [], []
        tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
        tab.on(
            "console",
            lambda said: said.type in ("error", "warning") and tab.wrong.append(said.text),
        )
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.set_default_timeout(120_000)
        yield tab
        browser.close()


def test_a_page_flickers_shows_contours_and_the_viewer_goes_from_before_to_after(tab, output):
    tab.goto(write_page(output, "01").as_uri())
    shown = "[...document.querySelectorAll('.frames .on')].map(image => image.dataset.frame)"
    first = tab.evaluate(shown)
    tab.wait_for_function(f"JSON.stringify({shown}) !== '{str(first).replace(chr(39), chr(34))}'")
    tab.click("[data-play]")
    tab.click("text=affine alone ↔ registered")
    assert tab.evaluate(shown) == ["full"]
    tab.click(".frames")
    assert tab.evaluate(shown) == ["affine"]
    assert tab.inner_text(".flicker output") == "scan, affine alone"
    assert not tab.is_visible(".contours")
    tab.check("[data-contours]")
    assert tab.is_visible(".contours")

    loaded = "[...document.images].every(image => image.naturalWidth > 0)"
    tab.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    tab.wait_for_function(loaded)

    tab.click("text=Open the 3-D viewer")
    tab.wait_for_function("document.querySelector('.viewer').viewer")
    opacity = "document.querySelector('.viewer').viewer.volumes.map(one => one.opacity)"
    assert tab.evaluate(opacity) == [1, 1, 0, 0, 0]
    pixels = """() => {
      const gl = document.querySelector('.viewer').viewer.gl;
      document.querySelector('.viewer').viewer.drawScene();
      const [w, h] = [gl.drawingBufferWidth, gl.drawingBufferHeight];
      const data = new Uint8Array(4 * w * h);
      gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, data);
      return data.reduce((sum, value) => sum + value, 0) / data.length;
    }"""
    bright = tab.evaluate(pixels)
    tab.locator("[data-volume=full]").fill("0.25")
    assert tab.evaluate(opacity) == [1, 0.25, 0, 0, 0]
    tab.locator("[data-volume=atlas_labels]").fill("1")
    assert tab.evaluate(opacity) == [1, 0.25, 0, 1, 0]
    assert tab.evaluate(pixels) != bright
    assert bright > 64 + 5, "there is a brain, not a black canvas"

    assert tab.wrong == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in tab.asked)
