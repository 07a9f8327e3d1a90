"""Settings and their defaults."""

import pytest

from vxmprep.morph.network import DECODER, DOUBLED, ENCODER
from vxmprep.training.errors import TrainingError
from vxmprep.training.settings import TrainingSettings, settings_from


@pytest.mark.parametrize(("loss", "weight"), [("lncc", 1.0), ("mse", 0.02)])
def test_lambda_defaults_to_the_papers_for_the_similarity(loss, weight):
    assert settings_from({"image_loss": loss}, "here").smoothness == weight


def test_features_have_names_or_are_lists():
    assert TrainingSettings().encoder_decoder() == (ENCODER, DECODER)
    assert TrainingSettings(features="x2").encoder_decoder() == DOUBLED
    own = settings_from({"features": [[8, 16], [16, 8, 8]]}, "here")
    assert own.encoder_decoder() == ((8, 16), (16, 8, 8))


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"lambda": 1}, "unknown setting 'lambda'"),
        ({"image_loss": "ssd"}, "choose of ('lncc', 'mse')"),
        ({"voxel_size": 3}, "voxel_size is 3"),
        ({"voxel_size": "2"}, "voxel_size is '2'; give a whole number"),
        ({"segmentations": "atlas"}, "segmentations is 'atlas'; give a segmentation weight"),
        ({"batch_size": 0}, "batch_size is 0; at least 1"),
        ({"batch_size": 3, "devices": 2}, "multiple of the 2 devices"),
        ({"learning_rate": 0}, "learning_rate is 0.0; give more than 0"),
        ({"smoothness_weight": float("nan")}, "smoothness_weight is nan"),
        ({"iterations": True}, "iterations is True"),
        ({"features": "huge"}, "features is 'huge'"),
        ({"features": [[8, 8], [8]]}, "the decoder's at least as long"),
        ({"features": [[8], ["a"]]}, "whole numbers of 1 to 1024"),
        ({"features": [8, 8]}, "give two lists"),
        ({"structures": [2, "3"]}, "whole numbers above 0"),
        ({"structures": [0]}, "whole numbers above 0"),
        ({"structures": ""}, "structures is ''; give a list of whole numbers"),
        ({"structures": 5}, "structures is 5; give a list of whole numbers"),
        ({"features": 8}, "features is 8; give 'vxm', 'x2' or two lists"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(mapping, said, refused):
    message = refused(TrainingError, settings_from, mapping, "x.toml: settings")
    assert message.startswith("x.toml: settings: ")
    assert said in message


def test_learning_rate_falls_geometrically_to_the_final_one():
    settings = TrainingSettings(learning_rate=1e-3, final_learning_rate=1e-5, iterations=101)
    rates = [settings.learning_rate_at(i) for i in (0, 50, 100, 200)]
    assert rates == pytest.approx([1e-3, 1e-4, 1e-5, 1e-5])
    assert TrainingSettings().learning_rate_at(1000) == 1e-4


def test_where_and_how_long_a_training_runs_is_no_part_of_its_identity():
    one = TrainingSettings()
    other = TrainingSettings(iterations=7, device="cuda", checkpoint_every=3)
    assert one.identity() == other.identity()
    assert one.identity() != TrainingSettings(seed=1).identity()
    # The best of two validations is known only where both are on the same pairs.
    assert one.identity() != TrainingSettings(validation_pairs=3).identity()
    assert one.identity() == TrainingSettings(smoothness_weight=1.0).identity()


def test_a_training_of_before_segmentations_were_a_choice_is_the_same_one():
    assert "segmentations" not in TrainingSettings().identity()
    carried = TrainingSettings(segmentations="atlas", segmentation_weight=1.0)
    assert carried.identity()["segmentations"] == "atlas"
