"""The command as people use it: exit codes, one line per error, JSON for programs."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from curation import pipeline
from curation.cli import main
from curation.cli_text import folded
from curation.demo import process_tree, run_demo
from curation.residency import signing
from tests.rendered import render

ROOT = Path(__file__).resolve().parents[1]


def curation(*arguments, check=None, env=None):
    """Run the command in a process of its own."""
    code = "from curation.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT, env=env, timeout=120
    )
    if check is not None:
        assert result.returncode == check, result.stdout + result.stderr
    return result


def entered(*arguments, check):
    """Run the command's entry in this process: the same exit codes and texts, without a second of imports each."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["curation", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    assert (end.value.code or 0) == check, out.getvalue() + err.getvalue()
    return SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue())


def test_every_command_has_help():
    """Each command says in its help what it does."""
    listed = curation("--help", check=0).stdout
    for command in (
        "demo",
        "up",
        "inspect",
        "pull",
        "manifest",
        "validate",
        "release",
        "approve",
        "publish",
        "residency",
        "shards",
        "audit",
    ):
        assert command in listed
        assert len(entered(command, "--help", check=0).stdout.split()) > 10


def test_wrong_use_exits_2_and_names_the_fix(tmp_path):
    """No work folder, an unknown source, a missing file: exit 2, one line, no traceback."""
    for arguments in (("pull", "fleet"), ("pull", "fleet", "--work", tmp_path), ("inspect", tmp_path / "none.mp4")):
        result = curation(*arguments, check=2, env={"PATH": "/usr/bin:/bin"})
        assert "Fix: " in result.stderr
        assert "Traceback" not in result.stderr


def test_a_file_that_is_no_video_is_quarantined_not_an_error(tmp_path):
    """inspect answers for any file: one JSON object with the manifest's columns, no made-up value."""
    path = tmp_path / "notes.mp4"
    path.write_text("this is no video")
    row = json.loads(curation("inspect", "--json", path, check=0).stdout)
    assert row["source_uri"] == str(path)
    assert row["verdict"] == "quarantined"
    assert row["sharpness"] is None
    assert "sharpness" in row["unmeasured"]


def test_hostile_names_reach_the_terminal_harmless(tmp_path):
    """A file name with terminal codes or markup is shown, not obeyed."""
    path = tmp_path / "\x1b[31m[b]"
    path.write_text("no video")
    result = curation("inspect", path, check=0)
    assert "\x1b" not in result.stdout
    assert "[b]" in result.stdout


def test_names_are_whole_in_a_pipe_and_on_a_narrow_terminal(tmp_path):
    """A long name is not cut: in a pipe it stands in one line, on a terminal it goes on below."""
    path = tmp_path / f"{'long_' * 20}.mp4"
    path.write_text("no video")
    lines = curation("inspect", path, check=0).stdout.splitlines()
    assert [path.name] == [line.split()[0] for line in lines if line.startswith("long_")]
    drawn = io.StringIO()
    table = folded("clip", "verdict")
    table.add_row(path.name, "quarantined")
    Console(width=40, file=drawn, force_terminal=True, color_system=None).print(table)
    assert path.name == "".join(line.split()[0] for line in drawn.getvalue().splitlines()[1:])


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (errno.ENOSPC, "make room on its disk"),
        (errno.ENOENT, "make the folder"),
        (errno.EROFS, "mounted for writing"),
        (errno.EACCES, "the right to it"),
        (errno.EIO, "look at"),
    ],
)
def test_what_mends_a_disk_is_told_by_its_error(error, fix):
    """A full disk, one mounted for reading and a missing right are mended in different ways: exit 3, the file and the step."""

    def fails(*_):
        raise OSError(error, os.strerror(error), "/disk/file")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "open_settings", fails)
        told = entered("site", check=3).stderr
    assert "/disk/file: cannot be used: " in told
    assert fix in told


def test_releases_under_the_unsigned_baseline_are_refused(tmp_path, rendered_job):
    """With no signed pack in the settings a release exits 1 and says what is missing; nothing is under overseas/."""
    work = rendered_job
    text = (work / "curation.toml").read_text()
    (work / "curation.toml").write_text(text.split("[residency]", maxsplit=1)[0])
    try:
        result = entered("release", "--work", work, check=1)
        assert "unsigned" in result.stderr
        assert "cn-baseline" in result.stderr
    finally:
        (work / "curation.toml").write_text(text)


