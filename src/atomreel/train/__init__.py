"""One training loop; a model folder with its card comes out."""
