"""What autodoc cannot see: inputs and outputs of interfaces, and graphs of workflow builders."""

import inspect

from graphs import draw
from nipype.interfaces.base import BaseInterface, File, traits
from sphinx.application import Sphinx

import vxmprep.workflows as workflows
from vxmprep.atlas import default_files

ATLAS, LABELS = map(str, default_files())
SCAN = {"t1w": ATLAS, "source": "sub-01_T1w.nii.gz", "entities": (("subject", "01"),)}
ARGUMENTS = {
    "init_scan_wf": {**SCAN, "output_dir": "out", "space": "MNI", "segmentation": LABELS},
    "init_cohort_wf": {
        "scans": [{**SCAN, "name": f"sub_0{number}_wf"} for number in (1, 2, 3)],
        "atlas_image": ATLAS,
        "space": "MNI",
        "output_dir": "out",
    },
    "init_training_wf": {"folder": "models/study"},
}
"""What builders are called with to draw their graph, where there must be something."""

KINDS = {"Str": "text", "String": "text", "Bool": "true or false", "Float": "number",
         "Int": "whole number", "Directory": "folder", "File": "file",
         "Dict": "dictionary"}  # fmt: skip


def kind(trait: traits.TraitType) -> str:
    """Say in words what a trait takes."""
    name = type(trait).__name__
    if name in ("List", "InputMultiObject", "OutputMultiObject"):
        several = "list of: " if name == "List" else "one or several: "
        return several + kind(trait.item_trait.trait_type)
    if name == "Enum":
        return "one of " + ", ".join(map(str, trait.values))
    if name == "Range":
        return f"number, {trait._low} or more"
    if name == "Tuple":
        return "(" + ", ".join(kind(item.trait_type) for item in trait.types) + ")"
    if name == "TraitCompound":
        return " or ".join(kind(item) for item in trait.handlers)
    if isinstance(trait, File):
        return "file"
    return KINDS.get(name, "nothing" if name == "TraitEnum" else name)


def table(spec: type, *, outputs: bool) -> list[str]:
    """Give the traits of a specification as a table in reStructuredText."""
    names = [name for name in spec().copyable_trait_names() if not _inherited(name)]
    shown = {name: spec().trait(name) for name in names}
    lines = [".. list-table::", "   :widths: 22 26 52", "   :class: traits", ""]
    ordered = sorted(shown, key=lambda name: not shown[name].mandatory)
    for name in ordered:
        trait = shown[name]
        what = trait.desc or ""
        if trait.usedefault:
            default = trait.default_value()[1]
            what += f" (default: ``{default if default != '' else repr('')}``)"
        needed = " **needed**" if trait.mandatory and not outputs else ""
        lines += [f"   * - ``{name}``{needed}", f"     - {kind(trait.trait_type)}"]
        lines += [f"     - {what}"]
    return [*lines, ""]


def _inherited(name: str) -> bool:
    return name in ("args", "environ", "resource_monitor", "terminal_output")


def complete(app: Sphinx, what: str, name: str, thing: object, options, lines: list[str]) -> None:
    """Add to a docstring what only the code knows."""
    if inspect.isclass(thing) and issubclass(thing, BaseInterface):
        examples = next((n for n, s in enumerate(lines) if "rubric:: Examples" in s), len(lines))
        lines[examples:examples] = [
            ".. rubric:: Inputs", "", *table(thing.input_spec, outputs=False),
            ".. rubric:: Outputs", "", *table(thing.output_spec, outputs=True),
        ]  # fmt: skip
    elif what == "function" and name.startswith("vxmprep.workflows."):
        builder = name.rpartition(".")[2]
        graph = draw(getattr(workflows, builder)(**ARGUMENTS.get(builder, {})))
        where = next((n for n, line in enumerate(lines) if line.startswith(":param")), 0)
        lines[where:where] = [".. raw:: html", "", *(f"   {row}" for row in graph), ""]


def plain(app: Sphinx, what: str, name: str, thing: object, *rest: object) -> tuple | None:
    """Leave the arguments of interfaces to their table."""
    if inspect.isclass(thing) and issubclass(thing, BaseInterface):
        return "(**inputs)", None
    return None


def setup(app: Sphinx) -> dict:
    """Make it known to Sphinx."""
    # After napoleon, which is at 500.
    app.connect("autodoc-process-docstring", complete, priority=600)
    app.connect("autodoc-process-signature", plain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
