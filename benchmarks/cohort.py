"""What the command itself costs for a large cohort: planning, the graph, the plugin, a second run.

No scan is processed: the steps of the graph are replaced by ones that do nothing, so that all that
is measured is bookkeeping. Prints a row per cohort size.

    python benchmarks/cohort.py [SCANS ...]
"""

import argparse
import contextlib
import io
import json
import shutil
import tempfile
import time
from pathlib import Path

import nibabel as nb
import numpy as np
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.bids.records import Record
from vxmprep.cli.execute import SCANS_A_GRAPH
from vxmprep.cli.parser import parse
from vxmprep.cli.plan import make_plan
from vxmprep.cli.plugin import OneMachine, Resources
from vxmprep.cli.run import main as run_command

NODES = 17
"""Steps of a scan."""


def idle(x: int) -> int:
    """Do nothing."""
    return x


def make_dataset(folder: Path, scans: int) -> list[str]:
    """Write a dataset of empty heads, and give the words of a command line."""
    bids = folder / "bids"
    data = np.zeros((64, 64, 64), np.int16)
    image = nb.Nifti1Image(data, np.eye(4))
    image.set_sform(np.eye(4), 1)
    nb.save(image, folder / "scan.nii.gz")
    for number in range(scans):
        anat = bids / f"sub-{number:05d}" / "anat"
        anat.mkdir(parents=True)
        shutil.copy(folder / "scan.nii.gz", anat / f"sub-{number:05d}_T1w.nii.gz")
    description = {"Name": "benchmark", "BIDSVersion": "1.10.0"}
    (bids / "dataset_description.json").write_text(json.dumps(description))
    return [str(bids), str(folder / "out"), "participant", "-w", str(folder / "work")]


def pretend_done(words: list[str]) -> None:
    """Leave the records and (empty) files of a finished run."""
    from vxmprep.spatial.files import checksum

    for task in make_plan(parse(words)).tasks:
        for stage in task.stages:
            path = task.record.output_dir / f"{task.scan.stem}/{stage.name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            known = {str(file): checksum(file) for file in stage.inputs}
            more = {"strip_method": "none"} if stage.name == "brain" else {}
            task.record.finish(stage, files={stage.name: path}, checksums=known, **more)


def plugin_seconds(folder: Path, scans: int) -> tuple[float, float]:
    """Give processor seconds of the plugin per node, and wall seconds per node on two workers."""
    graph = pe.Workflow("cohort", base_dir=str(folder / "graph"))
    for number in range(scans):
        branch = pe.Workflow(f"scan{number}")
        before = None
        for step in range(NODES):
            node = pe.Node(
                niu.Function(function=idle, output_names=["x"]), name=f"step{step}", mem_gb=0.1
            )
            if before is None:
                node.inputs.x = number
                branch.add_nodes([node])
            else:
                branch.connect(before, "x", node, "x")
            before = node
        graph.add_nodes([branch])
    graph.config["execution"] = {"create_report": "false", "stop_on_first_crash": "false"}
    plugin = OneMachine({"resources": Resources(2, 8.0)})
    spent = {}

    def timed(execgraph, config, updatehash=False):
        wall, used = time.perf_counter(), time.process_time()
        OneMachine.run(plugin, execgraph, config, updatehash)
        spent["cpu"] = time.process_time() - used
        spent["wall"] = time.perf_counter() - wall

    plugin.run = timed
    graph.run(plugin=plugin)
    return spent["cpu"] / (scans * NODES), spent["wall"] / (scans * NODES)


def measure(scans: int, *, with_plugin: bool) -> dict[str, str]:
    """Measure one cohort size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = make_dataset(folder, scans)
        began = time.perf_counter()
        plan = make_plan(parse(words))
        planned = time.perf_counter()
        graph = plan.graph(plan.pending[:SCANS_A_GRAPH])
        built = time.perf_counter()
        from nipype.pipeline.engine.utils import generate_expanded_graph

        generate_expanded_graph(graph._create_flat_graph())
        flat = time.perf_counter()
        pretend_done(words)
        assert all(
            not Record.of(folder / "out", t.scan.stem).missing(t.stages) for t in plan.tasks
        )
        again = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            assert run_command(words) == 0
        row = {
            "scans": str(scans),
            "plan s": f"{planned - began:.2f}",
            "build a graph s": f"{built - planned:.2f}",
            "nipype's own graph work s": f"{flat - built:.2f}",
            "second run s": f"{time.perf_counter() - again:.2f}",
        }
        if with_plugin:
            cpu, wall = plugin_seconds(folder, scans)
            row |= {"plugin ms a node": f"{1000 * cpu:.1f}", "node ms": f"{1000 * wall:.1f}"}
        return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", nargs="*", type=int, default=[100, 500, 1000])
    parser.add_argument("--plugin", action="store_true", help="run the graph too")
    options = parser.parse_args()
    for size in options.scans:
        row = measure(size, with_plugin=options.plugin)
        print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
