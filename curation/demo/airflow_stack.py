"""The four components of Airflow on loopback, for the demo, `curation up` and the end-to-end test: started, watched, spoken to, stopped.

`airflow standalone` is not used: told to stop, it leaves its children behind, and its log servers listen on every interface.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from curation.airflow_guard import require_airflow_home
from curation.demo import process_tree
from curation.errors import CurationError, OutsideError, UsageError
from curation.settings import HomeSettings

LOOPBACK: Final = "127.0.0.1"
ROLES: Final[Mapping[str, str]] = {"admin": "admin", "officer": "op", "auditor": "viewer", "engineer": "user"}
COMPONENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),  # a log server would listen on every interface
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
HEALTH_KEYS: Final = ("metadatabase", "scheduler", "triggerer", "dag_processor")
FINISHED: Final = frozenset({"success", "failed"})
PARKED: Final = "awaiting_input"
API: Final = "/api/v2"
POLL_S: Final = 0.25
POLL_SHARE: Final = 0.05  # of what was waited for already: asking four times a second keeps the API server busier than a batch its worker
POLL_MAX_S: Final = 5.0
SETTLE_S: Final = 3.0  # an answer given sooner after parking can fail the task: one heartbeat (1 s, below) and two seconds to spare
STOP_S: Final = 12.0
PAGE: Final = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: str
    run_type: str
    partition_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A question that a run has put to a person; `try_number` rises when it is asked again."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    subject: str
    body: str
    options: tuple[str, ...]
    assigned_users: tuple[str, ...]


class AirflowStack:
    """A running Airflow inside a `with` block.

    Every component runs in a session of its own and listens on loopback only. Passwords and the signing secret are drawn at each start.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        plugins: Path | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        parallelism: int = 2,
        fresh: bool = False,
        start_limit_s: float = 180.0,
        allowed: HomeSettings | None = None,
        pools: Path | None = None,
    ) -> None:
        """Describe the stack; nothing is started yet.

        Args:
            home: AIRFLOW_HOME: database, logs and passwords go here.
            dags: the DAG folder.
            plugins: the plugins folder, by default an empty one under `home`.
            env: what tasks find in their environment besides, such as CURATION_WORK.
            port: of the API server, by default a free one.
            parallelism: tasks that run at once.
            fresh: forget the runs of earlier starts.
            start_limit_s: longest time until all components report healthy.
            allowed: hosts at home besides this machine, to which the control plane may reach.
            pools: file of the pools that tasks name, as `airflow pools import` takes it; those that are there already stay as they are.
        """
        self.home = home.resolve()
        self.dags = dags.resolve()
        self.plugins = (plugins or self.home / "plugins").resolve()
        self.port = port if port is not None else _free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.passwords: Mapping[str, str] = {user: secrets.token_urlsafe(18) for user in ROLES}
        self.fresh = fresh
        self.parallelism = parallelism
        self.start_limit_s = start_limit_s
        self.allowed = allowed or HomeSettings()
        self.pools = pools
        self.environment: Mapping[str, str] = {}  # of the components, once they are started
        self._extra_env = dict(env or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tokens: dict[str, str] = {}
        self._parked_at_s: dict[tuple[str, str, str, int, int], float] = {}
        self._client = self._connection()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Bring the database up to date and start the components; returns when all are healthy.

        Raises:
            NotAtHome: API, database, remote log or lineage would lead abroad; nothing was started.
            OutsideError: a component ended or did not become healthy in time; its log is named. Nothing is left running.
        """
        executable = _airflow_executable()
        if self._client.is_closed:
            self._client = self._connection()
        for folder in (self.home, self.plugins):
            folder.mkdir(parents=True, exist_ok=True)
        if self.fresh:
            for file in self.home.glob("airflow.db*"):
                file.unlink()
        _write_private(self.home / "passwords.json", json.dumps(dict(self.passwords)))
        environment = self.environment = self._environment()
        require_airflow_home(environment, home=self.allowed)
        self._migrate(executable, environment)
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            for name, command in COMPONENTS.items():
                self._processes[name] = _spawn([executable, *command], environment, self.log(name))
            self._until(self._healthy, self.start_limit_s, "Airflow is not healthy")
            self._make_pools()
            undo.pop_all()

    def stop(self) -> None:
        """Stop every component and what it has grown; nothing happens where none runs."""
        self._client.close()  # the API server waits for connections that are held open
        leaders = [process.pid for process in self._processes.values()]
        grown = process_tree.family(leaders) if leaders else {}
        for process in self._processes.values():
            if process.poll() is None:
                # The component alone: workers that are told to stop as well ignore their last order, and the scheduler waits for them.
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if leaders:
            process_tree.kill({**grown, **process_tree.family(leaders)})
        self._processes.clear()
        self._tokens.clear()

    def log(self, component: str) -> Path:
        """Where a component's output goes."""
        return self.home / f"{component}.log"

    def pids(self) -> Mapping[str, Sequence[int]]:
        """Per component, its process and all that it has grown."""
        return {name: list(process_tree.family([process.pid])) for name, process in self._processes.items()}

    def memory_mib(self) -> Mapping[str, float]:
        """Per component, memory of it and all that it has grown, in MiB, shared pages shared out."""
        return {name: process_tree.memory_mib(pids) for name, pids in self.pids().items()}

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, *, user: str = "engineer", partition_key: str | None = None
    ) -> str:
        """Start a run as `user`; its run id.

        Raises:
            UsageError: Airflow refuses: no right, a bad Param, a kind of run that the DAG does not allow.
            OutsideError: the DAG does not appear in time.
        """
        self.wait_dag(dag_id)
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if partition_key is not None:
            body["partition_key"] = partition_key
        return str(self._call("POST", f"/dags/{dag_id}/dagRuns", user=user, body=body)["dag_run_id"])

    def wait_dag(self, dag_id: str, *, limit_s: float = 90.0) -> None:
        """Return when the DAG can be triggered.

        Raises:
            OutsideError: it does not appear in time; import errors are named.
        """

        def known() -> bool:
            found = self._call("GET", "/dags", query={"dag_id_pattern": dag_id, "limit": PAGE})["dags"]
            return any(one["dag_id"] == dag_id and not one["is_paused"] for one in found)

        try:
            self._until(lambda: known() or None, limit_s, f"DAG {dag_id} does not appear")
        except OutsideError as error:
            errors = self._call("GET", "/importErrors")["import_errors"]
            if not errors:
                raise
            names = ", ".join(f"{one['filename']}: {str(one['stack_trace']).strip().splitlines()[-1]}" for one in errors)
            raise OutsideError(f"DAG files do not import: {names}", subject=str(self.dags), fix="mend the files") from error

    def runs(self, dag_id: str) -> list[Run]:
        """All runs of a DAG, oldest first."""
        found: list[Run] = []
        while True:
            query = {"limit": PAGE, "offset": len(found), "order_by": "id"}
            page = self._call("GET", f"/dags/{dag_id}/dagRuns", query=query)
            found += [_run(one) for one in page["dag_runs"]]
            if len(found) >= page["total_entries"] or not page["dag_runs"]:
                return found

    def run(self, dag_id: str, run_id: str) -> Run:
        """A run as it is now."""
        return _run(self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}"))

    def state(self, dag_id: str, run_id: str) -> str:
        """A run's state as it is now."""
        return self.run(dag_id, run_id).state

    def wait_run(self, dag_id: str, run_id: str, *, limit_s: float = 300.0) -> str:
        """The run's state when it is over, `success` or `failed`; see `require_success`.

        Raises:
            OutsideError: it is not over in time.
        """

        def over() -> str | None:
            state = self.state(dag_id, run_id)
            return state if state in FINISHED else None

        return self._until(over, limit_s, f"run {run_id} of {dag_id} is not over", log=lambda: self._explain(dag_id, run_id))

    def require_success(self, dag_id: str, run_id: str, *, limit_s: float = 300.0) -> None:
        """Return when the run is over and green.

        Raises:
            CurationError: it is not green; the tasks that failed and their logs are named.
            OutsideError: it is not over in time.
        """
        state = self.wait_run(dag_id, run_id, limit_s=limit_s)
        if state != "success":
            raise CurationError(
                f"ended as {state}: {self._explain(dag_id, run_id)}",
                subject=f"run {run_id} of {dag_id}",
                fix="read the log, mend the cause, trigger again",
            )

    def tasks(self, dag_id: str, run_id: str) -> list[Mapping[str, Any]]:
        """The run's task instances, as Airflow reports them (`task_id`, `map_index`, `state`, `try_number`, …)."""
        found: list[Mapping[str, Any]] = []
        while True:  # Airflow gives a hundred at most, whatever is asked
            query = {"limit": PAGE, "offset": len(found), "order_by": "id"}
            page = self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", query=query)
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned, decoded.

        Raises:
            UsageError: it returned nothing.
        """
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self._call("GET", path, query={"deserialize": False, "stringify": False})["value"]

    def pending_approvals(self, dag_id: str = "~", run_id: str = "~") -> list[Approval]:
        """Questions that are parked and wait for an answer, oldest first."""
        query = {"response_received": False, "limit": PAGE}
        found = self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/hitlDetails", query=query)["hitl_details"]
        parked = [_approval(one) for one in found if one["task_instance"]["state"] == PARKED]
        for approval in parked:
            self._parked_at_s.setdefault(_question(approval), time.monotonic())
        return parked

    def wait_approval(self, dag_id: str, run_id: str, *, limit_s: float = 120.0) -> Approval | None:
        """The run's question; None if the run ended without one.

        Raises:
            OutsideError: neither comes in time.
        """

        def asked() -> tuple[Approval | None] | None:
            waiting = self.pending_approvals(dag_id, run_id)
            if waiting:
                return (waiting[0],)
            return (None,) if self.state(dag_id, run_id) in FINISHED else None

        what = f"run {run_id} of {dag_id} asks nothing"
        (approval,) = self._until(asked, limit_s, what, log=lambda: self._explain(dag_id, run_id))
        return approval

    def answer(self, approval: Approval, option: str, params: Mapping[str, Any] | None = None, *, user: str = "officer") -> None:
        """Answer a question as `user`, three seconds after it was first seen parked at the earliest.

        An answer that comes while the task is still being parked can fail it, and Airflow then asks again: see `answer_until_over`.

        Raises:
            UsageError: Airflow refuses: not the person asked, no such option, or answered already.
        """
        parked_s = time.monotonic() - self._parked_at_s.setdefault(_question(approval), time.monotonic())
        time.sleep(max(0.0, SETTLE_S - parked_s))
        path = f"/dags/{approval.dag_id}/dagRuns/{approval.run_id}/taskInstances/{approval.task_id}/{approval.map_index}/hitlDetails"
        self._call("PATCH", path, user=user, body={"chosen_options": [option], "params_input": dict(params or {})})

    def answer_until_over(
        self,
        dag_id: str,
        run_id: str,
        decide: Callable[[Approval], tuple[str, Mapping[str, Any]]],
        *,
        user: str = "officer",
        limit_s: float = 300.0,
    ) -> str:
        """The run's state when it is over, each of its questions answered as `decide` says (option, params), also when one is asked again.

        Raises:
            OutsideError: it is not over in time.
            UsageError: Airflow refuses an answer.
        """
        deadline = time.monotonic() + limit_s
        while True:
            approval = self.wait_approval(dag_id, run_id, limit_s=max(1.0, deadline - time.monotonic()))
            if approval is None:
                return self.state(dag_id, run_id)
            option, params = decide(approval)
            self.answer(approval, option, params, user=user)

    def _connection(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60.0, trust_env=False)

    def _environment(self) -> dict[str, str]:
        """What the components inherit: nothing of another Airflow, no proxy before loopback."""
        dropped = {"PYTHONDONTWRITEBYTECODE"}  # without byte code each process compiles everything at each start: three times slower
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW") and name not in dropped}
        direct = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), LOOPBACK, "localhost"]))
        root = str(Path(__file__).resolve().parents[2])
        return {
            **kept,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.plugins),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(self.parallelism),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in ROLES.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}",
            "AIRFLOW__API__HOST": LOOPBACK,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # a supervisor keeps its slot this long after a task has ended
            "GX_ANALYTICS_ENABLED": "false",
            "PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": direct,
            "no_proxy": direct,
            **self._extra_env,
        }

    def _migrate(self, executable: str, environment: Mapping[str, str]) -> None:
        log = self.log("db-migrate")
        with log.open("wb") as output:
            command = [executable, "db", "migrate"]
            done = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False)  # noqa: S603  # our own command
        if done.returncode != 0:
            fix = f"read {log}; a database of another version may stand in {self.home}: remove it, or start fresh"
            raise OutsideError(f"airflow db migrate ended with {done.returncode}", subject="Airflow", fix=fix)

    def _make_pools(self) -> None:
        """Make the pools that are not there: a task whose pool is missing waits for ever, with a line in the scheduler's log."""
        if self.pools is None:
            return
        there = {pool["name"] for pool in self._call("GET", "/pools", query={"limit": PAGE})["pools"]}
        for name, pool in json.loads(self.pools.read_text(encoding="utf-8")).items():
            if name not in there:
                self._call("POST", "/pools", body={"name": name, **pool})

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None:
                last = _last_line(self.log(name))
                raise OutsideError(f"it ended with {code}: {last}", subject=f"Airflow's {name}", fix=f"read {self.log(name)}")

    def _healthy(self) -> bool | None:
        try:
            answer = self._client.get(f"{API}/monitor/health", timeout=5.0)
        except httpx.TransportError:
            return None
        if answer.status_code != httpx.codes.OK:
            return None
        health = answer.json()
        return all((health.get(key) or {}).get("status") == "healthy" for key in HEALTH_KEYS) or None

    def _until(self, ask: Callable[[], T | None], limit_s: float, what: str, *, log: Callable[[], str] | None = None) -> T:
        """The first answer that is not None, asked again and again, less and less often, while all components live."""
        started = time.monotonic()
        while True:
            self._check_alive()
            found = ask()
            if found is not None:
                return found
            waited_s = time.monotonic() - started
            if waited_s >= limit_s:
                where = log() if log is not None else f"the logs {self.home}/*.log"
                raise OutsideError(f"{what} after {limit_s:g} s", subject="Airflow", fix=f"look at {where}")
            time.sleep(min(max(POLL_S, POLL_SHARE * waited_s), POLL_MAX_S))

    def _explain(self, dag_id: str, run_id: str) -> str:
        """Which tasks of a run have not succeeded, and where their logs lie."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"
        names = [
            f"{one['task_id']}{_index(one['map_index'])} is {one['state']}"
            for one in self.tasks(dag_id, run_id)
            if one["state"] not in {"success", "skipped"}
        ]
        return f"{', '.join(names) or 'no task'}; logs under {folder}"

    def _token(self, user: str) -> str:
        if user not in self._tokens:
            if user not in self.passwords:
                raise UsageError("there is no such user", subject=user, fix=f"use one of {', '.join(self.passwords)}")
            answer = self._send("POST", "/auth/token", json={"username": user, "password": self.passwords[user]})
            if answer.status_code != httpx.codes.CREATED:
                raise OutsideError(f"the log-in answers {answer.status_code}", subject=user, fix=f"read {self.log('api-server')}")
            self._tokens[user] = str(answer.json()["access_token"])
        return self._tokens[user]

    def _call(
        self, method: str, path: str, *, user: str = "admin", body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """The decoded answer of a REST call made as `user`."""
        headers = {"Authorization": f"Bearer {self._token(user)}"}
        answer = self._send(method, f"{API}{path}", headers=headers, json=body, params=query)
        if answer.is_server_error:
            raise OutsideError(
                f"{method} {path} answers {answer.status_code}", subject="Airflow's API", fix=f"read {self.log('api-server')}"
            )
        if answer.is_client_error:
            raise UsageError(
                f"{user} may not, or the request does not fit: {method} {path} answers {answer.status_code}: {answer.text[:500]}",
                subject="Airflow's API",
                fix="use the right user and what the DAG's documentation asks for",
            )
        return answer.json()

    def _send(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        try:
            return self._client.request(method, url, **arguments)
        except httpx.TransportError as error:
            self._check_alive()
            fix = f"start the stack first; read {self.log('api-server')}"
            raise OutsideError(f"no answer to {method} {url}: {error}", subject="Airflow's API", fix=fix) from error


def _run(found: Mapping[str, Any]) -> Run:
    return Run(
        dag_id=found["dag_id"],
        run_id=found["dag_run_id"],
        state=found["state"],
        run_type=found["run_type"],
        partition_key=found.get("partition_key"),
    )


def _approval(found: Mapping[str, Any]) -> Approval:
    task = found["task_instance"]
    return Approval(
        dag_id=task["dag_id"],
        run_id=task["dag_run_id"],
        task_id=task["task_id"],
        map_index=task["map_index"],
        try_number=task["try_number"],
        subject=found["subject"],
        body=found["body"] or "",
        options=tuple(found["options"]),
        assigned_users=tuple(person["id"] for person in found["assigned_users"]),
    )


def _question(approval: Approval) -> tuple[str, str, str, int, int]:
    return approval.dag_id, approval.run_id, approval.task_id, approval.map_index, approval.try_number


def _index(map_index: int) -> str:
    return "" if map_index < 0 else f"[{map_index}]"


def _airflow_executable() -> str:
    """The airflow command of this very environment."""
    beside = Path(sys.executable).parent / "airflow"
    if not beside.is_file():
        raise OutsideError("there is no airflow command beside this python", subject=str(beside), fix="run `make setup`")
    return str(beside)


def _spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A component in a session of its own, told to stop should this process die without stopping it."""
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603  # our own command
            [*guard, *command], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _write_private(file: Path, text: str) -> None:
    """Write a file that only this user may read."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(text)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "its log is empty"
