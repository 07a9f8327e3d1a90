"""From a conformed brain to the maps between scan and atlas."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.config import BUNDLED, COARSE_ITERATIONS, default_iterations, model_file
from vxmprep.interfaces import Register


def init_registration_wf(
    *,
    model: str | None = None,
    iterations: int | None = None,
    device: str = "cpu",
    precision: str = "auto",
    omp_nthreads: int = 1,
    name: str = "registration_wf",
) -> pe.Workflow:
    """Build the graph that registers a conformed brain to the atlas.

    Parameters
    ----------
    model : path, optional
        Checkpoint of a VoxelMorph network, or ``"bundled"``, which is the one that comes along;
        refinement alone without one.
    iterations : int, optional
        Iterations of the refinement; 0 turns it off. By default as
        `vxmprep.config.default_iterations` says.
    device : {"auto", "cpu", "cuda", "cuda:N"}
        Where network and refinement run.
    precision : {"auto", "float32", "bfloat16"}
        Precision of the network's convolutions.
    omp_nthreads : int
        Processor threads.
    name : str
        Name of the workflow.

    Inputs
    ------
    conformed
        Brain on the network's grid, uint8.
    atlas, atlas_mask
        Atlas and its mask on the network's grid.
    affine
        ITK affine, atlas points to scan points.

    Outputs
    -------
    forward, inverse
        ITK composites that resample the scan onto the atlas and the atlas onto the scan.
    register_summary
        JSON: similarity, residual of the inverse in mm.

    Raises
    ------
    traits.api.TraitError
        If an argument is none of what the node `vxmprep.interfaces.Register` takes.

    Examples
    --------
    >>> sorted(init_registration_wf(iterations=50).list_node_names())
    ['inputnode', 'outputnode', 'register']
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(["conformed", "atlas", "atlas_mask", "affine"]), name="inputnode"
    )
    outputnode = pe.Node(
        niu.IdentityInterface(["forward", "inverse", "register_summary"]), name="outputnode"
    )
    if iterations is None:
        iterations = default_iterations(network=model is not None)
    # Made first, for it refuses what is no number of iterations, device or precision.
    interface = Register(iterations=iterations, device=device, precision=precision)
    interface.inputs.use_gpu = device.startswith("cuda")
    memory = 3.6
    if model is None and iterations <= COARSE_ITERATIONS:
        memory = 2.6
    elif model is not None and model_file(model) != BUNDLED:
        memory = 4.5  # one of 1 mm in float32
    register = pe.Node(interface, name="register", n_procs=omp_nthreads, mem_gb=memory)
    register.inputs.num_threads = omp_nthreads
    if model is not None:
        register.inputs.model = model
    workflow.connect([
        (inputnode, register, [
            ("conformed", "moving"),
            ("atlas", "fixed"),
            ("atlas_mask", "mask"),
            ("affine", "affine_file"),
        ]),
        (register, outputnode, [
            ("forward", "forward"),
            ("inverse", "inverse"),
            ("summary_file", "register_summary"),
        ]),
    ])  # fmt: skip
    return workflow
