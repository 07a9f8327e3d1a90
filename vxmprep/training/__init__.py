"""Train a network on a cohort: scans on disk, split, loop, checkpoints, model card.

It knows no Nipype, no BIDS and no command line but its own, ``python -m vxmprep.training CONFIG``.
"""
