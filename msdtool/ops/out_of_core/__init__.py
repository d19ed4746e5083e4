"""An MSD network on an image that does not fit in memory."""