@pytest.fixture(scope="module")
def rendered_job(tmp_path_factory):
    """A work folder with one small validated batch, made by the CLI itself: two clips that may leave, one too black, one no video."""
    clips, work = tmp_path_factory.mktemp("clips") / "fleet", tmp_path_factory.mktemp("work")
    run_demo.prepare(render(clips, "city-day", "highway-overcast", "black", "text"), None, work, Console(quiet=True))
    result = entered("pull", run_demo.SOURCE, "--work", work, "--json", check=0)
    batch = json.loads(result.stdout.splitlines()[0])["subject"]
    entered("manifest", batch, "--work", work, check=0)
    assert "added" in entered("validate", batch, "--work", work, check=0).stdout
    return work


def approver_key(folder, name):
    """File and public half of a new key."""
    private_pem, public_hex = signing.keygen()
    path = folder / f"{name}.pem"
    path.write_bytes(private_pem)
    return path, public_hex


def test_a_release_that_is_not_there_is_wrong_use(rendered_job):
    """Approving or publishing what nobody ever cut exits 2 and says where releases are listed."""
    path, _ = approver_key(rendered_job, "nobody")
    seen = ("--key", path, "--ticket", "T", "--release-digest", "0", "--evidence-digest", "0")
    told = entered("publish", "NONE", "--work", rendered_job, check=2).stderr
    assert "release NONE: does not exist. Fix: list them with `curation release --list`" in told
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "approver_of", lambda *_: "officer")
        assert "does not exist" in entered("approve", "NONE", *seen, "--work", rendered_job, check=2).stderr


