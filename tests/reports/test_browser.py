"""The page of a participant in a real browser, opened from its file."""

from vxmprep.bids.records import Record, Stage
from vxmprep.evaluation.quality import FAIL, WARN, Quality
from vxmprep.reports.contents import OF_PREPARATION
from vxmprep.reports.page import write_page, write_verdicts

SPACE = "tiny"


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


def test_the_page_of_a_scan_that_is_only_prepared_shows_its_mask_and_affine(tab, output, drawn):
    record, shown = Record.of(output, "sub-02"), {}
    for name in OF_PREPARATION:
        shown[name] = output / "sub-02" / "figures" / f"sub-02_{name}.webp"
        shown[name].parent.mkdir(parents=True, exist_ok=True)
        shown[name].write_bytes(drawn[0][name].read_bytes())
    settings = Record.of(output, "sub-01_ses-a").stages[f"align {SPACE}"]["settings"]
    for name, after in (("brain", ""), ("align", "brain"), ("labels", "align")):
        stage = Stage(name, "" if name == "brain" else SPACE, settings, after=after)
        record.finish(stage, files={}, checksums={})
    record.finish(Stage("preview", SPACE, {}, after="align"), files=shown, checksums={})
    tab.goto(write_page(output, "02").as_uri())
    tab.click("[data-play]")
    frame = "document.querySelector('.frames .on').dataset.frame"
    first = tab.evaluate(frame)
    tab.click(".frames")
    assert {first, tab.evaluate(frame)} == {"atlas", "affine"}
    assert tab.locator("[data-pair]").all_inner_texts() == ["atlas ↔ affine alone"]
    assert tab.is_visible("[data-contours]")
    assert "it is not registered yet" in tab.inner_text(".flicker figcaption")
    assert tab.locator("img[alt='outline of the brain mask on the scan']").count() == 1
    assert tab.wrong == []


def test_a_page_tells_what_the_cohort_says_of_its_result_but_not_of_an_earlier_one(tab, output):
    """The page is older than the verdict, and the output folder may have been moved."""
    page = write_page(output, "01")
    (metrics,) = output.glob("sub-01/**/*_metrics")
    (output / "group.html").write_text("<p>all</p>", encoding="utf-8")
    quality = Quality.of([(WARN, "odd"), (FAIL, 'Dice is <0.1> & "low"')])
    write_verdicts(output, [("sub-01_ses-a", SPACE, metrics, quality)])
    moved = output.rename(output.with_name("moved"))
    page, metrics = moved / page.name, moved / metrics.relative_to(output)

    def shown() -> tuple[str, str]:
        tab.goto(page.as_uri())
        box = tab.locator("[data-result]")
        return box.get_attribute("class"), box.inner_text()

    style, words = shown()
    assert style == "note fail"
    assert "Quality: fail." in words
    assert words.index("Dice is <0.1>") < words.index("odd") < words.index("within its cohort")
    assert "folding in 7 voxels" not in words
    assert tab.locator("nav a:has-text('cohort')").get_attribute("href") == "group.html"
    tab.click("[data-result] a")
    assert tab.url == f"{(moved / 'group.html').as_uri()}#sub-01_ses-a"

    metrics.write_text(metrics.read_text() + " ")
    write_page(moved, "01")
    style, words = shown()
    assert style == "note warn"
    assert "folding in 7 voxels" in words
    assert "by this scan alone" in words
    assert tab.wrong == []


def test_a_page_without_a_cohort_does_not_lead_to_it(tab, output):
    tab.goto(write_page(output, "01").as_uri())
    assert not tab.is_visible("nav a:has-text('cohort')")
    assert "by this scan alone" in tab.inner_text("[data-result]")
    assert tab.wrong == []
