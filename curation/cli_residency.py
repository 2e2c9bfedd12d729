"""`curation residency`: make, check, read and try packs. Exit 0 done, 1 a pack or gate said no, 2 wrong use, 3 something outside failed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal, cast

import typer
import yaml
from pydantic import TypeAdapter, ValidationError

from curation import pipeline, wiring
from curation.errors import CurationError, OutsideError, PackRefused, UsageError
from curation.residency import assessment, counters, diff, eligibility, evaluate, file_check, signing
from curation.residency import pack as packs
from curation.residency.explain import explain as explain_page
from curation.schema import CLIPS, DECISIONS, SCHEMA_VERSION
from curation.tables import ParquetRows, from_parquet, to_parquet

app = typer.Typer()

RELEASE_NAME: Final = "release.parquet"
DECISIONS_NAME: Final = "decisions.parquet"
CLIPS_SUBJECT: Final = "table clips"  # what errors of curation.tables call a file of that table
_TRUSTED: Final = TypeAdapter(dict[str, tuple[str, ...]])

PackFile = Annotated[Path, typer.Argument(help="Residency pack, YAML.", dir_okay=False)]
SignaturesFile = Annotated[
    Path | None, typer.Option("--signatures", help="Signatures file; else PACK.signatures.json beside the pack.", dir_okay=False)
]
TrustedFile = Annotated[Path | None, typer.Option("--trusted", help="JSON: role -> list of public keys in hex.", dir_okay=False)]
Work = Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError("there is no such file", subject=str(path), fix="name an existing file") from error
    except OSError as error:
        raise OutsideError(f"cannot be read: {error.strerror}", subject=str(path), fix="make it readable and try again") from error


def _write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write whole or not at all: a reader never meets half a file."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
        part.replace(path)
    except OSError as error:
        raise OutsideError(f"cannot be written: {error.strerror}", subject=str(path), fix="make room or choose another folder") from error


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A new file beside `path` that takes its place at the end, and is gone if there is none: a reader never meets half a file."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise OutsideError(f"cannot be written: {error.strerror}", subject=str(path), fix="make room or choose another folder") from error
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _named(files: Mapping[str, Path | None]) -> Iterator[None]:
    """What is wrong with the thing called so is said of the file that was given for it; of others as it is."""
    try:
        yield
    except CurationError as error:
        file = files.get(error.subject)
        if file is None:
            raise
        raise type(error)(error.problem, subject=str(file), fix=error.fix) from error


def _pack(path: Path) -> packs.Pack | packs.ListPack:
    with _named({"pack": path}):
        return packs.read(_read(path))


def _rows(path: Path) -> ParquetRows:
    if not path.is_file():
        raise UsageError("there is no such file", subject=str(path), fix="name an existing file")
    return ParquetRows(path, CLIPS)


def signatures_path(pack: Path) -> Path:
    """Where a pack's signatures lie unless said otherwise."""
    return pack.with_name(f"{pack.name}.signatures.json")


def _signatures(pack: Path, given: Path | None) -> tuple[signing.Signature, ...]:
    path = given or signatures_path(pack)
    with _named({"signatures file": path}):
        return signing.parse_signatures(_read(path) if given or path.exists() else None)


def _trusted(given: Path | None) -> dict[str, tuple[str, ...]]:
    if given is None:
        return {}
    try:
        return _TRUSTED.validate_json(_read(given))
    except ValidationError as error:
        raise UsageError("is no JSON object of role -> list of public keys", subject=str(given), fix="correct the file") from error


def _print(text: str, **facts: object) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=False, default=str) if facts else text)


@app.command()
def keygen(
    key: Annotated[Path, typer.Option("--out", help="Where the private key goes; the public one lands beside it as .pub.")],
    as_json: AsJson = False,
) -> None:
    """Make an Ed25519 key pair for one signer; the private key never leaves this file."""
    if key.exists():
        raise UsageError("a key stands there already", subject=str(key), fix="name a new file")
    private_pem, public_hex = signing.keygen()
    _write(key, private_pem, mode=0o600)
    _write(key.with_name(f"{key.name}.pub"), f"{public_hex}\n".encode())
    if as_json:
        _print("", key=key, public_key=public_hex)
    else:
        _print(f"private key {key}\npublic key  {public_hex}")


