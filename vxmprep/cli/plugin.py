"""nipype's graph on one machine: a scan after the other, and none lost to another's failure."""

from __future__ import annotations

import heapq
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nipype.pipeline.engine.utils import topological_sort
from nipype.pipeline.plugins.base import PluginBase
from nipype.pipeline.plugins.multiproc import run_node
from nipype.pipeline.plugins.tools import report_crash

from vxmprep.cli.progress import clock
from vxmprep.cli.workers import Outcome, Usage, Worker, answered

if TYPE_CHECKING:
    import networkx as nx
    from nipype.pipeline import engine as pe

PATIENCE = 1.0
"""Seconds between two looks at the clock while nothing happens."""


class NodesFailedError(RuntimeError):
    """Nodes of a graph have failed; their crash files say why."""


@dataclass(frozen=True)
class Resources:
    """Processors, memory in GiB and GPU slots: what there is, or what a node needs."""

    processors: int
    memory_gb: float
    gpus: int = 0

    def minus(self, other: Resources) -> Resources:
        """Give what is left after taking away."""
        return Resources(
            self.processors - other.processors,
            self.memory_gb - other.memory_gb,
            self.gpus - other.gpus,
        )

    def cover(self, need: Resources) -> bool:
        """Tell whether a need can be met."""
        return (
            need.processors <= self.processors
            and need.memory_gb <= self.memory_gb + 1e-9
            and need.gpus <= self.gpus
        )


class OneMachine(PluginBase):
    """Run a graph in worker processes of this machine, scan by scan.

    nipype's own MultiProc waits for ever when a worker is killed, runs a cohort step by step (all
    results come at the very end), and its bookkeeping grows with the square of the cohort. Here a
    worker's death is its node's failure, scans that have begun come first, and a node costs a
    millisecond.

    Parameters
    ----------
    plugin_args : dict
        ``resources`` (Resources) of the machine; ``gpus``, names of its GPUs as
        CUDA_VISIBLE_DEVICES has them: a node that takes a GPU slot sees one of them alone (where
        none is named, all that there are); and ``status_callback``, called with the node,
        ``"start"``, ``"end"`` or ``"exception"``, and a `Usage`; and ``idle_callback``, called at
        least once a second while nodes run.
    """

    def __init__(self, plugin_args: dict) -> None:
        super().__init__(plugin_args=plugin_args)
        self._all: Resources = plugin_args["resources"]
        self._gpus: list[str] = list(plugin_args.get("gpus", ()))
        self._tell: Callable = plugin_args.get("status_callback", _ignore)
        self._idle: Callable = plugin_args.get("idle_callback", _ignore)
        self._running: dict[Worker, pe.Node] = {}
        self._resting: list[Worker] = []

    def run(self, graph: nx.DiGraph, config: dict, updatehash: bool = False) -> None:
        """Run all nodes that can be run; the failed ones leave crash files.

        Raises
        ------
        NodesFailedError
            At the end, if nodes failed; at the first failure if ``stop_on_first_crash`` is set.
        """
        stop = str(config["execution"]["stop_on_first_crash"]).lower() == "true"
        queue = _Queue(graph)
        failed = 0
        try:
            while queue.ready or self._running:
                self._start(queue, updatehash)
                for worker in answered(self._running, PATIENCE):
                    failed += not self._finish(worker, queue)
                    if failed and stop:
                        raise NodesFailedError("stopped at the first failure")
                self._idle()
        except BaseException:
            workers = [*self._running, *self._resting]
            for worker in workers:
                worker.strike()
            for worker in workers:
                worker.kill()
            raise
        for worker in self._resting:
            worker.stop()
        if failed:
            raise NodesFailedError(f"{failed} nodes failed")

    def _start(self, queue: _Queue, updatehash: bool) -> None:
        """Start the ready nodes that fit, in order.

        What the first that does not fit needs is kept for it, so that it is not overtaken for
        ever by smaller ones.
        """
        free, kept, later = self._all, False, []
        for node in self._running.values():
            free = free.minus(self._need(node))
        while queue.ready and free.processors > 0:
            node = queue.take()
            need = self._need(node)
            if free.cover(need):
                self._submit(node, updatehash)
                free = free.minus(need)
            else:
                later.append(node)
                if not kept:
                    free, kept = free.minus(replace(need, gpus=0)), True
        for node in later:
            queue.put(node)

    def _need(self, node: pe.Node) -> Resources:
        """Give what a node needs, cut to what there is: it then runs by itself."""
        gpus = int(node.is_gpu_node())
        return Resources(
            min(node.n_procs, self._all.processors),
            min(node.mem_gb, self._all.memory_gb),
            min(gpus, self._all.gpus),
        )

    def _submit(self, node: pe.Node, updatehash: bool) -> None:
        gpu = self._gpus.pop(0) if self._gpus and node.is_gpu_node() else None
        worker = next((one for one in self._resting if one.gpu == gpu), None)
        if worker is None:
            worker = Worker(gpu)
        else:
            self._resting.remove(worker)
        self._running[worker] = node
        self._tell(node, "start", Usage())
        worker.send(run_node, node, updatehash, 0)

    def _finish(self, worker: Worker, queue: _Queue) -> bool:
        """Take a worker's answer; give whether its node succeeded."""
        node, outcome = self._running.pop(worker), worker.receive()
        if worker.gpu is not None:
            self._gpus.append(worker.gpu)
        if outcome.killed is None:
            self._resting.append(worker)
        else:
            worker.kill()
        result, trace = _result(node, outcome)
        if not trace:
            queue.done(node)
            self._tell(node, "end", outcome.usage)
            return True
        node._result, node._traceback = result, trace
        report_crash(node, traceback=trace)
        self._tell(node, "exception", outcome.usage)
        return False


