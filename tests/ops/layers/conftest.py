"""Kernels on the CPU."""

import pytest


@pytest.fixture
def cuda(shim):
    """Kernels run on the CPU where impl="cuda" asks for them."""
    return "cuda"
