"""The graph on one machine: order, resources, failures, workers that are killed."""

from itertools import pairwise
from pathlib import Path

import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.cli.execute import gpu_names
from vxmprep.cli.plugin import OneMachine, Resources


def add_one(x):
    return x + 1


def fail_if_two(x):
    if x == 2:
        raise ValueError("this scan is broken")
    return x


def die_if_two(x):
    import os
    import signal
    import time

    if x == 2:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def note_time(x, notes, together=1):
    """Note when it ran; on a busy machine it waits until so many have begun."""
    import time
    from pathlib import Path

    began = time.time()
    Path(notes, f"{x}.begun").touch()
    while len(list(Path(notes).glob("*.begun"))) < together and time.time() < began + 60:
        time.sleep(0.05)
    time.sleep(0.4)
    Path(notes, f"{x}.txt").write_text(f"{began} {time.time()}")
    return x


def node(function, name, **inputs):
    one = pe.Node(niu.Function(function=function, output_names=["x"]), name=name)
    for key, value in inputs.items():
        setattr(one.inputs, key, value)
    return one


def branches(folder: Path, function, count: int, **inputs) -> pe.Workflow:
    """Make `count` branches of two nodes: the function, then one more."""
    graph = pe.Workflow("cohort", base_dir=str(folder / "work"))
    for i in range(count):
        branch = pe.Workflow(f"scan{i}")
        last = node(add_one, "last")
        branch.connect(node(function, "first", x=i, **inputs), "x", last, "x")
        graph.add_nodes([branch])
    graph.config["execution"] = {
        "crashdump_dir": str(folder / "crashes"),
        "crashfile_format": "txt",
        "stop_on_first_crash": "false",
        "create_report": "false",
    }
    return graph


