"""Engines that compute image by image: in C++ for CPUs, or as matrix products of PyTorch."""
