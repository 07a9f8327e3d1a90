"""What is compared with the original code; imported in three environments, so needs nothing."""

PAPER = [[16, 32, 32, 32], [32, 32, 32, 32, 32, 16, 16]]
SMALL = [[4, 6], [6, 5, 5, 4]]

CASES = {
    "velocity-half": {"steps": 7, "downsize": 2, "coarse": False},
    "velocity-full": {"steps": 7, "downsize": 1, "coarse": False},
    "displacement": {"steps": 0, "downsize": 1, "coarse": False},
    "coarse-decoder": {"steps": 5, "downsize": 2, "coarse": True},
    "plane": {"steps": 7, "downsize": 2, "coarse": False},
}
"""Options of `VxmDense`: integration steps, resolution of the field, decoder that ends at half."""

IN_A_PLANE = "plane"
"""The case that registers the middle plane alone, in two dimensions."""

LARGEST = 4.0
"""Voxels of the largest displacement, to which the random last layer is scaled."""

KEPT = ("torch-velocity-half", "torch-displacement", "keras-velocity-half", "keras-coarse-decoder")
"""Small ones that are kept with the tests."""
