"""What each program of the stack sees of the environment: what it reads, so that a secret is where it is needed alone.

Whoever takes over a program has what it sees. A pattern ends with an asterisk where it is the beginning of names.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from functools import partial

from components import engine_token, lines
from components.api_keys import KEYS_FILE
from components.endpoint_keys import KEYS_FOLDER
from flows import labelling_server
from flows.mlflow_server import LOGIN
from flows.processes import MARK

# How a process runs: where it finds things, its language, its threads and devices, proxies, certificates.
SYSTEM = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "TMPDIR", "LANG", "LANGUAGE", "LC_*", "XDG_*", "LD_*"),
    *("PYTHON*", "VIRTUAL_ENV", "*_proxy", "*_PROXY", "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("OMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "MALLOC_*", "CUDA_*", "NVIDIA_*", "OPENVINO_*", "OV_*"),
    *("DO_NOT_TRACK", "TOKENIZERS_*", "TQDM_*", "HF_HUB_OFFLINE", MARK),
)
# A database or an object store that the user has configured by the variables of its own library.
STORES = ("PG*", "AWS_*", "AZURE_*", "GOOGLE_*", "GCLOUD_*")
BENTO = ("BENTOML_*", "PROMETHEUS_*", "OTEL_*", engine_token.VARIABLE)
ENGINE = (*BENTO, "ATELIER_DEPLOYMENT", "ATELIER_ADAPTERS", "ATELIER_*_ARTIFACT", "ATELIER_IMAGE_ENGINE")
GATEWAY = (*BENTO, *STORES, KEYS_FILE, "ATELIER_USER_SECRET", "ATELIER_*_URL")
# Flows train, build Bentos, read and write every store, and are told the address of people's Label Studio. The key of
# an endpoint they have from where the newest command has put it, not from when their supervisor was started.
WORKER = (
    *("PREFECT_*", "MLFLOW_*", "DVC_*", "DAFT_*", "RAY_*", "BENTOML_*", "TRANSFORMERS_*", "HF_*", "TORCH_*", "PIP_*"),
    *(*STORES, "GIT_*", "SSH_*", "ATELIER_ADAPTERS", "ATELIER_EVENTS_URL", "LABEL_STUDIO_*", engine_token.VARIABLE),
    "ATELIER_JUDGE_KEY",  # of the judge of text answers
)
# Steps of releases and experiments, and the ops page.
HOUSEKEEPING = ("PREFECT_*", "MLFLOW_*", *STORES, "ATELIER_EVENTS_URL", engine_token.VARIABLE)
PROGRAMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(lines.IMAGE.programs, ENGINE),
    **dict.fromkeys(lines.TEXT.programs, (*ENGINE, KEYS_FOLDER)),
    "gateway": GATEWAY,
    "prefect": ("PREFECT_*", *STORES),
    "mlflow": ("MLFLOW_*", "_MLFLOW_*", *STORES, LOGIN),
    "worker": WORKER,
    "housekeeping": HOUSEKEEPING,
    "prometheus": (),
    "alertmanager": (),
    "label-studio": ("LABEL_STUDIO_*", "DJANGO_*", "POSTGRE_*", *labelling_server.SETTINGS),
}


def environment_of(program: str) -> dict[str, str]:
    """The part of this process' environment that a program starts with; all of it for one that is not of the stack."""
    if program not in PROGRAMS:
        return dict(os.environ)
    patterns = (*SYSTEM, *PROGRAMS[program])
    return {name: value for name, value in os.environ.items() if any(map(partial(fnmatchcase, name), patterns))}
