"""The page of a participant says what there is to be said, and nothing of it is lost or torn."""

import json
import re
import shutil
import threading
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from vxmprep.bids.records import Record
from vxmprep.reports.boilerplate import ModelUsed
from vxmprep.reports.methods import EITHER, methods_of_records
from vxmprep.reports.page import write_page


class _Page(HTMLParser):
    """The words of a page and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.references, self.inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside.append(tag)
        found = dict(attrs)
        names = ("src", "href", "data-program", "data-volumes")
        self.references += [found[name] for name in names if found.get(name)]

    def handle_data(self, data):
        if self.inside and self.inside[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture
def page(output) -> _Page:
    return _Page(write_page(output, "01").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "said",
    [
        "sub-01_ses-a", "sub-01_ses-b",  # both scans
        "0.765", "0.654 by the affine alone; 3 structures, with those of the atlas", "7",
        "0.843 with the atlas", "from 0.610 to 0.820", "0.44 mm",  # those of the group's tables
        "Quality: warn.", "folding in 7 voxels",
        "Tried again: the affine is the best of 3 starts.", 'the affine is <doubtful> & "odd"',
        "Jacobian determinant on the atlas: could not be drawn",
        "Failed at step align.", "the <scan> is empty", "ValueError: the <scan> is empty",
        "Left-Thalamus-Proper", "atlas (tiny)",
        "15 s in all", "1.2 GB at most", "ef" * 32,
        "1 T1-weighted scan from 1 participant", "deepbet", "@article", "picsl_greedy",
    ],
)  # fmt: skip
def test_it_says(page, said):
    assert said in page.text


def test_a_doubt_that_is_a_reason_of_the_verdict_is_said_once(output):
    (metrics,) = output.glob("sub-01/**/*_metrics")
    found = json.loads(metrics.read_text())
    (flag,) = found["Flags"]
    quality = {"Verdict": "fail", "Reasons": [{"Verdict": "fail", "Reason": flag}]}
    metrics.write_text(json.dumps({**found, "Quality": quality}))
    page = _Page(write_page(output, "01").read_text(encoding="utf-8"))
    said = page.text.partition("Everything measured")[0]
    assert said.count(flag) == 1
    assert "To be checked" not in said


def test_all_that_it_refers_to_lies_in_the_output_folder(page, output):
    own = [one for one in page.references if not re.match(r"https?:|#|data:", one)]
    assert len(own) >= 9
    assert all((output / unquote(one)).is_file() for one in own)
    pictures = {one for one in own if one.endswith(".webp")}
    assert len(pictures) == len(list((output / "sub-01" / "figures").glob("*.webp")))
    # what lies elsewhere are only links to follow
    text = (output / "sub-01.html").read_text(encoding="utf-8")
    assert not re.search(r"<(?:img|script|link)[^>]+https?:", text)


def test_the_viewer_s_program_lies_there_once_with_its_licence(page, output):
    assert (output / "assets" / "niivue.js").stat().st_size > 1_000_000
    assert "Redistribution" in (output / "assets" / "niivue-licence.txt").read_text()


def test_a_page_that_is_made_again_is_the_same_and_a_moved_folder_makes_it_too(page, output):
    first = (output / "sub-01.html").read_bytes()
    moved = shutil.move(output, output.with_name("moved"))
    (moved / "sub-01.html").unlink()
    assert write_page(moved, "01").read_bytes() == first


def test_a_missing_picture_is_left_out(output):
    lost = next((output / "sub-01" / "figures").glob("*figure_grid*"))
    lost.unlink()
    text = write_page(output, "01").read_text(encoding="utf-8")
    assert lost.name not in text
    assert "Deformed grid" not in text


def test_of_a_participant_of_whom_nothing_is_known_no_page_is_made(output):
    assert write_page(output, "0") is None
    assert not (output / "sub-0.html").exists()


def test_jobs_that_write_one_page_at_the_same_time_leave_it_whole(output):
    seen, stop = [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            if (output / "sub-01.html").is_file():
                seen.append((output / "sub-01.html").read_text(encoding="utf-8"))

    def again() -> None:
        for number in range(3):
            record = Record.of(output, f"sub-01_ses-{threading.get_ident()}{number}")
            record.fail(step="align", cause="none")
            write_page(output, "01")

    looking = threading.Thread(target=look)
    looking.start()
    writing = [threading.Thread(target=again) for _ in range(3)]
    for thread in writing:
        thread.start()
    for thread in writing:
        thread.join()
    stop.set()
    looking.join()
    assert all(text.rstrip().endswith("</html>") for text in seen)
    assert (output / "sub-01.html").read_text(encoding="utf-8").count("<article") == 2 + 9 + 1


def test_the_methods_are_those_of_the_records_and_not_of_another_network(output):
    records = Record.of_participant(output, "01")
    found = methods_of_records(records, "tiny")
    assert (found.skull_strip, found.iterations, found.evaluated) == ("deepbet", 50, 1)
    assert found.model is None
    assert methods_of_records(records, "other") is None
    network = {"File": "models/x/model.pt", "SHA256": "12" * 32}
    for stage in ("register tiny", "evaluate tiny"):
        records[0].stages[stage]["settings"]["Model"] = network
    known = ModelUsed(name="x", sha256="12" * 32, steps=7, precision="bfloat16")
    assert methods_of_records(records, "tiny", known).model is known
    other = ModelUsed(name="x", sha256="34" * 32, steps=7, precision="bfloat16")
    assert methods_of_records(records, "tiny", other).model.precision == EITHER


def test_an_error_that_is_over_is_still_told(output):
    failed = Record.of(output, "sub-01_ses-b")
    failed.settle()
    assert failed.status != "failed"
    assert "Errors of earlier tries" in write_page(output, "01").read_text(encoding="utf-8")
