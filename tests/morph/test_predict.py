"""A network alone on a pair: in its own frame, in both directions."""

from dataclasses import replace

import pytest
import torch

from vxmprep.morph.field import compose
from vxmprep.morph.frame import Frame
from vxmprep.morph.model import Model
from vxmprep.morph.network import VxmNet
from vxmprep.morph.predict import predict, predict_both

SHAPE = (24, 28, 26)


def smooth_network(*, amplitude: float = 1.0, **options) -> VxmNet:
    """A network whose field is smooth: that of the deepest features of smooth images."""
    torch.manual_seed(1)
    network = VxmNet((4, 4), (6, 4), **options)
    network.flow.weight.data.normal_(std=0.02 * amplitude)
    network.flow.bias.data.normal_(std=0.5 * amplitude)
    return network.eval()


@pytest.fixture(scope="module")
def pair() -> torch.Tensor:
    coarse = torch.rand(2, 1, 1, 4, 4, 4, generator=torch.manual_seed(0))
    return torch.stack(
        [torch.nn.functional.interpolate(one, SHAPE, mode="trilinear") for one in coarse]
    )


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (Frame(), [1.0, 2.0, 3.0]),
        (Frame(axes="LIA"), [-1.0, 3.0, -2.0]),
        (Frame(axes="LIA", shape=(32, 32, 32)), [-1.0, 3.0, -2.0]),
        (Frame(spacing=2), [2.0, 4.0, 6.0]),
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 0, "output_stride": 2}], ids=str)
def test_displacement_is_in_voxels_and_axes_of_the_images(frame, expected, options, pair):
    network = VxmNet((4, 4), (4, 4), half_resolution=False, **options)
    stride = network.output_stride
    network.flow.bias.data = torch.tensor([1.0, 2.0, 3.0]) / stride
    found = predict(Model(network, frame), *pair)
    assert found.shape == (1, 3, *SHAPE)
    wanted = torch.tensor(expected).view(1, 3, 1, 1, 1).expand_as(found)
    # A grid of half the size, corners on corners, has voxels a little larger than two.
    torch.testing.assert_close(found, wanted, rtol=0.25 if stride == 2 else 1e-5, atol=0)


def test_images_are_given_to_the_network_in_its_own_frame(pair):
    network = smooth_network(steps=0, half_resolution=False)
    turned = [image.permute(0, 1, 2, 4, 3).flip(2, 3) for image in pair]
    expected = network(*(0.4 * image for image in turned))
    found = predict(Model(network, Frame(axes="LIA", white=0.4)), *pair)
    back = expected.flip(2, 3).permute(0, 1, 2, 4, 3)
    torch.testing.assert_close(found[:, 0], -back[:, 0])
    torch.testing.assert_close(found[:, 1], back[:, 2])
    torch.testing.assert_close(found[:, 2], -back[:, 1])


@pytest.mark.parametrize("half_resolution", [True, False])
@pytest.mark.parametrize("steps", [0, 7])
@pytest.mark.parametrize("frame", [Frame(), Frame(axes="LIA"), Frame(spacing=2)], ids=str)
def test_both_directions_undo_each_other(steps, half_resolution, frame, pair):
    network = smooth_network(steps=steps, half_resolution=half_resolution)
    forward, inverse = predict_both(Model(network, frame), *pair)
    torch.testing.assert_close(forward, predict(Model(network, frame), *pair))
    inside = (..., *(slice(5, -5),) * 3)
    assert forward[inside].abs().max() > 0.3
    assert compose(forward, inverse)[inside].abs().max() < 0.1
    assert compose(inverse, forward)[inside].abs().max() < 0.1


def test_bfloat16_gives_nearly_the_same_displacement(pair):
    model = Model(smooth_network())
    single, half = predict(model, *pair), predict(model, *pair, torch.bfloat16)
    assert half.dtype == torch.float32
    assert 0 < (single - half).abs().max() < 0.02 * single.abs().max()


def test_a_network_for_planes_is_refused(pair):
    model = replace(Model(VxmNet((4, 4), (4, 4))), network=VxmNet((4,), (4,), dims=2))
    with pytest.raises(ValueError, match="predict: a network for planes"):
        predict(model, *pair)


@pytest.mark.parametrize("shape", [SHAPE, (1, *SHAPE), (2, 1, *SHAPE)])
@pytest.mark.parametrize("function", [predict, predict_both])
def test_what_is_no_volume_is_named(function, shape):
    images = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"has shape .*; give images \(1, 1, X, Y, Z\)"):
        function(Model(smooth_network(), Frame()), images, images)