def test_a_terminated_command_leaves_no_worker(tmp_path):
    """SIGTERM ends the command with 143, and its workers with it, however long their clip would have taken."""
    jobs = Path(__file__).parent / "inspect_clips"
    code = f"""
import sys; sys.path.insert(0, {str(jobs)!r}); sys.argv = ["curation", "inspect", {str(tmp_path)!r}, "--json"]
from curation import cli, loose_files
from curation.adapters.engine_local import LocalEngine
from curation.settings import EngineSettings
engine = LocalEngine(EngineSettings(workers=2, time_limit_s=300), jobs="poisoned_jobs:JOBS")
sleepy = [{{"number": 0, "act": "answer"}}, *({{"number": n, "act": "sleep", "seconds": 300}} for n in (1, 2))]
loose_files.inspect_files = lambda *_, **__: (dict(outcome.value) for outcome in engine.map("act", sleepy))
cli.main()
"""
    env = {**os.environ, "PYTHONPATH": str(jobs)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        worker = json.loads(process.stdout.readline())["pid"]
        family = process_tree.family([process.pid])
        assert {worker, process.pid} < {*family, 0}
        process.terminate()
        assert 128 + signal.SIGTERM == process.wait(30)
    assert [] == [pid for pid in family if Path(f"/proc/{pid}").exists()]


def test_the_way_of_the_data_by_hand(rendered_job, tmp_path):
    """Release, approve with the digests shown, publish twice, verify: the CLI alone goes the whole way."""
    work = rendered_job
    summary = json.loads(entered("release", "--work", work, "--requester", "engineer", "--json", check=0).stdout)
    release_id = summary["release_id"]
    assert "is not approved" in entered("publish", release_id, "--work", work, check=1).stderr
    seen = ("--release-digest", summary["release_digest"], "--evidence-digest", summary["evidence_digest"])
    keys = {name: approver_key(work, name) for name in ("officer", "engineer", "stranger")}
    trusted = "".join(f'{name} = "{public}"\n' for name, (_, public) in keys.items() if name != "stranger")
    toml = work / "curation.toml"
    toml.write_text(f"{toml.read_text()}\n[publish.approvers]\n{trusted}")

    def approve(name, *said, check, ticket="T-1"):
        return entered("approve", release_id, "--key", keys[name][0], "--ticket", ticket, *said, "--work", work, check=check).stderr

    assert "engineer asked for this release" in approve("engineer", *seen, check=1)
    assert "the key of nobody who may approve" in approve("stranger", *seen, check=1)
    assert "the ticket is empty" in approve("officer", *seen, check=1, ticket=" ")
    other = ("--release-digest", "0" * 64, "--evidence-digest", summary["evidence_digest"])
    assert "not what the approver saw" in approve("officer", *other, check=1)
    assert (
        "is no Ed25519 private key"
        in entered("approve", release_id, "--key", toml, "--ticket", "T-1", *seen, "--work", work, check=2).stderr
    )
    assert "no release was cut yet" in entered("release", "--list", "--work", tmp_path, check=0).stdout
    told = entered("approve", release_id, "--key", keys["officer"][0], "--ticket", "T-1", *seen, "--json", "--work", work, check=0).stdout
    assert {"release_id": release_id, "approver": "officer"}.items() <= json.loads(told).items()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATION_NOW", "2999-01-01T00:00:00+00:00")
        assert "the approval expired" in entered("publish", release_id, "--work", work, check=1).stderr
    text = toml.read_text()
    toml.write_text(text.replace(keys["officer"][1], keys["stranger"][1]))
    assert "signature is not its approver's" in entered("publish", release_id, "--work", work, check=1).stderr
    toml.write_text(text)
    first = entered("publish", release_id, "--work", work, "--json", check=0).stdout
    assert json.loads(first)["accounted"]["published"] == summary["rows"] > 0
    assert entered("publish", release_id, "--work", work, "--json", check=0).stdout == first
    proof = json.loads(entered("audit", "verify", "--work", work, "--json", check=0).stdout)
    assert proof["uncovered"] == []
    assert release_id in entered("release", "--list", "--work", work, check=0).stdout


def test_long_commands_tell_how_far_they_are(rendered_job):
    """Without a terminal a line now and then stands on standard error, none of it on standard output, and none with --json."""
    [batch] = [folder.name for folder in (rendered_job / "home" / "store" / "batches").iterdir()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curation.cli_text.LINE_EVERY_S", 0.0)
        told = entered("manifest", batch, "--work", rendered_job, check=0)
        assert "inspecting: 3 of 3" in told.stderr
        assert told.stdout.startswith(f"manifest {batch}: ")
        assert "files read: 2" in entered("audit", "verify", "--work", rendered_job, check=0).stderr
        assert "" == entered("audit", "verify", "--work", rendered_job, "--json", check=0).stderr


def test_verify_names_a_changed_file_and_exits_1(rendered_job):
    """One changed byte of a clip: exit 1 and its name."""
    work = rendered_job
    path = next((work / "home" / "store" / "clips").rglob("*.mp4"))
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert path.name in entered("audit", "verify", "--work", work, check=1).stderr
    path.write_bytes(data)
    entered("audit", "verify", "--work", work, check=0)


def test_a_file_that_cannot_be_read_costs_only_itself(tmp_path):
    """A pipe, a link that leads nowhere and a name that is no UTF-8 beside a text: one line of ASCII JSON each, whatever the terminal."""
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "lost.mp4").symlink_to(tmp_path / "nowhere")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/name\xff.mp4")).write_text("no video")
    env = {"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "ascii"}
    rows = {
        Path(row["source_uri"]).name: row
        for row in map(json.loads, curation("inspect", "--json", tmp_path, check=0, env=env).stdout.splitlines())
    }
    assert {name: row["verdict"] for name, row in rows.items()} == dict.fromkeys(("lost.mp4", "name\udcff.mp4", "pipe.mp4"), "quarantined")
    assert rows["pipe.mp4"]["clip_id"] is None
    assert set(rows["pipe.mp4"]["unmeasured"].values()) == {"is no regular file"}
    assert "Traceback" not in curation("inspect", tmp_path, check=0, env=env).stderr


def test_an_unknown_batch_is_wrong_use(tmp_path):
    """No batch of that name: exit 2, and the fix."""
    assert "curation pull" in entered("manifest", "fleet-0", "--work", tmp_path, check=2).stderr


def test_a_work_folder_that_cannot_be_written_exits_3(tmp_path):
    """A file where a folder must be: one line that names it, no traceback."""
    (tmp_path / "home").write_text("")
    result = entered("release", "--work", tmp_path, check=3)
    assert str(tmp_path / "home") in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [("audit", "report"), ("erase", "due"), ("upkeep",), ("release", "--list"), ("review",)])
def test_a_mistyped_work_folder_makes_no_home(tmp_path, command):
    """A folder that is not there: exit 2 and its name, instead of an empty report out of a new home with new keys."""
    result = entered(*command, "--work", tmp_path / "typo", check=2)
    assert f"{tmp_path / 'typo'}: is no folder. Fix: " in result.stderr
    assert not (tmp_path / "typo").exists()


def test_an_audit_of_an_empty_home_says_so(tmp_path):
    """Nothing to prove yet: the answer says that, and not that a key is malformed."""
    assert "nothing was recorded here yet" in entered("audit", "verify", "--work", tmp_path, check=2).stderr
