"""The file formats of images, each read lazily: a page, chunk or range at a time."""

from msdtool.data.containers.base import Array, Container, Key

__all__ = ["Array", "Container", "Key"]
