"""Movie to Movie: cleaning, scale, drift."""
