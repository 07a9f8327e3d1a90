"""Training of a network."""

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _TrainVoxelMorphInputSpec(BaseInterfaceInputSpec):
    images = traits.List(
        File(exists=True), minlen=1, mandatory=True, desc="scans on the network's grid, uint8"
    )
    names = traits.List(traits.Str, desc="what the scans are called (default: 1, 2, ...)")
    participants = traits.List(traits.Str, desc="whose they are (default: each another's)")
    sites = traits.List(traits.Either(None, traits.Str), desc="where they were acquired")
    labels = traits.List(traits.Either(None, File(exists=True)), desc="their labels on that grid")
    atlas_image = File(exists=True, mandatory=True, desc="atlas on the network's grid, uint8")
    atlas_mask = File(exists=True, mandatory=True, desc="its brain mask there")
    atlas_labels = File(exists=True, desc="its labels there")
    atlas_name = traits.Str("atlas", usedefault=True, desc="label of its space")
    folder = Directory(mandatory=True, desc="the model's folder; its name is the model's")
    settings = traits.Dict(desc="attributes of vxmprep.training.settings.TrainingSettings")
    split = File(exists=True, desc="JSON: participants of train, validation and test")
    initial_model = File(
        desc="checkpoint of vxmprep whose weights to start from; bundled: the one that comes along"
    )
    resume = traits.Bool(True, usedefault=True, desc="go on with a training begun in the folder")
    licence = traits.Str(desc="of the scans, for the model's card")
    left_out = traits.Dict(desc="scans not given, and why, for the model's card")


class _TrainVoxelMorphOutputSpec(TraitedSpec):
    model = File(desc="the network, as Register takes it")
    card = File(desc="the model's card, Markdown")
    config_file = File(desc="what `python -m vxmprep.training` takes to go on")


class TrainVoxelMorph(SimpleInterface):
    """Train a network on prepared scans, in a process of its own, or go on with a training.

    Examples
    --------
    >>> node = TrainVoxelMorph(folder="/data/models/study", settings={"voxel_size": 2})
    >>> node.inputs.images = ["conformed_1.nii", "conformed_2.nii"]  # doctest: +SKIP
    >>> node.inputs.atlas_image = "network_brain.nii"  # doctest: +SKIP
    >>> node.run().outputs.model  # doctest: +SKIP
    '/data/models/study/model.pt'
    >>> node.inputs.settings
    {'voxel_size': 2}
    """

    input_spec = _TrainVoxelMorphInputSpec
    output_spec = _TrainVoxelMorphOutputSpec
    # What was trained is kept in the model's folder, which tells what is done.
    always_run = True

    def _run_interface(self, runtime):
        from vxmprep.training.config import write_config
        from vxmprep.training.folder import ModelFolder
        from vxmprep.training.launch import launch

        config = self._config()
        file = Path(runtime.cwd) / "config.toml"
        write_config(config, file)
        launch(file, config.settings)
        folder = ModelFolder(config.folder)
        self._results.update(
            model=str(folder.model), card=str(folder.card), config_file=str(folder.config)
        )
        return runtime

    def _config(self):
        from vxmprep.config import model_file
        from vxmprep.training.config import AtlasFiles, Config
        from vxmprep.training.packing import Scan
        from vxmprep.training.settings import settings_from

        given = {k: v for k, v in self.inputs.get().items() if isdefined(v)}
        images = given["images"]
        for key in ("names", "participants", "labels", "sites"):
            if len(given.get(key, images)) != len(images):
                raise ValueError(
                    f"{key}: {len(given[key])} given for {len(images)} images; give one for each"
                )
        names = given.get("names", [str(number) for number in range(1, len(images) + 1)])
        columns = (
            names,
            given.get("participants", names),
            [Path(image) for image in images],
            [label and Path(label) for label in given.get("labels", [None] * len(images))],
            given.get("sites", [None] * len(images)),
        )
        atlas = {
            key: Path(given[f"atlas_{key}"])
            for key in ("image", "mask", "labels")
            if f"atlas_{key}" in given
        }
        folder = Path(self.inputs.folder).absolute()
        return Config(
            folder=folder,
            cohort=folder / "cohort",
            atlas=AtlasFiles(given["atlas_name"], **atlas),
            scans=tuple(Scan(*row) for row in zip(*columns, strict=True)),
            settings=settings_from(given.get("settings", {}), "settings"),
            split=Path(given["split"]) if "split" in given else None,
            initial_model=model_file(given["initial_model"]) if "initial_model" in given else None,
            resume=given["resume"],
            licence=given.get("licence"),
            left_out=given.get("left_out", {}),
        )
