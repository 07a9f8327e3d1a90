"""VoxelMorph in pure torch: network, field algebra, losses, refinement of one pair."""
