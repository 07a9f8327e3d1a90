"""Progress, tables and reading ahead."""

import time

import pytest

from vxmprep.training.loader import AHEAD, Prefetcher
from vxmprep.training.logs import Table, read_table
from vxmprep.training.report import SETTLED, Reporter


def values(smoothness: float) -> dict[str, float]:
    return {"similarity": 0.6, "smoothness": smoothness, "segmentation": 0.0}


@pytest.mark.parametrize(("smoothness", "warnings"), [(0.001, 1), (0.1, 0)])
def test_a_lambda_of_another_scale_is_warned_about_once(smoothness, warnings, told, capsys):
    reporter = Reporter(2000, told)
    for iteration in range(1, 1001):
        reporter.step(iteration, values(smoothness), 0.1)
    assert len(told) == warnings
    assert all("0.2% of the loss" in message for message in told)


def test_it_is_not_looked_at_before_fields_have_grown(told):
    reporter = Reporter(2000, told)
    for iteration in range(1, SETTLED):
        reporter.step(iteration, values(0.0), 0.1)
    assert not told


def test_the_line_tells_parts_their_shares_and_time_left(told, capsys):
    Reporter(1000, told).step(1, values(0.2), 2.0)
    said = capsys.readouterr().out
    assert "loss 0.8000 = similarity 0.6000 (75%) + smoothness 0.2000 (25%)" in said
    assert "at most 33 min left" in said


def test_a_table_goes_on_where_a_killed_run_left_it(tmp_path):
    path = tmp_path / "t.csv"
    table = Table(path, ("iteration", "loss"), 0)
    for iteration in range(1, 6):
        table.add({"iteration": iteration, "loss": iteration / 2})
    table.close()
    with path.open("a") as file:
        file.write("6,3.")
    table = Table(path, ("iteration", "loss"), 3)
    table.add({"iteration": 4, "loss": 9.0})
    table.close()
    assert read_table(path) == {"iteration": [1, 2, 3, 4], "loss": [0.5, 1, 1.5, 9]}


def test_reading_goes_ahead_in_order_but_not_too_far():
    read = []

    def note(iteration: int) -> int:
        read.append(iteration)
        return iteration

    with Prefetcher(note, 3, 13) as batches:
        for iteration, batch in batches:
            assert iteration == batch
            expected = min(iteration + 1 + AHEAD, 12)
            limit = time.monotonic() + 20
            while read[-1] < expected and time.monotonic() < limit:
                time.sleep(0.001)
            assert expected <= read[-1] <= expected + 1
    assert read == list(range(3, 13))


def test_an_error_in_reading_ends_the_loop():
    def read(iteration: int) -> int:
        if iteration == 2:
            raise ValueError("damaged")
        return iteration

    seen = []
    with pytest.raises(ValueError, match="damaged"), Prefetcher(read, 0, 10) as batches:
        seen.extend(iteration for iteration, _ in batches)


def test_leaving_early_ends_the_thread():
    with Prefetcher(lambda iteration: iteration, 0, 1000) as batches:
        next(iter(batches))
    assert not batches._thread.is_alive()