class Heard(list):
    """What the plugin told."""

    def __call__(self, one, status, usage):
        self.append((one.fullname.removeprefix("cohort."), status))

    def of(self, status: str) -> list[str]:
        return [name for name, told in self if told == status]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a graph and give what was heard and the error at the end."""
    monkeypatch.chdir(tmp_path)

    def go(graph, resources=None, **more):
        heard, error = Heard(), None
        plugin = OneMachine(
            {"resources": resources or Resources(2, 4.0), "status_callback": heard, **more}
        )
        try:
            graph.run(plugin=plugin)
        except RuntimeError as raised:
            error = raised
        return heard, error

    return go


def crash_texts(folder: Path) -> list[str]:
    return [file.read_text() for file in sorted((folder / "crashes").glob("crash-*.txt"))]


def test_every_node_runs_once_after_what_it_needs(run, tmp_path):
    heard, error = run(branches(tmp_path, add_one, 3))
    assert error is None
    assert sorted(heard.of("end")) == sorted(
        f"scan{i}.{name}" for i in range(3) for name in ("first", "last")
    )
    for i in range(3):
        first, last = (
            heard.index((f"scan{i}.first", "end")),
            heard.index((f"scan{i}.last", "start")),
        )
        assert first < last


def test_values_go_from_node_to_node(run, tmp_path):
    graph = branches(tmp_path, add_one, 1)
    run(graph)
    kept = pe.Node(
        niu.Function(function=add_one, output_names=["x"]), name="last",
        base_dir=str(tmp_path / "work" / "cohort" / "scan0"),
    )  # fmt: skip
    assert kept.result.outputs.x == 2


def test_a_scan_that_has_begun_is_finished_before_another_begins(run, tmp_path):
    heard, _ = run(branches(tmp_path, add_one, 4), Resources(1, 4.0))
    assert heard.of("start") == [f"scan{i}.{n}" for i in range(4) for n in ("first", "last")]


def test_a_failing_node_leaves_the_other_branches_whole(run, tmp_path):
    heard, error = run(branches(tmp_path, fail_if_two, 4))
    assert "1 nodes failed" in str(error)
    assert heard.of("exception") == ["scan2.first"]
    assert "scan2.last" not in heard.of("start")
    assert {f"scan{i}.last" for i in (0, 1, 3)} <= set(heard.of("end"))
    (crash,) = crash_texts(tmp_path)
    assert "this scan is broken" in crash


def test_a_worker_killed_for_real_fails_its_node_by_name_and_the_others_finish(run, tmp_path):
    graph = branches(tmp_path, die_if_two, 6)
    graph.get_node("scan2.first")._mem_gb = 1.5
    heard, error = run(graph)
    assert "1 nodes failed" in str(error)
    assert heard.of("exception") == ["scan2.first"]
    assert {f"scan{i}.last" for i in (0, 1, 3, 4, 5)} <= set(heard.of("end"))
    (crash,) = crash_texts(tmp_path)
    assert "step first was killed by SIGKILL" in crash
    assert "estimated to need 1.5 GB" in crash
    assert "lower --nprocs" in crash


def test_the_first_failure_ends_the_run_where_that_is_asked(run, tmp_path):
    graph = branches(tmp_path, fail_if_two, 8)
    graph.config["execution"]["stop_on_first_crash"] = "true"
    heard, error = run(graph, Resources(1, 4.0))
    assert "stopped" in str(error)
    assert "scan1.last" in heard.of("end")
    assert not [name for name in heard.of("start") if name.startswith("scan3")]


def overlapping(folder: Path) -> int:
    """Give the largest number of noted spans that overlap."""
    spans = [tuple(map(float, f.read_text().split())) for f in folder.glob("*.txt")]
    return max(sum(a <= start < b for a, b in spans) for start, _ in spans)


@pytest.mark.parametrize(
    ("resources", "processors", "memory", "at_once"),
    [
        (Resources(3, 4.0), 1, 0.1, 3),
        (Resources(3, 4.0), 2, 0.1, 1),
        (Resources(3, 1.0), 1, 0.5, 2),
        (Resources(3, 1.0), 9, 9.0, 1),
    ],
)
def test_no_more_runs_at_once_than_there_is_room_for(
    run, tmp_path, resources, processors, memory, at_once
):
    notes = tmp_path / "notes"
    notes.mkdir()
    graph = branches(tmp_path, note_time, 4, notes=str(notes), together=at_once)
    for i in range(4):
        one = graph.get_node(f"scan{i}.first")
        one.n_procs, one._mem_gb = processors, memory
    _, error = run(graph, resources)
    assert error is None
    assert overlapping(notes) == at_once


def test_a_node_that_needs_much_is_not_overtaken_for_ever(run, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    graph = branches(tmp_path, note_time, 6, notes=str(notes))
    graph.get_node("scan1.first").n_procs = 2
    heard, error = run(graph)
    assert error is None
    started = [name for name in heard.of("start") if name.endswith("first")]
    assert started[:2] == ["scan0.first", "scan1.first"]


def note_gpu(x, notes, use_gpu):
    import os
    import time
    from pathlib import Path

    began = time.time()
    time.sleep(0.4)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    Path(notes, f"{x}.txt").write_text(f"{began} {time.time()} {seen} {os.getpid()}")
    return x


def test_each_of_several_gpus_is_one_nodes_at_a_time_and_no_other_is_seen(run, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    graph = branches(tmp_path, note_gpu, 6, notes=str(notes), use_gpu=True)
    graph.get_node("scan5.first").inputs.use_gpu = False
    _, error = run(graph, resources=Resources(4, 4.0, gpus=2), gpus=("GPU-a", "3"))
    assert error is None
    spans = {}
    for file in notes.glob("*.txt"):
        began, ended, gpu, process = file.read_text().split()
        spans.setdefault(gpu, []).append((float(began), float(ended), process))
    assert set(spans) == {"GPU-a", "3", "all"}
    assert len(spans["all"]) == 1, "what wants no GPU is given none"
    for gpu in ("GPU-a", "3"):
        ordered = sorted(spans[gpu])
        assert all(one[1] <= next_one[0] for one, next_one in pairwise(ordered))
        assert len({process for _, _, process in ordered}) == 1, "a worker keeps its GPU"


@pytest.mark.parametrize(
    ("device", "visible", "names"),
    [
        ("cuda", None, ("0", "1")),
        ("cuda", "4,GPU-b", ("4", "GPU-b")),
        ("cuda:1", None, ()),
        ("cpu", "4", ()),
    ],
)
def test_gpus_are_named_as_this_process_sees_them(monkeypatch, device, visible, names):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_names(device) == names
