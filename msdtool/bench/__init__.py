"""Benchmarks of the networks: correctness first, then time, memory and fraction of the limit."""

from msdtool.bench.timing import TimeitResult, bench

__all__ = ["TimeitResult", "bench"]
