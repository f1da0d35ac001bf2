"""Torch modules. Arrays in, arrays out; nothing here knows about microscopes."""

from atomreel.nets.memory import keep_big_blocks

keep_big_blocks()  # before torch is imported by any network
