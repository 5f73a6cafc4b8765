"""Systems that are small, or fail in the ways that a study must survive; used by name from tests."""

from __future__ import annotations

import os
import signal
import time

import torch
from torch import nn

from fasttextdiff_lab.study.systems.system import Plain, System


def tiny(size, channels=8, pause=0.0):
    """Two convolutions; `pause` seconds in each step."""
    network = nn.Sequential(nn.Conv2d(3, channels, 5, padding=2), nn.ReLU(), nn.Conv2d(channels, 1, 5, padding=2))
    return Slow(network, pause)


class Slow(Plain):
    def __init__(self, network, pause):
        super().__init__(network)
        self.pause = pause

    def learn(self, images, words, noise):
        time.sleep(self.pause)
        return super().learn(images, words, noise)


class Reading(System):
    """Adds the mean state of the text to the brightness."""

    def __init__(self, encoder):
        super().__init__(encoder)
        self.conv, self.text = nn.Conv2d(3, 1, 3, padding=1), nn.Linear(encoder.dim, 1)

    def forward(self, images, words, noise):
        return self.conv(images) + self.text(words.states.mean(1))[:, :, None, None]


def reading(size, encoder):
    return Reading(encoder)


reading.reads_text = True


def no_memory(size):
    """Asks for more memory than any machine has."""
    return Plain(Greedy())


class Greedy(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 1, 1)

    def forward(self, images):
        return super().forward(images) + torch.empty(2**60)[0]


def not_a_number(size):
    return Plain(Broken())


class Broken(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 1, 1)

    def forward(self, images):
        return super().forward(images) * float("nan")


def dying(size):
    """Kills its own process in training, as the operating system does for want of memory."""
    return Plain(Killed())


class Killed(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 1, 1)

    def forward(self, images):
        os.kill(os.getpid(), signal.SIGKILL)
