"""Events for tests."""

from __future__ import annotations

from components.events.schema import Accepted, Deployment, Feedback, Finished


def accepted(identifier: str, *, at: float = 1.0, user: str = "u", variant: str = "control") -> Accepted:
    return Accepted(
        request_id=identifier,
        time=at,
        user_key=user,
        line="text",
        deployment="text-1",
        model="atelier-text",
        experiment="colours",
        variant=variant,
        propensity=0.5,
    )


def finished(identifier: str, *, at: float = 2.0, prompt: str = "a fox", output: str = "fox: animal") -> Finished:
    return Finished(
        request_id=identifier, time=at, latency_s=0.5, outcome="ok", status=200, prompt=prompt, output=output
    )


def like(identifier: str, key: str, *, at: float = 3.0, user: str = "u", value: float = 1.0) -> Feedback:
    return Feedback(request_id=identifier, time=at, key=key, user_key=user, kind="like", value=value)


DEPLOYMENT = Deployment(
    deployment="text-1", line="text", digest="a" * 64, model="atelier-text", version="3", bento="text:1", time=0.5
)
