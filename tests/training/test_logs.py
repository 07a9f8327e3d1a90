"""What was measured while training is kept, in tables and for TensorBoard."""

import math

from vxmprep.training.folder import ModelFolder
from vxmprep.training.logs import Logs


def test_what_could_not_be_measured_is_left_out_of_tensorboard_without_a_word(tmp_path, caplog):
    folder = ModelFolder(tmp_path)
    logs = Logs(folder, 0)
    logs.validation(0, {"dice": math.nan, "ncc": 0.25, "loss": 0.75, "folding": 0.0})
    logs.close()
    events = b"".join(path.read_bytes() for path in folder.events.iterdir())
    assert b"validation/ncc" in events
    assert b"validation/dice" not in events
    assert folder.validations.read_text().splitlines() == [
        "iteration,dice,ncc,loss,folding",
        "0,nan,0.25,0.75,0",
    ]
    assert not caplog.records
