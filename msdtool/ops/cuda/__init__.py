"""Engines that launch CUDA kernels, and what launches kernels for them and for other operations."""
