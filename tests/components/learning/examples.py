"""Judged answers for tests."""

from __future__ import annotations

from itertools import count

from components.config import Learning
from components.learning.harvest import JudgedAnswer

SETTINGS = Learning(
    window_days=90,
    min_new=1,
    min_likes=1,
    seed=7,
    held_out_users=0.0,
    max_per_user=50,
    max_per_minute=30,
    uninformative=20,
    label_batch=10,
    simulated=False,
)
NUMBERS = count()


def answer(prompt: str, output: str, liked: bool, user: str = "ada", time: float | None = None) -> JudgedAnswer:
    number = next(NUMBERS)
    at = 1000.0 + 10 * number if time is None else time
    return JudgedAnswer(f"r{number}", at, user, "text-1", prompt, output, liked)