@app.command()
def sign(
    pack: PackFile,
    role: Annotated[str, typer.Option(help="data-security, legal or map-partner.")],
    key: Annotated[Path, typer.Option(help="The role's private key, PEM.", dir_okay=False)],
    signatures: SignaturesFile = None,
) -> None:
    """Sign a pack for one role; read it with `explain` first."""
    if role not in signing.ROLES:
        raise UsageError(f"there is no role {role!r}", subject="--role", fix=f"use one of {', '.join(signing.ROLES)}")
    read = _pack(pack)
    with _named({"signing key": key}):
        own = signing.sign(read, role, _read(key), signed_at=wiring.clock().now())
    path = signatures or signatures_path(pack)
    others = _signatures(pack, path) if path.exists() else ()
    kept = [one for one in others if (one.role, one.public_key) != (own.role, own.public_key)]
    _write(path, signing.signatures_bytes([*kept, own]))
    _print(f"signed {read.id} {read.version} as {role} in {path}")


@app.command()
def lint(pack: PackFile, as_json: AsJson = False) -> None:
    """Read a pack as strictly as a release does; exit 1 names the first thing that is wrong."""
    read = _pack(pack)
    if read.schema_version != SCHEMA_VERSION:
        raise PackRefused(
            f"was written for schema version {read.schema_version!r}, the tables have {SCHEMA_VERSION!r}",
            subject=f"pack {read.id} {read.version}",
            fix="review the pack against the new columns",
        )
    if as_json:
        _print("", id=read.id, version=read.version, digest=packs.digest(read), rules=[rule.id for rule in read.rules])
    else:
        _print(f"{read.id} {read.version}: {len(read.rules)} rules account for all {len(CLIPS)} columns\ndigest {packs.digest(read)}")


@app.command()
def explain(
    pack: PackFile,
    lang: Annotated[str, typer.Option(help="en or zh.")] = "en",
    signatures: SignaturesFile = None,
    trusted: TrustedFile = None,
    as_of: Annotated[str | None, typer.Option(help="Day in Asia/Shanghai, YYYY-MM-DD; else today.")] = None,
) -> None:
    """One page that a lawyer can read: what leaves, how coarse, under which article, until when, on whose signatures."""
    if lang not in {"en", "zh"}:
        raise UsageError(f"there is no page in {lang!r}", subject="--lang", fix="use en or zh")
    read = _pack(pack)
    standing = signing.verify(read, _signatures(pack, signatures), _trusted(trusted))
    _print(explain_page(read, standing, cast("Literal['en', 'zh']", lang), today=_day(as_of)))


