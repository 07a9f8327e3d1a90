"""The page of a participant in a real browser, opened from its file."""

from vxmprep.reports.page import write_page


def test_a_page_flickers_shows_contours_and_the_viewer_goes_from_before_to_after(tab, output):
    tab.set_viewport_size({"width": 640, "height": 480})  # without a GPU every pixel costs
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
