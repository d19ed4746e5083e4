"""What files say about their arrays besides the pixels, and how results say it.

Each format's room reads its files' own conventions and writes those of results.
"""

from msdtool.data.metadata.base import (
    Description,
    Metadata,
    Packing,
    Provenance,
    Step,
    Tag,
)

__all__ = ["Description", "Metadata", "Packing", "Provenance", "Step", "Tag"]
