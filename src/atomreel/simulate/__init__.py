"""Material and Scope to images with exact truth."""
