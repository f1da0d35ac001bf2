"""Files to Movies, always lazy by frame."""
