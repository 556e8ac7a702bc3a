"""The way to Label Studio: its SDK with the token of the environment, bounded waits, and failures as `StageError`.

A request that fails on the server's side (5xx) is made twice more by the SDK, but for those marked `ONCE`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.request_options import RequestOptions

from components.stage import StageError

TOKEN = "LABEL_STUDIO_API_KEY"  # noqa: S105 - the variable's name
WAIT = 60.0  # seconds for the server to connect, to take a part of a request, and to send a part of its answer
ONCE: RequestOptions = {"max_retries": 0}  # for what might have been taken although the answer says otherwise
GOES_ON = "nothing is lost, and the next run does the rest"


def connect(url: str) -> LabelStudio:
    """Raises `StageError` where the environment holds no token; the server is not asked yet."""
    token = os.environ.get(TOKEN, "")
    if not token:
        raise StageError(f"{TOKEN} is not set; copy a token from Account & Settings at {url}")
    with in_words(url, ""):
        return LabelStudio(base_url=url, api_key=token, timeout=WAIT)


@contextmanager
def in_words(url: str, title: str) -> Iterator[None]:
    """Turn what goes wrong with the project of this title into what to do about it."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise StageError(
            f"Label Studio at {url} took longer than {WAIT:.0f} s ({error}); see what keeps it busy: {GOES_ON}"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StageError(
            f"Label Studio at {url} does not answer ({error}); start it, or change annotation.url: {GOES_ON}"
        ) from error
    except ApiError as error:
        raise StageError(_explain(error, url, title)) from error


def _explain(error: ApiError, url: str, title: str) -> str:
    code, said = error.status_code or 0, str(error.body)[:300]
    if code in (401, 403):
        return (
            f"Label Studio at {url} refuses the token in {TOKEN} ({code}); copy that of an "
            "account that may manage projects (a legacy token counts only where its organisation allows it)"
        )
    if code == 404:
        return f"{url}: project {title!r} was deleted meanwhile, or this is not Label Studio's address"
    if code >= 500:
        return f"Label Studio at {url} answered {code} ({said}); its log says why: {GOES_ON}"
    return f"Label Studio at {url} answered {code}: {said}"
