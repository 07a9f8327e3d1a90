"""VoxelMorph registration for cohorts of brain MRI.

The rooms of the package are libraries of their own: ``vxmprep.spatial`` (grids, transforms and
their files), ``vxmprep.morph`` (VoxelMorph itself), ``vxmprep.evaluation`` (overlap, folding).
``vxmprep.interfaces`` makes Nipype nodes of them and ``vxmprep.workflows`` connects the nodes.
"""

__version__ = "0.1.0"
