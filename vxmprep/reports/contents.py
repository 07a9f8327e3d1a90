"""What the page of a participant shows of each scan."""

FIGURES = {
    "figure_mask": "outline of the brain mask on the scan",
    "figure_atlas": "the atlas",
    "figure_affine": "the scan on the atlas, affine alone",
    "figure_full": "the scan on the atlas, whole transform",
    "figure_contours": "contours of the atlas, transparent, for the three before",
    "figure_jacobian": "Jacobian determinant on the atlas",
    "figure_grid": "grid of the atlas, deformed, on the affinely aligned scan",
    "figure_dice": "Dice of each structure, left and right joined",
    "viewer": "copies of 2 mm for the viewer: atlas, scan by the affine and by all, labels",
}
"""What is drawn, by the names of files that are written."""

OF_PREPARATION = ("figure_mask", "figure_atlas", "figure_affine", "figure_contours")
"""Those of mask and affine, which are drawn before anything is registered."""

OF_REGISTRATION = tuple(name for name in FIGURES if name not in OF_PREPARATION)

STEPS = {
    "strip": "skull-strip",
    "bias": "bias field",
    "align": "affine",
    "conform": "network's grid",
    "conform_labels": "segmentation there",
    "preview": "pictures of mask and affine",
    "register": "deformable registration",
    "warp_t1w": "scan to the atlas",
    "warp_mask": "mask to the atlas",
    "warp_atlas_labels": "atlas's labels to the scan",
    "carry_labels": "segmentation to the atlas",
    "jacobian": "Jacobian determinant",
    "evaluate": "evaluation",
    "draw": "pictures",
}
"""How steps are called on it, where their name is not plain."""
