"""Mixed-Scale Dense networks for image-to-image work."""
