"""Pictures of Nipype workflows as SVG, in layers from inputs to outputs (after Sugiyama).

Nipype draws with Graphviz, which Python's package index does not have.
"""

from html import escape
from itertools import pairwise

import networkx as nx
from nipype.pipeline import engine as pe

WIDTH, HEIGHT, GAP, BETWEEN = 138, 30, 14, 34
THROUGH = 14
"""Width kept for an edge that passes a layer."""


def draw(workflow: pe.Workflow) -> list[str]:
    """Draw nodes and workflows within a workflow, and what is connected, as lines of SVG."""
    graph = nx.relabel_nodes(workflow._graph, {node: node.name for node in workflow._graph})
    inner = {node.name for node in workflow._graph if isinstance(node, pe.Workflow)}
    layers, chains = _layers(graph)
    at = _positions(layers, graph)
    width = max(x + _width(name, graph) / 2 for name, (x, _) in at.items()) + 2
    height = len(layers) * (HEIGHT + BETWEEN) - BETWEEN + 4
    rows = [f'<svg class="graph" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
            f'role="img" aria-label="graph of {escape(workflow.name)}">']  # fmt: skip
    rows += [_edge([at[name] for name in chain]) for chain in chains]
    rows += [_box(name, *at[name], inner=name in inner) for name in graph]
    return [*rows, "</svg>"]


def _layers(graph: nx.DiGraph) -> tuple[list[list], list[list]]:
    """Put every node a layer below those that feed it; edges pass layers through stand-ins."""
    layers = [sorted(layer) for layer in nx.topological_generations(graph)]
    depth = {name: n for n, layer in enumerate(layers) for name in layer}
    chains = []
    for start, end in graph.edges:
        between = [(start, end, n) for n in range(depth[start] + 1, depth[end])]
        for stand_in in between:
            layers[stand_in[2]].append(stand_in)
        chains.append([start, *between, end])
    return _uncrossed(layers, chains), chains


def _uncrossed(layers: list[list], chains: list[list]) -> list[list]:
    """Sort layers by the mean place of their neighbours, downwards and upwards in turns."""
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    for sweep in range(8):
        down = sweep % 2 == 0
        order = range(1, len(layers)) if down else range(len(layers) - 2, -1, -1)
        for n in order:
            before = layers[n - 1 if down else n + 1]
            place = {name: k for k, name in enumerate(before)}
            near: dict = {}
            for upper, lower in pairs:
                here, there = (lower, upper) if down else (upper, lower)
                if there in place:
                    near.setdefault(here, []).append(place[there])
            middle = {name: sum(places) / len(places) for name, places in near.items()}
            layers[n].sort(key=lambda name, m=middle: m.get(name, 0))
    return layers


def _positions(layers: list[list], graph: nx.DiGraph) -> dict:
    """Give the middle of every node, layers centred below each other."""
    widths = [sum(_width(name, graph) + GAP for name in layer) - GAP for layer in layers]
    at = {}
    for n, layer in enumerate(layers):
        x = (max(widths) - widths[n]) / 2 + 2
        for name in layer:
            width = _width(name, graph)
            at[name] = (x + width / 2, n * (HEIGHT + BETWEEN) + HEIGHT / 2 + 2)
            x += width + GAP
    return at


def _width(name: object, graph: nx.DiGraph) -> int:
    return WIDTH if name in graph else THROUGH


def _edge(points: list[tuple[float, float]]) -> str:
    (x, y), *rest = points
    path = f"M{x:.0f} {y + HEIGHT / 2:.0f}"
    above = y + HEIGHT / 2
    for n, (x, y) in enumerate(rest):
        top, bottom = y - HEIGHT / 2, y + HEIGHT / 2
        last = n == len(rest) - 1
        path += f" C{points[n][0]:.0f} {above + BETWEEN / 2:.0f} {x:.0f} {top - BETWEEN / 2:.0f}"
        path += f" {x:.0f} {top - (3 if last else 0):.0f}"
        path += "" if last else f" V{bottom:.0f}"
        above = bottom
    return f'<path class="edge" d="{path}"/><path class="tip" d="M{x:.0f} {top:.0f}l-4 -7h8z"/>'


def _box(name: str, x: float, y: float, *, inner: bool) -> str:
    """Draw a node; a workflow links to its own graph, if it has one."""
    kind = "inner" if inner else "end" if name in ("inputnode", "outputnode") else "node"
    box = (
        f'<rect class="{kind}" x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="6"/><text x="{x:.0f}" y="{y + 4:.0f}">{escape(name)}</text>'
    )
    builder = "init_scan_wf" if name.startswith("sub_") else f"init_{name}"
    return f'<a href="#vxmprep.workflows.{builder}">{box}</a>' if inner else box
