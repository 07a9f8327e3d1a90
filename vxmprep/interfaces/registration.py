"""Deformable registration."""

import json
from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from vxmprep.config import default_iterations


class _RegisterInputSpec(BaseInterfaceInputSpec):
    moving = File(exists=True, mandatory=True, desc="scan on the network's grid, 0 to 255")
    fixed = File(exists=True, mandatory=True, desc="atlas on the network's grid, 0 to 255")
    mask = File(exists=True, mandatory=True, desc="the atlas's brain mask there")
    affine_file = File(exists=True, mandatory=True, desc="ITK affine, atlas to scan")
    model = traits.Either(
        traits.Enum("bundled"),
        File(exists=True),
        desc="checkpoint of a network; bundled: the one that comes along (for the default atlas); "
        "refinement alone without one",
    )
    iterations = traits.Range(
        low=0,
        desc="iterations of the refinement, see vxmprep.morph.refine.schedule; 0 = off; by "
        f"default {default_iterations(network=True)} after a network, "
        f"{default_iterations(network=False)} without",
    )
    device = traits.Either(
        traits.Enum("cpu", "auto", "cuda"),
        traits.String(regex=r"^cuda:\d+$"),
        default="cpu",
        usedefault=True,
        desc="auto, cpu, cuda or cuda:N",
    )
    precision = traits.Enum(
        "auto", "float32", "bfloat16", usedefault=True, desc="of the network's convolutions"
    )
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="takes a GPU slot")
    num_threads = traits.Range(low=1, nohash=True, desc="processor threads")


class _RegisterOutputSpec(TraitedSpec):
    forward = File(desc="ITK composite that resamples the scan onto the atlas")
    inverse = File(desc="ITK composite that resamples atlas images onto the scan")
    summary_file = File(desc="JSON: similarity, residual of the inverse in mm")


class Register(SimpleInterface):
    """Register a conformed scan to the atlas: network, refinement, and both maps written.

    Examples
    --------
    A network alone, on a GPU; ``node.inputs.model = "model.pt"`` is one of your own:

    >>> node = Register(iterations=0, device="cuda", model="bundled")
    >>> node.inputs.moving = "conformed.nii"  # doctest: +SKIP
    >>> node.inputs.fixed = "network_brain.nii"  # doctest: +SKIP
    >>> node.run().outputs.forward  # doctest: +SKIP
    '/work/forward.h5'
    >>> node.inputs.iterations
    0
    """

    input_spec = _RegisterInputSpec
    output_spec = _RegisterOutputSpec

    def _run_interface(self, runtime):
        import numpy as np
        import torch

        from vxmprep.interfaces.preparation import load_masked
        from vxmprep.registration import register
        from vxmprep.spatial.grid import Grid
        from vxmprep.spatial.images import load
        from vxmprep.spatial.itk import read_affine

        fixed, mask = load_masked(self.inputs.fixed, self.inputs.mask)
        moving = load(self.inputs.moving)
        if not Grid.of(moving).matches(Grid.of(fixed)):
            raise ValueError(
                f"{self.inputs.moving}: not on the grid of {self.inputs.fixed}; Conform brings it "
                "there"
            )
        sources = {"moving": "Conform", "fixed": "network_brain of PrepareAtlas"}
        for (name, source), image in zip(sources.items(), (moving, fixed), strict=True):
            top = np.asarray(image.dataobj).max()
            if not 128 <= top <= 256:
                raise ValueError(
                    f"{getattr(self.inputs, name)}: its intensities reach {top:.4g}, not 255 as "
                    f"those of {source}; give that"
                )
        if isdefined(self.inputs.num_threads):
            torch.set_num_threads(self.inputs.num_threads)
        affine = read_affine(self.inputs.affine_file)
        network = isdefined(self.inputs.model)
        iterations = self.inputs.iterations
        if not isdefined(iterations):
            iterations = default_iterations(network=network)
        found = register(
            moving,
            fixed,
            mask,
            model=self.inputs.model if network else None,
            iterations=iterations,
            atlas_to_scan=affine,
            device=self.inputs.device,
            precision=self.inputs.precision,
        )
        names = {"forward": "forward.h5", "inverse": "inverse.h5", "summary_file": "register.json"}
        paths = {key: Path(runtime.cwd) / name for key, name in names.items()}
        found.write(affine, paths["forward"], paths["inverse"])
        paths["summary_file"].write_text(json.dumps(found.summary()), encoding="utf-8")
        self._results.update({key: str(path) for key, path in paths.items()})
        return runtime
