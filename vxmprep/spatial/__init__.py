"""Grids, images, transforms and their files: where a voxel lies and how it is resampled."""
