"""How much a step takes, and how it is made to fit."""

import pytest
import torch

from vxmprep.morph.compute import Compute
from vxmprep.training.errors import TrainingError
from vxmprep.training.loop import make_network
from vxmprep.training.memory import fit, predict_peak
from vxmprep.training.settings import TrainingSettings

SHAPE = (64, 64, 64)
PROCESSOR = Compute("cpu", torch.float32, "")


def peak(shape=SHAPE, dtype=torch.float32, *, segmented=False, **settings) -> float:
    network = make_network(TrainingSettings(**settings))
    return predict_peak(network, shape, dtype, segmented=segmented)


@pytest.mark.parametrize(
    ("features", "dtype", "shape", "resolution", "measured"),
    [
        ("vxm", torch.float32, (96, 96, 96), "half", 519e6),
        ("vxm", torch.bfloat16, (96, 96, 96), "half", 343e6),
        ("vxm", torch.float32, (64, 96, 64), "full", 316e6),
        ("x2", torch.float32, (64, 96, 64), "half", 453e6),
    ],
)
def test_prediction_is_not_below_what_was_measured_nor_far_above(
    features, dtype, shape, resolution, measured
):
    predicted = peak(shape, dtype, features=features, field_resolution=resolution) * 2**30
    assert measured < predicted < 1.2 * measured


def test_it_grows_with_what_is_asked_for():
    assert peak((64, 64, 128)) == pytest.approx(2 * peak(), rel=0.02)
    assert peak(dtype=torch.bfloat16) < peak() < peak(segmented=True) < peak(features="x2")


def fitted(budget: float, pairs: int = 4, **settings):
    settings = TrainingSettings(memory_budget=budget, batch_size=pairs, **settings)
    return fit(make_network(settings), settings, SHAPE, PROCESSOR, pairs)


def test_what_is_asked_for_is_kept_where_it_fits():
    found = fitted(4.2 * peak())
    assert (found.together, found.dtype) == (4, torch.float32)
    assert "in float32" in found.reason


def test_then_fewer_pairs_go_at_a_time_and_then_in_bfloat16():
    found = fitted(2.5 * peak())
    assert (found.together, found.dtype) == (2, torch.float32)
    assert "2 of 4 pairs at a time" in found.reason
    assert fitted(0.9 * peak()).dtype == torch.bfloat16


def test_what_cannot_fit_is_refused(refused):
    message = refused(TrainingError, fitted, 0.9 * peak(), precision="float32")
    assert "GiB are allowed; take voxel_size = 2" in message
    refused(TrainingError, fitted, 0.01)
