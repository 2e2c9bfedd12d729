"""Settings are read once into frozen types, and wiring refuses what must not be combined."""

import stat

import pytest

from curation import wiring
from curation.errors import NotAtHome, PackRefused, SettingsError
from curation.settings import read_settings

OVERRIDE = "[[inspect.overrides]]\nname = 'rear'\n"


def write(work, text):
    """curation.toml in a work folder."""
    work.mkdir(exist_ok=True)
    (work / "curation.toml").write_text(text)


def test_a_work_folder_needs_no_file(tmp_path):
    """Embedded defaults keep everything inside the work folder, and the store at home."""
    settings = read_settings({}, work=tmp_path)
    assert settings.store.jurisdiction == "CN"
    assert settings.store.path.is_relative_to(tmp_path)
    assert settings.residency.pack is None


def test_the_environment_names_the_work_folder(tmp_path):
    """CURATION_WORK stands in for --work; with neither, the error says what to give."""
    assert read_settings({"CURATION_WORK": str(tmp_path)}).work == tmp_path
    with pytest.raises(SettingsError, match="--work DIR or set CURATION_WORK"):
        read_settings({})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[residency\n", "is not TOML"),
        ("[residency]\nallow_everything = true\n", "residency.allow_everything: there is no such setting. Fix: correct or remove"),
        ("[source.fleet]\npath = '/x'\n", "source: there is no such setting; did you mean sources[?] Fix"),
        ("[sources.fleet]\npth = '/x'\n", "sources.fleet.pth: there is no such setting; did you mean path"),
        ("[sources.fleet]\n", r"sources.fleet.path: is missing. Fix: add sources.fleet.path to curation.toml"),
        ("[sources.fleet]\npath = '/x'\nzone = 'Mars'\n", "sources.fleet.zone: 'Mars' is no zone"),
        ("[engine]\nworkers = 0\n", "engine.workers"),
        ("[sources.fleet]\nkind = 'ftp'\npath = '/x'\n", "sources.fleet.kind"),
        ("[inspect.thresholds]\nmin_sharpnes = 9\n", "no threshold min_sharpnes; did you mean min_sharpness"),
        ("[inspect.thresholds]\nmin_sharpness = nan\n", "inspect.thresholds.min_sharpness"),
        (
            f"{OVERRIDE}width_px = 848\nthresholds.soiling = 1\n",
            "no threshold soiling; did you mean max_soiled_ratio",
        ),
        (f"{OVERRIDE}width_px = 848\nthresholds.max_scene_cut_count = 1.5\n", "max_scene_cut_count: Input should be a valid integer"),
        (f"{OVERRIDE}thresholds.min_sharpness = 1\n", "matches every clip: give camera_model, width_px or height_px"),
        (f"{OVERRIDE}width_px = 848\nthresholds = {{}}\n", r"overrides\.0\.thresholds: .*at least 1"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, problem):
    """Malformed, unknown and impossible settings name the key."""
    write(tmp_path, text)
    with pytest.raises(SettingsError, match=problem):
        read_settings({}, work=tmp_path)


def test_thresholds_follow_the_camera(tmp_path):
    """Overrides match by model, by size or by both, later ones lie over earlier ones, and each of them makes another settings digest."""
    digests = {read_settings({}, work=tmp_path).inspect.digest()}
    rear = f"{OVERRIDE}camera_model = 'DR900*'\nheight_px = 480\nthresholds = {{ min_sharpness = 5.0, max_noise_sigma = 18 }}\n"
    small = f"{OVERRIDE}width_px = 848\nthresholds = {{ min_sharpness = 6.0 }}\n"
    for text in ("[inspect.thresholds]\nmin_sharpness = 9\n", rear, rear + small, small + rear):
        write(tmp_path, text)
        digests.add(read_settings({}, work=tmp_path).inspect.digest())
    write(tmp_path, f"[inspect.thresholds]\nmin_sharpness = 9\n{rear}{small}")
    settings = read_settings({}, work=tmp_path).inspect
    clips = [("DR900X-2CH", 640, 480), ("DR900X-2CH", 848, 480), ("DR900X-2CH", 640, 360), ("A129", 640, 480), (None, 848, 480)]
    found = [settings.thresholds_for(*clip) for clip in clips]
    assert [(one.min_sharpness, one.max_noise_sigma) for one in found] == [(5, 18), (6, 18), (9, 14), (9, 14), (6, 14)]
    assert len(digests | {settings.digest()}) == 6


def test_settings_that_cannot_be_read_are_not_taken_for_none(tmp_path):
    """A link that leads nowhere, or a folder, in the place of the file is refused, not read as embedded defaults."""
    (tmp_path / "curation.toml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "other" / "curation.toml").mkdir(parents=True)
    for work in (tmp_path, tmp_path / "other"):
        with pytest.raises(SettingsError, match="cannot be read"):
            read_settings({}, work=work)


def test_a_store_abroad_is_refused(tmp_path):
    """A home store in another jurisdiction cannot even be opened."""
    write(tmp_path, f"[store]\npath = '{tmp_path}/store'\njurisdiction = 'US'\n")
    with pytest.raises(NotAtHome, match="jurisdiction US"):
        wiring.store(read_settings({}, work=tmp_path))


def test_the_demo_pack_is_refused_beside_a_real_catalog(tmp_path):
    """allow_demo_pack with an overseas catalog outside the work folder stops before any pack is read."""
    elsewhere = "uri = 'postgresql+psycopg2://overseas/catalog'\nwarehouse = '/elsewhere'\n"
    bucket = f"uri = 'sqlite:///{tmp_path}/catalog.db'\nwarehouse = '{tmp_path}/warehouse'\nlocation = 's3://elsewhere'\n"
    for where in (elsewhere, bucket):
        write(tmp_path, f"[overseas_catalog]\nname = 'o'\n{where}[residency]\nallow_demo_pack = true\n")
        with pytest.raises(SettingsError, match="allow_demo_pack goes only with the embedded overseas catalog"):
            wiring.law(read_settings({}, work=tmp_path))


def test_without_a_pack_the_unsigned_baseline_is_the_law(tmp_path):
    """Nothing configured means the shipped pack, which carries no signature."""
    law = wiring.law(read_settings({}, work=tmp_path))
    assert b"id: cn-baseline" in law.pack_bytes
    assert law.signatures_bytes == b"[]"
    assert law.trusted_keys == {}


def test_an_unknown_source_names_those_there_are(tmp_path):
    """A misspelt source is answered with the known ones."""
    write(tmp_path, "[sources.fleet]\npath = '/x'\n")
    with pytest.raises(SettingsError, match=r"known: fleet"):
        wiring.source(read_settings({}, work=tmp_path), "flete")


def test_the_ledger_key_is_made_once_and_kept_private(tmp_path):
    """The key pair is made at first use, readable by its owner only, and used again; a lost half is no reason to make a new one."""
    settings = read_settings({}, work=tmp_path)
    wiring.home(settings)
    made = settings.ledger_key.read_bytes()
    assert stat.S_IMODE(settings.ledger_key.stat().st_mode) == 0o600
    wiring.home(settings)
    assert settings.ledger_key.read_bytes() == made
    settings.ledger_key.unlink()
    with pytest.raises(SettingsError, match="restore the ledger's key"):
        wiring.home(settings)


def test_a_foreign_public_key_is_refused(tmp_path):
    """Two halves that do not belong together stop everything."""
    settings = read_settings({}, work=tmp_path)
    wiring.home(settings)
    settings.ledger_public_key.chmod(0o644)
    settings.ledger_public_key.write_text("00" * 32)
    with pytest.raises(SettingsError, match="is not the public half"):
        wiring.home(settings)


def test_a_missing_pack_is_refused_and_is_no_wrong_use(tmp_path):
    """A pack that is named and not there lets nothing out: a no of the gate, exit 1, and never the shipped pack in its place."""
    write(tmp_path, '[residency]\npack = "nowhere.yaml"\n')
    with pytest.raises(PackRefused, match="there is no such pack") as refusal:
        wiring.law(read_settings({}, work=tmp_path))
    assert 1 == refusal.value.exit_code
