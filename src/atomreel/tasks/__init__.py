"""What can be learned, one file each: sample, encode, loss, decode, score."""
