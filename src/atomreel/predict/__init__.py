"""Models applied to images: checks, tiles, batches, uncertainty."""