class _Queue:
    """The nodes whose inputs are there, those of the scans that came first in front."""

    def __init__(self, graph: nx.DiGraph) -> None:
        self._graph = graph
        branches: dict[str, int] = {}
        self._order = {}
        for place, node in enumerate(topological_sort(graph)[0]):
            branch = branches.setdefault(branch_of(node), len(branches))
            self._order[node] = (branch, place)
        self._missing = {node: graph.in_degree(node) for node in self._order}
        self._heap: list[tuple] = []
        for node, missing in self._missing.items():
            if not missing:
                self.put(node)

    @property
    def ready(self) -> bool:
        """Whether there is a node to take."""
        return bool(self._heap)

    def put(self, node: pe.Node) -> None:
        heapq.heappush(self._heap, (*self._order[node], node))

    def take(self) -> pe.Node:
        return heapq.heappop(self._heap)[-1]

    def done(self, node: pe.Node) -> None:
        """Count a node as done: those that wait for nothing else become ready.

        What follows from a node that is never done never becomes ready.
        """
        for follower in self._graph.successors(node):
            self._missing[follower] -= 1
            if not self._missing[follower]:
                self.put(follower)


def load_plugin(name: str, arguments: dict) -> PluginBase:
    """Make one of nipype's own plugins, one that takes a killed job for a failed node.

    nipype gives the traceback of a job that left no result as a text, and ends the whole run
    when it then adds lines to it.
    """
    import nipype.pipeline.plugins

    plugin = getattr(nipype.pipeline.plugins, f"{name}Plugin")(plugin_args=arguments)
    report = getattr(plugin, "_report_crash", None)
    if report is not None:

        def report_lines(node: pe.Node, result: dict | None = None) -> str:
            if result is not None and isinstance(result["traceback"], str):
                result = {**result, "traceback": result["traceback"].splitlines(keepends=True)}
            return report(node, result=result)

        plugin._report_crash = report_lines
    return plugin


def branch_of(node: pe.Node) -> str:
    """Name the branch of the graph that a node belongs to: its scan, or a node of them all."""
    return node.fullname.split(".")[1]


def _result(node: pe.Node, outcome: Outcome) -> tuple[object, list[str]]:
    """Give nipype's result of a node and its traceback, empty if there is none."""
    if outcome.killed is not None:
        return None, [f"vxmprep.cli.plugin.WorkerKilledError: {_how_it_died(node, outcome)}\n"]
    if outcome.error:
        return None, [outcome.error]
    return outcome.value["result"], outcome.value["traceback"] or []


def _how_it_died(node: pe.Node, outcome: Outcome) -> str:
    """Say how a worker died over a node, and what to do."""
    code = outcome.killed
    known = {int(one): one.name for one in signal.Signals}
    if code < 0:
        how = f"was killed by {known.get(-code, f'signal {-code}')}"
    else:
        how = f"ended with exit code {code}"
    advice = (
        f"it was estimated to need {node.mem_gb:.1f} GB; if the memory ran out, give the job more "
        "of it or lower --nprocs or --mem-mb"
    )
    took = clock(outcome.usage.seconds)
    return f"the process of step {node.name} {how} after {took}; {advice}"


def _ignore(*_: object) -> None:
    """Tell nobody."""
