"""The stack refuses what cannot work, in words."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from components.config import Params, load
from components.config.document import read_yaml, write_yaml
from components.stage import StageError
from flows import environment, stack
from flows.watch import STARTING, Watch
from tests.components.events.examples import DEPLOYMENT

ROOT = Path(__file__).resolve().parents[2]


def with_ports(folder: Path, ports: dict[str, int]) -> Params:
    """The project's parameters with these ports, by program, set where a refusal says that they are."""
    document = read_yaml(ROOT / "params.yaml")
    for program, port in ports.items():
        section, key = environment.PORTS[program].split(".")
        document[section][key] = f"http://127.0.0.1:{port}" if key == "url" else port
    write_yaml(folder / "params.yaml", document)
    return load(folder / "params.yaml")


@pytest.mark.parametrize("program", environment.PORTS)
def test_37_a_port_in_use_is_named_with_the_parameter_that_moves_it(program: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        params = with_ports(tmp_path, {program: port})
        assert environment.service_urls(params)[program] == f"http://127.0.0.1:{port}"
        with pytest.raises(StageError) as refused:
            stack.require_free_ports(params, [program])
    assert f"port {port} for {program} is in use" in str(refused.value)
    assert f"change {environment.PORTS[program]} in params.yaml" in str(refused.value)


def test_37_one_port_for_two_programs_is_refused_with_both_parameters(tmp_path: Path) -> None:
    port = load(ROOT / "params.yaml").serving.text_port
    params = with_ports(tmp_path, {"prefect": port})
    with pytest.raises(StageError, match=rf"serving.text_port and stack.prefect_port are both {port} in params.yaml"):
        stack.require_free_ports(params, ["mlflow"])


def test_29_a_supervisor_that_was_killed_and_is_waited_for_by_nobody_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "STATE", tmp_path)
    killed = subprocess.Popen([sys.executable, "-c", "input()", str(stack.CONFIGURATION)], stdin=subprocess.PIPE)
    (tmp_path / "supervisord.pid").write_text(str(killed.pid))
    assert stack.supervisor_pid() == killed.pid
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays in the table
    assert stack.supervisor_pid() is None
    killed.communicate()
    (tmp_path / "supervisord.pid").write_text(str(os.getpid()))  # as after a restart of the machine
    assert stack.supervisor_pid() is None


def test_a_large_model_has_longer_to_answer_after_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "STATE", tmp_path)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    assert stack.patience("text") == stack.patience("gateway") == stack.READY_SECONDS
    stack.place("text", DEPLOYMENT)
    weights = stack.bento_folder(DEPLOYMENT.bento) / "src/openvino_model.bin"
    weights.parent.mkdir(parents=True)
    weights.touch()
    os.truncate(weights, 40_000_000_000)  # a file of holes
    assert stack.patience("text") == stack.READY_SECONDS + 2000
    watch = Watch()
    watch.look({("text", 1): False, ("gateway", 2): False})
    assert (watch.seen["text"].starting, watch.seen["gateway"].starting) == (872, STARTING)
