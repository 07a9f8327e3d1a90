"""The page of a cohort: its data, and what a person does with it in a real browser."""

import json
import re

from vxmprep.bids.tables import OVERLAP_COLUMNS, REGISTRATION_COLUMNS
from vxmprep.reports.group import group_page, joined

SPACE = "MNI"


def scan_row(name: str, **more: str) -> dict[str, str]:
    row = dict.fromkeys(REGISTRATION_COLUMNS, "n/a")
    return {**row, "scan": name, "space": SPACE, "quality": "pass", "status": "done", **more}


def structure_row(name: str, structure: str, affine: float, full: float) -> dict[str, str]:
    row = dict.fromkeys(OVERLAP_COLUMNS, "n/a")
    return {
        **row, "scan": name, "space": SPACE, "name": structure, "reference": "consensus of 9",
        "dice_affine": str(affine), "dice": str(full),
    }  # fmt: skip


def page(scans: int = 6, **more) -> str:
    names = [f"sub-{i:02}" for i in range(1, scans + 1)]
    numbers = {
        name: {
            "dice_affine": f"{0.6 + 0.01 * i}", "dice": f"{0.85 - 0.01 * i}", "ncc": "0.8",
            "folded_percent": "0.0001", "seconds": str(40 + i), "segmentation": "aseg.mgz",
            "reference": "consensus of 9", "hd95_mm": "1.5", "atlas_dice": "0.7", "sdlogj": "0.5",
            "non_diffeomorphic_percent": "0", "inverse_p99_mm": "0.4", "mask_ml": "1500",
        }
        for i, name in enumerate(names)
    }  # fmt: skip
    rows = [scan_row(name, **values) for name, values in numbers.items()]
    rows += [
        scan_row("sub-90", quality="fail", why="affine: turned by 178 degrees <b>&"),
        scan_row("sub-05b", quality="fail", why="affine: odd"),
        scan_row("sub-92", quality="unfinished", why="prepared, not yet registered"),
        scan_row("sub-91", quality="warn", why="folded voxels (%) is 0.3", dice="0.7",
                 dice_affine="0.65"),
    ]  # fmt: skip
    structures = [
        structure_row(name, f"{side}-{part}", 0.6, dice)
        for name in names
        for side in ("Left", "Right")
        for part, dice in (("Putamen", 0.9), ("Amygdala", 0.8))
    ]
    shares = {"1": 0.4, "5": 0.5, "25": 0.8, "50": 1.0, "75": 1.2, "95": 1.6, "99": 2.1}
    jacobians = {(name, SPACE): shares for name in names}
    links = {("sub-01", SPACE): ("sub-01.html", "sub-01/figures/a.webp")}
    return group_page(rows, structures, jacobians=jacobians, links=links, version="1.2.3", **more)


def data_of(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found[1])


def test_left_and_right_are_joined_and_the_best_structure_stands_first():
    rows = [
        structure_row("sub-01", "Left-Amygdala", 0.5, 0.7),
        structure_row("sub-01", "Right-Amygdala", 0.6, 0.8),
        structure_row("sub-01", "ctx-lh-insula", 0.4, 0.9),
    ]
    assert joined(rows) == {("sub-01", SPACE): {"Amygdala": (0.55, 0.75), "insula": (0.4, 0.9)}}
    assert data_of(page())["structures"] == ["Putamen", "Amygdala"]


def test_without_a_consensus_the_atlas_labels_are_shown_and_named():
    row = {**structure_row("sub-01", "Left-Amygdala", 0, 0), "reference": "n/a"}
    row |= {"dice": "n/a", "atlas_dice_affine": "0.5", "atlas_dice": "0.6"}
    found = joined([row])
    assert found == {("sub-01", SPACE): {"Amygdala": (0.5, 0.6)}}
    scan = scan_row("sub-01", segmentation="aseg.mgz", atlas_reference="atlas (approximate)")
    text = group_page([scan], [row], jacobians={}, links={}, version="1")
    assert "atlas (approximate); too few participants" in data_of(text)["dice_notes"][SPACE]


def test_a_scan_without_a_consensus_is_not_shown_with_another_reference_among_those_with_one():
    alone = {**structure_row("sub-02", "Left-Amygdala", 0, 0), "reference": "n/a"}
    alone |= {"dice_affine": "n/a", "dice": "n/a", "atlas_dice_affine": "0.3", "atlas_dice": "0.4"}
    elsewhere = {**alone, "space": "other"}
    found = joined([structure_row("sub-01", "Left-Amygdala", 0.5, 0.7), alone, elsewhere])
    assert found == {
        ("sub-01", SPACE): {"Amygdala": (0.5, 0.7)},
        ("sub-02", "other"): {"Amygdala": (0.3, 0.4)},
    }


def test_a_scan_in_two_atlases_is_shown_in_each_with_its_own_picture_and_reference():
    others = {"segmentation": "aseg.mgz", "reference": "consensus of 9"}
    named = {"segmentation": "aseg.mgz", "atlas_reference": "atlas b", "space": "b"}
    rows = [scan_row("sub-01", **others), scan_row("sub-01", **named)]
    links = {("sub-01", SPACE): (None, "a.webp"), ("sub-01", "b"): (None, "b.webp")}
    data = data_of(group_page(rows, [], jacobians={}, links=links, version="1"))
    assert [scan["thumb"] for scan in data["scans"]] == ["a.webp", "b.webp"]
    assert "consensus of 9" in data["dice_notes"][SPACE]
    assert "labels of the atlas b" in data["dice_notes"]["b"]


