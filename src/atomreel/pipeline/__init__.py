"""The whole chain on one file: `run` streams frames, checkpoints and resumes. The only place where stages meet."""

from atomreel.pipeline.driver import run

__all__ = ["run"]
