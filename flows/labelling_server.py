"""Label Studio on this machine, in an environment of its own and as a program of the stack, or the user's own server.

`annotation.url` and the token decide which: who sets `LABEL_STUDIO_API_KEY` has a server already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from filelock import FileLock

from components.annotation.label_studio import TOKEN, connect, errors_explained
from components.config import Params
from components.stage import StageError
from flows import stack
from flows.environment import ROOT, STATE, ports, read_or_create
from flows.program_environment import LABEL_STUDIO

LOCKS = ROOT / "infra" / "locks"
BUILD_LOCK, LOCK = LOCKS / "build.txt", LOCKS / "label-studio.txt"
VENV, DATA = STATE / "label-studio-venv", STATE / "label-studio"
TOKEN_FILE, PASSWORD_FILE = STATE / "label-studio-token", STATE / "label-studio-password"
ACCOUNT = "lead@localhost"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def install() -> Path:
    """The command of an environment that holds exactly the lock; made again where the lock has changed."""
    stamp = VENV / "lock.txt"
    VENV.parent.mkdir(exist_ok=True)
    with FileLock(f"{VENV}.lock"):  # two may start at once
        if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
            pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            for lock in (BUILD_LOCK, LOCK):
                # Python compiles what it imports; to compile all there is would take pip half of its time.
                hashed = ["--no-compile", "--no-deps", "--no-build-isolation", "--require-hashes", "-r", str(lock)]
                subprocess.run([*pip, *hashed], check=True)
            stamp.write_bytes(LOCK.read_bytes())
    return VENV / "bin" / "label-studio"


def command(port: int, folder: Path) -> list[str]:
    """Start the server with its database in a folder, on loopback alone; its account comes from the environment."""
    address = ["--internal-host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder)]
    return [str(install()), "start", "--no-browser", *address]


def account(token: str, password: str) -> dict[str, str]:
    """The variables that make the first account, where the process list shows them to nobody."""
    variables = {"USERNAME": ACCOUNT, "PASSWORD": password, "USER_TOKEN": token}
    return {f"LABEL_STUDIO_{name}": value for name, value in variables.items()}


def server(params: Params) -> list[str]:
    """What `atelier serve label-studio` becomes."""
    os.environ.update(LABEL_STUDIO | account(read_or_create(TOKEN_FILE), read_or_create(PASSWORD_FILE)))
    return command(ports(params)["label-studio"], DATA)


def is_ours(params: Params) -> bool:
    """Whether `annotation.url` is this machine's and nobody has given a token for it."""
    return urlsplit(params.annotation.url).hostname in LOOPBACK and not os.environ.get(TOKEN)


def provide_token(params: Params) -> None:
    """Where the server is our own, hand over its token."""
    if is_ours(params) and TOKEN_FILE.exists():
        os.environ[TOKEN] = read_or_create(TOKEN_FILE)


def invitation(url: str) -> str:
    """The link that whoever labels signs up with; raises `StageError` where the server does not answer."""
    client = connect(url)
    with errors_explained(url, ""):
        return urljoin(url, client.organizations.invites.get_invite_link().invite_url or "")


def start(params: Params) -> str:
    """Have our server run, where it is ours; returns how to sign in."""
    url = params.annotation.url
    if not is_ours(params):
        provide_token(params)
        return f"the server at {url}, with the token in {TOKEN}"
    install()
    read_or_create(TOKEN_FILE), read_or_create(PASSWORD_FILE)
    stack.start(params, ["label-studio"])
    provide_token(params)
    if not os.environ.get(TOKEN):
        raise StageError(f"{TOKEN_FILE} is empty; delete it and {DATA}, and run this again")
    return (
        f"sign in at {url} as {ACCOUNT}, with the password in {PASSWORD_FILE.relative_to(ROOT)}; "
        f"others sign up at {invitation(url)} (whoever has this link can: send it to nobody else)"
    )
