"""Tests of every engine of the CPU."""

import pytest
import torch

from msdtool.ops.cpu import native_build

needs_compiler = pytest.mark.skipif(
    not native_build.available(torch.float64), reason="no C++ compiler builds the compiled engine"
)


each_engine = pytest.mark.parametrize(
    "impl", [pytest.param("compiled", marks=needs_compiler), "torch"]
)
