"""Measures the networks: first whether they are right, then time, memory and share of the limit."""

from msdtool.bench.timing import TimeitResult, bench

__all__ = ["TimeitResult", "bench"]
