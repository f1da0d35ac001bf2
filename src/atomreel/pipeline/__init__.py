"""The whole chain on one file: streams frames, checkpoints and resumes. The only place where stages meet."""
