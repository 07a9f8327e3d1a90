"""VoxelMorph in pure torch, a library by itself.

| module | what |
|---|---|
| `network` | the U-Net, 2-D and 3-D, any features, any image size |
| `predict` | displacement of a pair by a trained network, one direction or both |
| `refine` | instance-specific optimisation of a pair, from zero or from a field |
| `losses` | local correlation, squared differences, smoothness, Dice (equations 5 to 9) |
| `field`, `labels`, `points` | warp, compose, integrate, resize; label maps; points |
| `inverse`, `jacobian`, `fold` | numerical inverse; volume change; repair of folds |
| `checkpoint` | networks in files: ours, and those of the original code |
| `frame`, `model` | the images a network wants; what is known of it |
| `compute` | device and precision, chosen by what the hardware has |

A field is a displacement in voxels of its own grid, a tensor ``(N, 3, X, Y, Z)`` or
``(N, 2, X, Y)``.

Examples
--------
A pair of images registered by a network and its optimisation for the pair:

>>> import torch
>>> from vxmprep.morph.field import integrate, resize, warp
>>> from vxmprep.morph.network import VxmNet
>>> network = VxmNet(encoder=(4, 4), decoder=(4, 4, 4))
>>> moving, fixed = torch.rand(2, 1, 1, 32, 40, 32)
>>> velocity = network(moving, fixed)
>>> displacement = resize(integrate(velocity, network.steps), fixed.shape[2:])
>>> warp(moving, displacement).shape
torch.Size([1, 1, 32, 40, 32])
"""
