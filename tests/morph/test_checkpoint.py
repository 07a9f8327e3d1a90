"""Networks in files: the same after reading, and nothing but ours is read."""

import pickle

import pytest
import torch

from vxmprep.morph.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from vxmprep.morph.network import VxmNet


class Hostile:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("the file has run code",))


def test_a_network_gives_the_same_field_after_reading(tmp_path):
    torch.manual_seed(0)
    network = VxmNet(encoder=(4, 8), decoder=(8, 8, 4))
    torch.nn.init.normal_(network.flow.weight, std=0.1)
    save_checkpoint(network, tmp_path / "network.pt", data="none")
    pair = torch.rand(2, 1, 1, 20, 18, 22)
    with torch.no_grad():
        expected, found = network(*pair), load_checkpoint(tmp_path / "network.pt")(*pair)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("content", [b"", b"no network", pickle.dumps(Hostile())])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line_and_not_run(content, tmp_path):
    path = tmp_path / "network.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_another_programs_weights_are_refused(tmp_path):
    torch.save({"model_state": {}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "other.pt")
