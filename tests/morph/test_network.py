"""The U-Net: the paper's size, any image size, the identity when untrained, no upsampling."""

import pytest
import torch
from torch.nn import functional

from vxmprep.morph import network as module
from vxmprep.morph.network import DOUBLED, VxmNet
from vxmprep.morph.upsampled import assemble, fold


def trained(*features, seed: int = 0, **options) -> VxmNet:
    """A network whose last layer is not zero."""
    torch.manual_seed(seed)
    network = VxmNet(*features, **options)
    torch.nn.init.normal_(network.flow.weight, std=0.1)
    torch.nn.init.normal_(network.flow.bias, std=0.1)
    return network


def plainly(network: VxmNet, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    """Flow of a network by the definition: upsample, concatenate, convolve."""
    three = network.dims == 3
    pool = functional.max_pool3d if three else functional.max_pool2d
    volume, skipped = torch.cat([moving, fixed], dim=1), []
    for layer in network.down:
        volume = functional.leaky_relu(layer(volume), 0.2)
        skipped.append(volume)
        volume = pool(volume, 2)
    for index, layer in enumerate(network.up):
        volume = functional.leaky_relu(layer(volume), 0.2)
        if index < network.upsamplings:
            volume = functional.interpolate(volume, scale_factor=2, mode="nearest")
            volume = torch.cat([volume, skipped.pop()], dim=1)
    for layer in network.rest:
        volume = functional.leaky_relu(layer(volume), 0.2)
    return network.flow(volume)


def count(network: VxmNet) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_network_of_the_paper_has_327331_parameters():
    assert count(VxmNet()) == 327_331


def test_doubled_network_has_doubled_features():
    network = VxmNet(*DOUBLED)
    assert [layer.out_channels for layer in network.down] == [32, 64, 64, 64]
    assert [layer.out_channels for layer in [*network.up, *network.rest]] == [64] * 5 + [32, 32]


@pytest.mark.parametrize(("half", "expected"), [(True, (8, 10, 11)), (False, (17, 20, 23))])
@pytest.mark.parametrize("output_stride", [1, 2])
def test_velocity_covers_images_of_any_size(half, expected, output_stride):
    network = VxmNet((4, 4), (4, 4, 4), half_resolution=half, output_stride=output_stride)
    moving, fixed = torch.rand(2, 1, 1, 17, 20, 23)
    assert network(moving, fixed).shape == (1, 3, *expected)


def test_untrained_network_gives_the_identity_but_learns():
    network = VxmNet((4, 4), (4, 4, 4))
    velocity = network(*torch.rand(2, 1, 1, 16, 16, 16))
    assert not velocity.any()
    velocity.sum().backward()
    assert network.flow.weight.grad.abs().max() > 0


@pytest.mark.parametrize("shape", [(16, 24, 20), (12, 20)], ids=["volume", "plane"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("output_stride", [1, 2])
@pytest.mark.parametrize("decoder", [(7, 6), (7, 6, 4, 5)], ids=["no rest", "rest"])
def test_field_is_that_of_upsampling_and_concatenation(shape, batch, output_stride, decoder):
    options = {"dims": len(shape), "half_resolution": False, "output_stride": output_stride}
    network = trained((4, 5), decoder, **options)
    moving, fixed = torch.rand(2, batch, 1, *shape)
    expected = network.to_field_grid(plainly(network, moving, fixed), shape)
    torch.testing.assert_close(network(moving, fixed), expected, atol=1e-6, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(network(moving, fixed), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("slab", [1, 3, 100])
def test_field_does_not_depend_on_how_many_planes_are_taken_at_a_time(slab, monkeypatch):
    network = trained((4, 5), (7, 6, 4, 5))
    moving, fixed = torch.rand(2, 1, 1, 20, 16, 12)
    whole = network(moving, fixed)
    monkeypatch.setattr(module, "SLAB", slab)
    with torch.inference_mode():
        torch.testing.assert_close(network(moving, fixed), whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_weights_get_the_gradients_of_upsampling_and_concatenation(dims):
    network = trained((4, 5), (7, 6, 4), dims=dims, half_resolution=False)
    moving, fixed = torch.rand(2, 2, 1, *(8, 12, 16)[:dims])
    towards = torch.rand(2, dims, *(8, 12, 16)[:dims])
    gradients = []
    for field in (plainly(network, moving, fixed), network(moving, fixed)):
        network.zero_grad()
        (field * towards).sum().backward()
        gradients.append([weight.grad.clone() for weight in network.parameters()])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_assembly_has_the_derivatives_it_should():
    fine = torch.rand(1, 2, 4, 6, 4, dtype=torch.float64, requires_grad=True)
    parts = torch.rand(1, 16, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: assemble(a.clone(), b), (fine, parts))


def test_folded_kernel_is_the_kernel_on_the_upsampled_volume():
    coarse, weight = torch.rand(1, 3, 4, 5, 6), torch.rand(2, 3, 3, 3, 3)
    upsampled = functional.interpolate(coarse, scale_factor=2, mode="nearest")
    expected = functional.conv3d(upsampled, weight, padding=1)
    parts = functional.conv3d(coarse, fold(weight), padding=1)
    torch.testing.assert_close(assemble(torch.zeros_like(expected), parts), expected)


def test_bfloat16_gives_nearly_the_same_field_in_single_precision():
    network = trained()
    moving, fixed = torch.rand(2, 1, 1, 32, 32, 48)
    with torch.inference_mode():
        expected, found = network(moving, fixed), network(moving, fixed, torch.bfloat16)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.02 * expected.abs().max()


def test_the_same_images_give_the_same_bits():
    network = trained()
    moving, fixed = torch.rand(2, 1, 1, 32, 32, 48)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.inference_mode():
            assert torch.equal(network(moving, fixed, dtype), network(moving, fixed, dtype))


def test_padding_does_not_reach_into_images_of_the_right_size():
    network = trained((4, 4), (4, 4, 4), half_resolution=False)
    moving, fixed = torch.rand(2, 1, 1, 16, 16, 13)
    padded = [functional.pad(image, [0, 3]) for image in (moving, fixed)]
    torch.testing.assert_close(network(moving, fixed), network(*padded)[..., :13])


def test_integration_takes_the_networks_steps():
    velocity = torch.rand(1, 3, 8, 8, 8)
    assert torch.equal(VxmNet((4,), (4,), steps=0).integrate(velocity), velocity)
    assert not torch.equal(VxmNet((4,), (4,), steps=7).integrate(velocity), velocity)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((4, 4), (4,)), {}, "VxmNet: decoder has 1 features"),
        (((4, 4), (4, 4)), {"dims": 1}, "VxmNet: dims is 1"),
        (((4, 4), (4, 4)), {"output_stride": 4}, "VxmNet: output_stride is 4"),
        (((4, 4), (4, 4)), {"steps": -1}, "VxmNet: steps is -1"),
    ],
)
def test_networks_that_cannot_be_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        VxmNet(*arguments, **options)


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 4, 4), (16, 4, 7)])
@pytest.mark.parametrize("output_stride", [1, 2])
def test_images_of_a_few_voxels_have_a_field(shape, output_stride):
    network = trained((4, 4), (4, 4, 4), output_stride=output_stride)
    pair = torch.rand(2, 1, 1, *shape)
    with torch.inference_mode():
        assert network(*pair).isfinite().all()


def test_images_of_fewer_voxels_are_refused():
    with pytest.raises(ValueError, match=r"VxmNet: images of shape \(16, 3, 16\)"):
        VxmNet((4, 4), (4, 4))(*torch.rand(2, 1, 1, 16, 3, 16))


def test_half_precision_gives_a_field_in_single_precision():
    field = trained((4, 4), (4, 4))(*torch.rand(2, 1, 1, 16, 16, 16), torch.float16)
    assert field.dtype == torch.float32


def test_images_are_not_rounded_before_the_first_convolution():
    """Between 0.5 and 1 bfloat16 has steps of 1/256, coarser than those of the images."""
    network = trained((4, 4), (4, 4))
    moving = torch.full((1, 1, 16, 16, 16), 0.75)
    moving[..., 4:12, :, :] = 0.25
    slightly = moving + 1 / 1024
    assert torch.equal(slightly.bfloat16(), moving.bfloat16())
    fields = [network(image, moving, torch.bfloat16) for image in (moving, slightly)]
    assert not torch.equal(*fields)
