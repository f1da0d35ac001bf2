"""Tables over frames: linking, events, occupancy."""
