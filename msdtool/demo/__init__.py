"""Small data sets to try the program out."""