@app.command()
def check(
    manifest: Annotated[Path, typer.Argument(help="Parquet file with the columns of the clips table.", dir_okay=False)],
    pack: Annotated[Path, typer.Option(help="Residency pack, YAML.", dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder for release.parquet and decisions.parquet.", file_okay=False)],
    signatures: SignaturesFile = None,
    trusted: TrustedFile = None,
    fences: Annotated[Path | None, typer.Option(help="Geofences, GeoJSON; without them nothing leaves.", dir_okay=False)] = None,
    as_of: Annotated[str | None, typer.Option(help="Day in Asia/Shanghai, YYYY-MM-DD; else today.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Accept a demo pack, which is no law.")] = False,
    history: Annotated[
        Path | None, typer.Option("--work", help="Home whose releases count towards k and counters; without it no counter is asked.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide on a Parquet file. A refused pack withholds every row, writes no release, and exits 1 with the reason."""
    files = {"fences file": fences, CLIPS_SUBJECT: manifest}
    with _named(files):
        today, clips = _day(as_of), _rows(manifest)
    _forget(out / RELEASE_NAME)
    try:
        read = _pack_to_decide_by(pack)
        if isinstance(read, packs.ListPack):
            raise _answered(read, today)
        signing.may_allow(read, _signatures(pack, signatures), trusted_keys=_trusted(trusted), today=today, allow_demo_pack=demo)
        past = None if history is None else _past(history, read, _trusted(trusted), today)
        with _named(files), _replaced(out / DECISIONS_NAME) as decisions, _replaced(out / RELEASE_NAME) as release:
            fence_bytes = _read(fences) if fences else None
            found = file_check.check(clips, pack=read, fences=fence_bytes, past=past, as_of=today, decisions=decisions, release=release)
    except PackRefused as refusal:
        withheld = evaluate.withhold_all(clips.table(["clip_id"]))
        _write(out / DECISIONS_NAME, to_parquet(withheld.decisions, DECISIONS))
        _report(withheld, refusal=refusal, standings=None, as_json=as_json)
        raise
    _report(found, refusal=None, standings=None if history is None else found.standings, as_json=as_json)


@app.command("diff")
def diff_packs(
    old: PackFile,
    new: Annotated[Path, typer.Argument(help="The pack that is to take its place.", dir_okay=False)],
    manifest: Annotated[Path | None, typer.Option(help="Parquet file with the columns of the clips table.", dir_okay=False)] = None,
    published: Annotated[bool, typer.Option("--published", help="Ask about the rows that are published now.")] = False,
    fences: Annotated[Path | None, typer.Option(help="Geofences, GeoJSON, for --manifest.", dir_okay=False)] = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Rules and columns that change; over a manifest or the published table, rows that would leave, stay, or have to come back."""
    if manifest is not None and published:
        raise UsageError("--manifest and --published ask two questions", subject="diff", fix="give one of them")
    before, after = _pack(old), _pack(new)
    rows: diff.RowChanges | None = None
    if manifest is not None:
        with _named({"fences file": fences, CLIPS_SUBJECT: manifest}):
            clips, fence_bytes = from_parquet(_read(manifest), CLIPS), _read(fences) if fences else None
            abroad = diff.abroad_under(_rules(before), clips, fences=fence_bytes)
            rows = diff.rows(clips, abroad, new=_rules(after), fences=fence_bytes)
    elif published:
        rows = pipeline.pack_diff_rows(pipeline.open_settings(work), _rules(after))
    changes, columns = diff.rules(before, after), diff.columns(before, after)
    if as_json:
        told = {"rules": [dataclasses.asdict(one) for one in changes], "columns": [dataclasses.asdict(one) for one in columns]}
        _print("", **told, rows=None if rows is None else dataclasses.asdict(rows))
        return
    for change in changes:
        _print(f"{change.change} {change.rule}")
        for name, (was, now) in change.fields.items():
            _print(f"  {name}: {json.dumps(was, ensure_ascii=False)} -> {json.dumps(now, ensure_ascii=False)}")
    for column in columns:
        _print(f"column {column.column}: {column.old} -> {column.new}")
    if not changes:
        _print("the packs say the same")
    if rows is not None:
        abroad_told = f"{rows.newly_leave} newly leave, {rows.stay_abroad} stay abroad, {rows.come_back} have to come back"
        _print(f"rows: {abroad_told}, {rows.stay_home} stay home")
        for rule_id, hits in rows.come_back_by.items():
            _print(f"  come back for {rule_id}: {hits}")


def _rules(pack: packs.Pack | packs.ListPack) -> packs.Pack:
    if isinstance(pack, packs.ListPack):
        raise UsageError("is a general-data list, which decides on no row", subject=f"pack {pack.id}", fix="compare the lists without rows")
    return pack


@app.command()
def forecast(work: Work = None, as_json: AsJson = False) -> None:
    """When each counter of the pack in force will warn, hold and block, at the pace of the releases so far."""
    found = pipeline.forecast(pipeline.open_settings(work))
    for one in found:
        if as_json:
            _print("", **dataclasses.asdict(one))
            continue
        _print(f"{one.counter}: {one.used} of {one.limit} {one.counts} ({one.period}), {one.level}")
        if one.unmeasured is not None:
            _print(f"  pace unmeasured: {one.unmeasured}")
            continue
        days = ((one.warns_on, "warns"), (one.holds_on, "holds"), (one.blocks_on, "blocks"))
        told = ", ".join(f"{what} on {day}" for day, what in days if day is not None)
        _print(f"  {one.pace_per_day:g} a day: {told or 'reaches no mark'}")
    if not found and not as_json:
        _print("the pack in force counts nothing")


@app.command()
def assess(
    pack: PackFile,
    counter: Annotated[str, typer.Option(help="Id of the counter whose limit is raised.")],
    number: Annotated[str, typer.Option(help="Number of the filing or assessment.")],
    limit: Annotated[int, typer.Option(help="The new limit.")],
    expires: Annotated[str, typer.Option(help="Its last day, YYYY-MM-DD.")],
    key: Annotated[Path, typer.Option(help="Legal's private key, PEM.", dir_okay=False)],
) -> None:
    """Legal's signed entry that raises a counter's limit, as YAML for the pack's `assessments:`; then have the pack signed anew."""
    last_day = _day(expires, option="--expires")
    with _named({"pack": pack, "signing key": key}):
        read = packs.parse(_read(pack))
        entry = assessment.assess(read, counter, number=number, new_limit=limit, expires=last_day, private_pem=_read(key))
    _print(yaml.safe_dump([entry.model_dump()], sort_keys=False, allow_unicode=True).rstrip())


def _past(home: Path, pack: packs.Pack, trusted: dict[str, tuple[str, ...]], today: date) -> file_check.Past:
    """What left before, and today's limits."""
    left = pipeline.history(pipeline.open_settings(home), pack)
    limits = counters.limits(pack, trusted_keys=trusted, today=today)
    return file_check.Past(limits=limits, reservations=left.reservations, published=left.published)


def _answered(pack: packs.ListPack, today: date) -> PackRefused:
    """The list's answer as a refusal: whatever it says, no row leaves by it."""
    found = eligibility.answer(pack, today)
    more = f": {', '.join(found.failed or found.fields)}" if found.failed or found.fields else ""
    told = f"its days are {pack.valid_from} to {pack.valid_to}, asked as of {today}"
    fix = "a list lets no row out by itself; cut releases under a pack of rules"
    return PackRefused(f"{found.said}{more} ({told})", subject=f"pack {pack.id} {pack.version}", fix=fix)


def _pack_to_decide_by(path: Path) -> packs.Pack | packs.ListPack:
    """The pack; one that is not there lets nothing out, which is a no and not a wrong use."""
    if not path.is_file():
        raise PackRefused("there is no such pack", subject=str(path), fix="name an existing file")
    return _pack(path)


def _forget(path: Path) -> None:
    """No release of an earlier run may be taken for this one's."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutsideError(f"cannot be removed: {error.strerror}", subject=str(path), fix="choose another folder") from error


def _day(as_of: str | None, *, option: str = "--as-of") -> date:
    if as_of is None:
        return signing.shanghai_day(wiring.clock().now())
    try:
        return date.fromisoformat(as_of)
    except ValueError as error:
        raise UsageError(f"{as_of!r} is no day", subject=option, fix="use YYYY-MM-DD") from error


def _report(
    found: file_check.Checked | evaluate.Evaluation,
    *,
    refusal: PackRefused | None,
    standings: Sequence[counters.Standing] | None,
    as_json: bool,
) -> None:
    withheld = found.row_count - found.released_count
    rules = {rule_id: rows for rule_id, rows in sorted(found.rule_counts.items()) if rows}
    if as_json:
        counts = {"rows_in": found.row_count, "released": found.released_count, "withheld": withheld}
        told = None if standings is None else [dataclasses.asdict(one) for one in standings]
        refused = None if refusal is None else str(refusal)
        _print("", **counts, rules=rules, columns=dict(found.columns), counters=told, refused=refused)
        return
    _print(f"{found.row_count} rows: {found.released_count} released, {withheld} withheld")
    for rule_id, rows in rules.items():
        _print(f"  withheld by {rule_id}: {rows}")
    for one in standings or ():
        _print(f"  {one.counter}: {one.after} of {one.limit}, {one.level}")
    if standings is None and refusal is None:
        _print("  counters were not asked: a file has no history; --work names the home whose releases they count")
