"""The text runtime: OpenVINO GenAI's continuous batching behind the runtime interface.

One engine thread owns the pipeline. It admits requests, steps all of them together, hands out what each step wrote, and
sleeps while there is none. Callers only ever touch their own job. What the engine cannot take is refused on the
caller's thread, before anything is started; what fails nevertheless fails alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from components.artifact import ArtifactError, verify
from components.chat import ChatEncoder, ChatFormat, Message, Turn, context_length
from components.config.base import in_float32
from components.runtimes.base import (
    JobFailedError,
    PromptTooLongError,
    RequestRefusedError,
    TextRequest,
    TextResult,
    Trace,
)
from components.runtimes.fairness import LONG_PROMPT, admissible

READING_TOKENS = 512  # of prompts at a time: two of the steps of 256 tokens in which the engine reads them
WRITERS_TURN = 0.25  # of the time that reading the long prompt before it took
CACHE_GB = 1  # of keys and values: about 45,000 tokens of a 135 M model
# With AMX, OpenVINO would choose bf16. Measured there on the default model: f32 with int8 weights writes 1.4 times as
# fast for one stream, 1.3 for 8 (81 and 364 tokens/s); bf16 1.1 times for 32, 1.3 for 8 prompts of 400 tokens.
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
# Of keys and values. With OpenVINO's own choice, 8 bits, an answer may change with the company in which it is written:
# 2 of 176 greedy ones did in batches of 16, none with 16 bits, at 0.98 to 1.00 times the CPU's time (docs/training.md).
CACHE = {"KV_CACHE_PRECISION": "f16"}
WEIGHTS = "adapter_model.safetensors"  # of an adapter: PEFT's name
log = logging.getLogger("bentoml.text")
REPLACEMENT = "\ufffd"  # what an incomplete UTF-8 sequence decodes to


class EngineStoppedError(RuntimeError):
    """The runtime was closed, or has no working engine, before the request was finished."""


def require_context(folder: Path, max_prompt_tokens: int | None, max_new_tokens: int) -> None:
    """Raise `ArtifactError` where the model in an export or package holds less than the longest prompt and answer."""
    holds, prompt = _context(folder / "openvino"), max_prompt_tokens or 1
    if prompt + max_new_tokens > holds:
        raise ArtifactError(
            f"serving.text_max_prompt_tokens {max_prompt_tokens} and text_max_new_tokens {max_new_tokens}: the model "
            f"in {folder} holds {holds} tokens; lower them, or set text_max_prompt_tokens to null for what it holds"
        )


def _context(folder: Path) -> int:
    return context_length(json.loads((folder / "config.json").read_bytes()))


def load_text(folder: Path, adapter: Path | None = None, max_prompt_tokens: int | None = None) -> OpenVinoText:
    """The runtime of a digest-verified export or package, with an adapter on top of its weights where one is given.

    Prompts of more than `max_prompt_tokens` are refused. Raises `ArtifactError` where the bytes are not their own, or
    the adapter was made for other weights.
    """
    model = verify(folder).parents.get("checkpoint")
    if adapter is None:
        return OpenVinoText(folder / "openvino", max_prompt_tokens=max_prompt_tokens)
    manifest = verify(adapter)
    if manifest.kind != "adapter" or manifest.parents.get("checkpoint") != model:
        made_for = manifest.parents.get("checkpoint")
        raise ArtifactError(f"{adapter}: a {manifest.kind} for the weights of {made_for}; those served are {model}'s")
    return OpenVinoText(folder / "openvino", adapter / WEIGHTS, manifest.parameters["scale"], max_prompt_tokens)


@dataclass(eq=False)
class _Job:
    """A request in the engine: `piece` is called with new text, on the engine's thread.

    `suspect`: it was at work in a step that failed, and goes on alone, so that it can fail nobody else's.
    """

    request: TextRequest
    prompt: list[int]
    settings: Any
    piece: Callable[[str], None] | None
    done: Future[TextResult] = field(default_factory=Future)
    handle: Any = None
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    sent: int = 0  # characters already handed out
    finish_reason: str = "length"
    cancelled: bool = False
    suspect: bool = False
    admitted: float = 0.0  # seconds of a monotonic clock

    @property
    def share(self) -> str:
        return self.request.share

    @property
    def cost(self) -> int:
        return len(self.prompt) + self.request.max_new_tokens

    @property
    def unread(self) -> int:
        return 0 if self.ids else len(self.prompt)

    @property
    def trace(self) -> Trace | None:
        if not self.request.traced:
            return None
        return Trace(tuple(self.prompt), tuple(self.ids), tuple(self.log_probs))


class OpenVinoText:
    """Writes text on the CPU; concurrent calls join the batch, fairly, at the next step. Close it to end its thread."""

    def __init__(
        self, folder: Path, adapter: Path | None = None, scale: float = 1.0, max_prompt_tokens: int | None = None
    ) -> None:
        import openvino_genai as genai
        from tokenizers import Tokenizer

        self._genai = genai
        self._start = partial(_pipeline, genai, folder, adapter, scale)
        self._pipeline = self._start()  # None after it has failed, until a job needs it
        self._template = self._pipeline.get_tokenizer()
        # Hugging Face's tokenizer decodes a token in microseconds; OpenVINO's runs a graph for it.
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._format = ChatFormat.read(folder)
        self._chat = ChatEncoder(self._render, self._encode, {token.content for token in added if token.special})
        self._context = _context(folder)
        self._max_prompt_tokens = max_prompt_tokens or self._context
        self._jobs: list[_Job] = []
        self._waiting: list[_Job] = []
        self._wake = threading.Condition()
        self._closed = False
        self._count = 0
        self._writers_until = 0.0  # seconds of a monotonic clock
        self._thread = threading.Thread(target=self._run, name="text-engine", daemon=True)
        self._thread.start()

    def generate(self, requests: Sequence[TextRequest], *, ignore_end: bool = False) -> list[TextResult]:
        """One result per request, in order; raises `RequestRefusedError` before any is started.

        `ignore_end` writes on past the end token, so that engines can be timed over equal numbers of tokens.
        """
        jobs = [self._job(request, None, ignore_end) for request in requests]
        self._submit(jobs)
        try:
            return [job.done.result() for job in jobs]
        finally:
            self._cancel(jobs)

    def stream(self, request: TextRequest) -> AsyncGenerator[str | TextResult, None]:
        """Pieces as they are written, then the result; leaving the iteration early ends the generation.

        Raises `RequestRefusedError` at the call, so that a caller can refuse before it begins to answer.
        """
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[str | Future[TextResult]] = asyncio.Queue()

        def put(item: str | Future[TextResult]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(items.put_nowait, item)

        job = self._job(request, put)
        job.done.add_done_callback(put)
        return self._items(job, items)

    def takes(self, request: TextRequest) -> bool:
        """Whether a request is short enough for the model; raises `RequestRefusedError` where it is wrong otherwise."""
        try:
            self._job(request, None)
        except PromptTooLongError:
            return False
        return True

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Of each token from a sequence's second on its log-probability (nats) after those before it, by the engine as
        it serves, its paged cache included."""
        request = TextRequest((), max_new_tokens=1, temperature=0.0, traced=True)
        jobs = [_Job(request, list(ids), self._settings(request, ignore_end=True), None) for ids in sequences]
        for job in jobs:
            job.settings.echo = True  # the engine gives a prompt's tokens back as if it had written them
        self._submit(jobs)
        results = [job.done.result() for job in jobs]
        return [
            [*result.trace.log_probs[1 : len(job.prompt)]]
            for job, result in zip(jobs, results, strict=True)
            if result.trace
        ]

    async def _items(
        self, job: _Job, items: asyncio.Queue[str | Future[TextResult]]
    ) -> AsyncGenerator[str | TextResult, None]:
        self._submit([job])
        try:
            while isinstance(item := await items.get(), str):
                yield item
            yield item.result()
        finally:
            self._cancel([job])

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The tokens the model reads for `messages`, its system prompt included.

        Raises `RequestRefusedError` where the template does not take them.
        """
        try:
            return self._chat.prompt(self._format.messages(messages))
        except (ValueError, RuntimeError) as error:
            raise RequestRefusedError(f"these messages cannot be read as a chat: {error}") from error

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated tokens."""
        return str(self._tokenizer.decode(list(ids)))

    def close(self) -> None:
        """End the engine's thread; requests that are not finished raise `EngineStoppedError`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _job(self, request: TextRequest, piece: Callable[[str], None] | None, ignore_end: bool = False) -> _Job:
        settings = self._settings(request, ignore_end)
        prompt = self.prompt_ids(request.messages)
        if len(prompt) > self._max_prompt_tokens:
            raise PromptTooLongError(f"{len(prompt)} prompt tokens; at most {self._max_prompt_tokens} are read here")
        if len(prompt) + request.max_new_tokens > self._context:
            raise PromptTooLongError(
                f"{len(prompt)} prompt tokens and {request.max_new_tokens} to write; the model holds {self._context}"
            )
        return _Job(request, prompt, settings, piece)

    def _render(self, turns: list[Turn]) -> str:
        variables = self._format.variables
        return str(self._template.apply_chat_template(turns, add_generation_prompt=True, extra_context=variables))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _settings(self, request: TextRequest, ignore_end: bool) -> Any:
        """The engine's form of a request's parameters, once checked by the engine itself: `RequestRefusedError`."""
        try:
            settings = self._genai.GenerationConfig(
                max_new_tokens=request.max_new_tokens,
                do_sample=request.temperature > 0,
                rng_seed=request.seed,
                ignore_eos=ignore_end,
                apply_chat_template=False,
                logprobs=int(request.traced),
            )
            if request.temperature > 0:
                # With less than float32's normal numbers the engine divides 0 by 0 and writes noise.
                settings.temperature, settings.top_p = in_float32(request.temperature), in_float32(request.top_p)
            settings.set_eos_token_id(self._format.closing[-1])
            settings.stop_token_ids = set(self._format.ends)
            settings.validate()
        except (ValueError, TypeError, RuntimeError) as error:  # pybind11's for a type or a range, the engine's own
            reason = str(error).strip().rpartition("\n")[2]  # before it the engine names its source's line
            raise RequestRefusedError(
                f"the engine refuses max_new_tokens {request.max_new_tokens}, temperature {request.temperature!r}, "
                f"top_p {request.top_p!r}, seed {request.seed}: {reason}"
            ) from error
        return settings

    def _submit(self, jobs: Sequence[_Job]) -> None:
        with self._wake:
            if self._closed:
                raise EngineStoppedError("the text engine is closed")
            self._waiting += jobs
            self._wake.notify()

    def _cancel(self, jobs: Sequence[_Job]) -> None:
        with self._wake:
            for job in jobs:
                job.cancelled = not job.done.done()
            self._wake.notify()

    # Everything below runs on the engine's thread.

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._waiting or self._jobs)
            if self._closed:
                return self._end_all(EngineStoppedError("the text engine was closed"))
            try:
                self._pipeline = self._pipeline or self._start()
            except Exception as error:  # the thread must outlive it: the next job tries again
                self._end_all(EngineStoppedError(f"the text engine failed, and does not start again: {error}"))
                continue
            try:
                self._advance()
            except Exception as error:
                self._recover(error)

    def _advance(self) -> None:
        for job in [job for job in (*self._jobs, *self._waiting) if job.cancelled]:
            self._finish(job, JobFailedError("the request was cancelled"))
        for job in self._next():
            self._admit(job)
        reading = [job.admitted for job in self._jobs if job.unread > LONG_PROMPT]
        self._pipeline.step()
        if reading:
            now = monotonic()
            self._writers_until = now + WRITERS_TURN * (now - min(reading))
        for job in list(self._jobs):
            try:
                self._collect(job)
            except Exception as error:  # in handing out its text: no concern of others
                self._finish(job, JobFailedError(f"what was written cannot be handed out: {error}"))

    def _next(self) -> list[_Job]:
        """The waiting jobs to admit now, fairest first; or the first suspect alone once nobody else is at work."""
        with self._wake:
            suspects = [job for job in self._waiting if job.suspect]
            if not suspects and not any(job.suspect for job in self._jobs):
                writers_turn = monotonic() < self._writers_until
                return admissible(self._waiting, self._jobs, READING_TOKENS, writers_turn)
            return suspects[: not self._jobs]

    def _admit(self, job: _Job) -> None:
        """Give a job to the engine, from where it was if it was at work before."""
        import openvino as ov

        self._count += 1
        job.admitted = monotonic()
        job.settings.max_new_tokens = job.request.max_new_tokens - len(job.ids)
        tokens_1L = ov.Tensor(np.array([job.prompt + job.ids], dtype=np.int64))
        try:
            job.handle = self._pipeline.add_request(self._count, tokens_1L, job.settings)
        except Exception as error:  # the request was checked before: this is not its sender's fault
            return self._finish(job, JobFailedError(f"the text engine did not take the request: {error}"))
        with self._wake:
            self._waiting.remove(job)
            self._jobs.append(job)

    def _recover(self, error: Exception) -> None:
        """After a failed step start the engine anew, as it would fail in every later step too.

        A single job has failed by itself. Of several nobody knows which one it was: each goes on alone.
        """
        self._pipeline = None
        log.error("the text engine failed with %d jobs at work and is started again: %s", len(self._jobs), error)
        if len(self._jobs) == 1:
            return self._finish(self._jobs[0], JobFailedError(f"the text engine failed: {error}"))
        with self._wake:
            for job in self._jobs:
                job.handle, job.suspect = None, True
            self._waiting, self._jobs = self._jobs + self._waiting, []

    def _collect(self, job: _Job) -> None:
        status = self._genai.GenerationStatus
        while job.handle.can_read():
            for output in job.handle.read().values():
                job.ids += output.generated_ids
                job.log_probs += output.generated_log_probs
                if output.finish_reason == self._genai.GenerationFinishReason.STOP:
                    job.finish_reason = "stop"
        state = job.handle.get_status()
        if job.piece is not None:
            self._hand_out(job, final=state != status.RUNNING)
        if state == status.FINISHED:
            text = self.decode(job.ids)
            self._finish(job, TextResult(text, len(job.prompt), len(job.ids), job.finish_reason, job.trace))
        elif state != status.RUNNING:
            self._finish(job, JobFailedError(f"the engine gave the request up ({state.name.lower()})"))

    def _hand_out(self, job: _Job, final: bool) -> None:
        text = self.decode(job.ids)
        if not final and text.endswith(REPLACEMENT):
            return  # a character whose bytes are not all there yet
        if job.piece is not None and len(text) > job.sent:
            job.piece(text[job.sent :])
            job.sent = len(text)

    def _finish(self, job: _Job, result: TextResult | EngineStoppedError | JobFailedError) -> None:
        with self._wake:
            (self._jobs if job in self._jobs else self._waiting).remove(job)
        if isinstance(result, TextResult):
            job.done.set_result(result)
            return
        if job.handle is not None:
            job.handle.cancel()
        job.done.set_exception(result)

    def _end_all(self, error: EngineStoppedError) -> None:
        for job in [*self._jobs, *self._waiting]:
            self._finish(job, error)


def _pipeline(genai: Any, folder: Path, adapter: Path | None, scale: float) -> Any:
    """A fresh engine for the exported model in `folder`."""
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = CACHE_GB
    properties: dict[str, Any] = {**PRECISION, **CACHE}
    if adapter:
        # Its state would be shared by all sequences of a batch, so that one engine cannot change it by request.
        # Measured on the default model: fixed like this it writes 0.74 to 0.79 times as fast as without, 0.55 else.
        static = genai.AdapterConfig.Mode.MODE_STATIC
        properties["adapters"] = genai.AdapterConfig(genai.Adapter(str(adapter)), scale, static)
    return genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)
