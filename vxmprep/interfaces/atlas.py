"""The atlas as files that nodes read."""

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _PrepareAtlasInputSpec(BaseInterfaceInputSpec):
    image = File(exists=True, mandatory=True, desc="T1w image of the atlas")
    mask = File(exists=True, desc="its brain mask, on the same grid")
    labels = File(exists=True, desc="FreeSurfer-numbered labels, any grid of the same world")
    name = traits.Str("atlas", usedefault=True, desc="label of its space")


class _PrepareAtlasOutputSpec(TraitedSpec):
    brain = File(desc="skull-stripped atlas on its own grid")
    mask = File(desc="brain mask on its own grid")
    labels = File(desc="labels on its own grid; undefined where the atlas has none")
    network_brain = File(desc="skull-stripped atlas on the network's grid, uint8")
    network_mask = File(desc="brain mask on the network's grid")
    network_labels = File(desc="labels there; undefined where the atlas has none")


class PrepareAtlas(SimpleInterface):
    """Strip an atlas where it has a skull and bring it to the network's grid.

    Examples
    --------
    >>> from vxmprep.atlas import default_files
    >>> image, labels = default_files()
    >>> node = PrepareAtlas(image=image, labels=labels, name="MNI152NLin2009cAsym")
    >>> node.run().outputs.network_brain  # doctest: +SKIP
    '/work/network_brain.nii'
    >>> node.inputs.name
    'MNI152NLin2009cAsym'
    """

    input_spec = _PrepareAtlasInputSpec
    output_spec = _PrepareAtlasOutputSpec

    def _run_interface(self, runtime):
        from vxmprep.atlas import Atlas, prepare_atlas
        from vxmprep.spatial.images import save

        given = {
            key: Path(value) if isdefined(value) else None
            for key, value in (("mask", self.inputs.mask), ("labels", self.inputs.labels))
        }
        prepared = prepare_atlas(Atlas(self.inputs.name, Path(self.inputs.image), **given))
        for name, image in vars(prepared).items():
            if image is not None:
                path = Path(runtime.cwd) / f"{name}.nii"
                self._results[name] = str(save(image, path))
        return runtime