def test_the_page_asks_nothing_of_any_other_machine_and_holds_no_broken_number():
    text = page()
    assert not re.search(r'(?:src|href)="https?:', text)
    assert "NaN" not in text.split("<script>")[0]
    assert "</b>" not in text
    assert "<b>" not in text.partition('id="data">')[2].partition("</script>")[0]


def test_a_cohort_without_labels_or_results_has_a_page():
    text = group_page([scan_row("sub-01")], [], jacobians={}, links={}, version="1")
    assert data_of(text)["dice_notes"] == {SPACE: "No scan has a segmentation."}
    assert group_page([], [], jacobians={}, links={}, version="1")


def rows_of(tab) -> list[str]:
    return tab.eval_on_selector_all(
        "#table tbody tr", "rows => rows.map((row) => row.dataset.scan)"
    )


def test_a_person_sorts_filters_and_finds_scans(tab, tmp_path):
    row = {"name": "Amygdala", "p": 0.00001, "corrected": True,
           "effect": 0.5, "other": 0.7, "dice": 0.8,
           "difference": 0.1, "low": 0.05, "high": 0.15, "participants": 9}  # fmt: skip
    compared = {"other": "before", "words": "better", "rows": [row]}
    (tmp_path / "sub-01" / "figures").mkdir(parents=True)
    (tmp_path / "sub-01" / "figures" / "a.webp").write_bytes(b"RIFF")
    (tmp_path / "group.html").write_text(page(compare=compared), encoding="utf-8")
    tab.goto((tmp_path / "group.html").as_uri())

    # The failures first, as the table has them: the worst of them first.
    assert rows_of(tab)[:5] == ["sub-90", "sub-05b", "sub-92", "sub-91", "sub-01"]
    assert "sub-05b" in tab.locator("#look li").nth(1).inner_text()
    # What is not done yet has nothing to look at.
    assert tab.locator("#look li").last.inner_text().startswith("unfinished sub-92: prepared")
    chips = tab.locator("#chips button").all_inner_texts()
    assert chips == ["2 fail", "1 unfinished", "1 warn", "6 pass"]
    first = tab.locator("#look li").first.inner_text()
    assert first == "fail sub-90: affine: turned by 178 degrees <b>&"
    assert tab.locator("#boxes .box").count() == 4
    assert tab.locator("#beforeafter circle").count() == 7
    assert tab.get_attribute("#table td a", "href") == "sub-01.html"
    assert "Compared with before" in tab.inner_text("#compare-section")
    assert "+0.100, p < 0.001" in tab.text_content("#compare-section")

    tab.click("th[data-key=dice]")
    assert rows_of(tab)[0] == "sub-91"
    assert set(rows_of(tab)[-3:]) == {"sub-90", "sub-05b", "sub-92"}  # they have none
    tab.click("th[data-key=dice]")
    assert rows_of(tab)[0] == "sub-01"
    assert set(rows_of(tab)[-3:]) == {"sub-90", "sub-05b", "sub-92"}
    assert tab.get_attribute("th[data-key=dice]", "aria-sort") == "descending"

    tab.press("th[data-key=ncc]", "Enter")
    assert tab.get_attribute("th[data-key=ncc]", "aria-sort") == "ascending"
    assert tab.evaluate("document.activeElement.dataset.key") == "ncc"

    tab.fill("#search", "178 deg")
    assert rows_of(tab) == ["sub-90"]
    assert tab.inner_text("#boxes") == "No scan shown has a segmentation in atlas space."
    tab.fill("#search", "")
    tab.click("[data-verdict=pass]")
    assert set(rows_of(tab)) == {"sub-90", "sub-05b", "sub-91", "sub-92"}
    assert "4 of 10 scans shown" in tab.inner_text("#shown")
    tab.click("[data-verdict=pass]")

    tab.dispatch_event("#beforeafter circle[data-scan=sub-03]", "click")
    assert tab.get_attribute("tr.marked", "data-scan") == "sub-03"
    tab.dispatch_event("#beforeafter circle[data-scan=sub-91]", "mousemove")
    assert tab.inner_text("#tip").startswith("sub-91: 0.650 to 0.700")

    tab.goto(f"{tab.url}#sub-02")  # a participant's page leads to its row
    assert tab.get_attribute("tr.marked", "data-scan") == "sub-02"

    gap = tab.evaluate(
        "document.querySelector('#dice-note').getClientRects()[0].left"
        " - document.querySelector('.key').getBoundingClientRect().right"
    )
    assert gap > 10, "the legend and its note are apart"

    box = "(box => [box.scrollWidth, box.clientWidth])(document.querySelector('.scroll'))"
    full, seen = tab.evaluate(box)
    assert full <= seen, "all columns are seen"

    assert tab.wrong == []
    assert all(url.startswith("file:") for url in tab.asked)
