"""Training and testing of models."""

from atomreel.train.models import evaluate_model, train_model

__all__ = ["evaluate_model", "train_model"]
