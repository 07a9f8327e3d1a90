"""The U-Net: the paper's size, any image size, the identity when untrained."""

import pytest
import torch

from vxmprep.morph.network import VxmNet


def test_network_of_the_paper_has_327331_parameters():
    assert sum(weight.numel() for weight in VxmNet().parameters()) == 327_331


@pytest.mark.parametrize(("half", "expected"), [(True, (8, 10, 11)), (False, (17, 20, 23))])
def test_velocity_covers_images_of_any_size(half, expected):
    network = VxmNet((4, 4), (4, 4, 4), half_resolution=half)
    moving, fixed = torch.rand(2, 1, 1, 17, 20, 23)
    assert network(moving, fixed).shape == (1, 3, *expected)


def test_untrained_network_gives_the_identity_but_learns():
    network = VxmNet((4, 4), (4, 4, 4))
    velocity = network(*torch.rand(2, 1, 1, 16, 16, 16))
    assert not velocity.any()
    velocity.sum().backward()
    assert network.flow.weight.grad.abs().max() > 0


def test_padding_does_not_reach_into_images_of_the_right_size():
    torch.manual_seed(0)
    network = VxmNet((4, 4), (4, 4, 4), half_resolution=False)
    torch.nn.init.normal_(network.flow.weight)
    moving, fixed = torch.rand(2, 1, 1, 16, 16, 13)
    padded = [torch.nn.functional.pad(image, [0, 3]) for image in (moving, fixed)]
    torch.testing.assert_close(network(moving, fixed), network(*padded)[..., :13])


def test_a_decoder_without_features_for_full_resolution_is_refused():
    with pytest.raises(ValueError, match="VxmNet: decoder has 2 features"):
        VxmNet((4, 4), (4, 4))
