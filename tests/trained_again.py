"""What tests do in the middle of a training: something after one step, or with its gradients."""

from __future__ import annotations

from typing import Any

from puna.train.callbacks import Callback, Step, Training


class At(Callback):
    """Does something after one step, or with its gradients."""

    def __init__(self, number: int, *, step: Any = None, gradients: Any = None) -> None:
        self.number, self.on_step, self.on_gradients = number, step, gradients

    def gradients(self, training: Training) -> None:
        if self.on_gradients and training.position.step + 1 == self.number:
            self.on_gradients(training)

    def step(self, training: Training, step: Step) -> None:
        if self.on_step and step.number == self.number:
            self.on_step(training)


class Killed(BaseException):
    pass


def die(training: Training) -> None:
    raise Killed
