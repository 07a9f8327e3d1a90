"""Device and precision: chosen by what the hardware has, and said in one line."""

import pytest
import torch

from vxmprep.morph import compute
from vxmprep.morph.compute import choose_compute


@pytest.mark.parametrize(
    ("flags", "dtype", "said"),
    [
        ("fpu avx2", torch.float32, "float32 (it has no units for bfloat16)"),
        ("fpu avx512f avx512_bf16", torch.bfloat16, "bfloat16 (it has AVX512-BF16)"),
        ("avx512_bf16 amx_tile amx_bf16", torch.bfloat16, "bfloat16 (it has AMX)"),
    ],
)
def test_precision_on_a_processor_is_what_it_has_units_for(flags, dtype, said, monkeypatch):
    monkeypatch.setattr(compute, "_processor_flags", lambda file: set(flags.split()))
    chosen = choose_compute("cpu")
    assert chosen.dtype == dtype
    assert chosen.reason == f"network on cpu (as asked) in {said}"


def test_flags_are_read_where_the_kernel_tells_them(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16\n")
    assert compute._processor_flags(tmp_path / "cpuinfo") == {"fpu", "avx512_bf16"}
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert compute._processor_flags(tmp_path / "cpuinfo") == set()
    assert compute._processor_flags(tmp_path / "absent") == set()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_asked_for_is_taken(precision):
    chosen = choose_compute("cpu", precision)
    assert chosen.precision == precision
    assert chosen.reason == f"network on cpu (as asked) in {precision} (as asked)"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_processor():
    chosen = choose_compute()
    assert chosen.device == "cpu"
    assert chosen.reason.startswith("network on cpu (no GPU)")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="choose_compute: precision is 'float16'"):
        choose_compute("cpu", "float16")


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match=f"choose_compute: device is '{device}'"):
        choose_compute(device)
