"""Torch modules. Arrays in, arrays out; nothing here knows about microscopes."""
