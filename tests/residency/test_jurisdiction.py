"""The guard lets through what is at home and nothing that merely looks like it."""

from __future__ import annotations

import pytest

from curation.errors import NotAtHome, SettingsError
from curation.residency.jurisdiction import is_loopback, require_control_plane_home, require_home
from curation.settings import HomeSettings, read_settings

HOME = HomeSettings(
    hosts=("s3.cn-north-1.amazonaws.com.cn", "s3.oss-cn-shanghai.aliyuncs.com", "10.20.0.5", "db.home.example"),
    suffixes=(".s3.cn-north-1.amazonaws.com.cn", ".oss-cn-shanghai.aliyuncs.com"),
    regions=("cn-north-1", "oss-cn-shanghai"),
)


def _guard(url: str | None, region: str | None = None, home: HomeSettings = HOME) -> None:
    require_home(subject="store", jurisdiction="CN", home_jurisdiction="CN", url=url, region=region, home=home)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (None, None),
        ("/srv/a folder/日志", None),
        ("file:///srv/logs", None),
        ("sqlite:////srv/a folder/airflow.db", None),
        ("sqlite://", None),
        ("http://127.0.0.1:8333/bucket/key", "anywhere"),
        ("http://127.9.9.9", None),
        ("http://[::1]:8333/", None),
        ("http://localhost:8080", None),
        ("https://s3.cn-north-1.amazonaws.com.cn/b/k?partNumber=1&uploadId=x%40y", "cn-north-1"),
        ("https://S3.CN-North-1.amazonaws.com.cn:443/", "cn-north-1"),
        ("https://bucket.oss-cn-shanghai.aliyuncs.com/k", "oss-cn-shanghai"),
        ("https://10.20.0.5:9000/b", "cn-north-1"),
        ("postgresql+psycopg2://user:p%40ss@db.home.example:5432/airflow?sslmode=verify-full", None),
        ("postgresql+psycopg2:///airflow?host=/run/postgresql", None),
        ("redis://:secret@10.20.0.5:6379/0", None),
    ],
)
def test_home_is_let_through(url: str | None, region: str | None) -> None:
    """This machine is home by rule, all else by its place on the list."""
    _guard(url, region)


@pytest.mark.parametrize(
    "url",
    [
        "https://s3.us-east-1.amazonaws.com/b",
        "https://s3.cn-north-1.amazonaws.com.cn.evil.example/b",
        "https://evil-s3.cn-north-1.amazonaws.com.cn/b",
        "https://evils3.cn-north-1.amazonaws.com.cn/b",
        "https://oss-cn-shanghai.aliyuncs.com/b",  # the suffix lists what lies below it, not itself
        "https://xoss-cn-shanghai.aliyuncs.com/b",
        "https://s3.cn-north-1.amazonaws.com.cn./b",
        "https://s3.cn-north-1.amazonaws.com.cn%2eevil.example/b",
        "https://\u04553.cn-north-1.amazonaws.com.cn/b",  # Cyrillic dze
        "https://s3。cn-north-1.amazonaws.com.cn/b",  # ideographic full stop
        "https://xn--3-5ub.cn-north-1.amazonaws.com.cn/b",
        "https://s3.cn-north-1.amazonaws.com.cn@evil.example/b",
        "https://user:secret@s3.cn-north-1.amazonaws.com.cn/b",
        "https://evil.example\\@s3.cn-north-1.amazonaws.com.cn/b",
        "https://evil.example#@s3.cn-north-1.amazonaws.com.cn/b",
        "https://s3.cn-north-1.amazonaws.com.cn\t.evil.example/b",
        " https://s3.cn-north-1.amazonaws.com.cn/b",
        "https://s3.cn-north-1.amazonaws.com.cn:0/b",
        "https://s3.cn-north-1.amazonaws.com.cn:44x/b",
        "https:///b",
        "https:s3.cn-north-1.amazonaws.com.cn/b",
        "//s3.cn-north-1.amazonaws.com.cn/b",
        "s3.cn-north-1.amazonaws.com.cn/b",
        "relative/folder",
        "",
    ],
)
def test_a_host_that_only_looks_like_home_is_refused(url: str) -> None:
    """Foreign hosts, look-alike names, names before an @, and what is no plain URL."""
    with pytest.raises(NotAtHome, match="store") as refused:
        _guard(url, "cn-north-1")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "127.1",
        "127.0.0.01",
        "0.0.0.0",  # noqa: S104
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:8.8.8.8]",
        "[0:0:0:0:0:0:0:1]",
        "[fe80::1%25lo]",
        "8.8.8.8",
        "10.20.0.6",
        "１２７.0.0.1",  # noqa: RUF001
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost.",
        "evil.localhost",
    ],
)
def test_an_address_in_disguise_is_refused(host: str) -> None:
    """Only canonical loopback addresses and listed ones pass: other spellings are read differently by different clients."""
    with pytest.raises(NotAtHome):
        _guard(f"http://{host}/b", "cn-north-1")


def test_a_wrong_region_is_refused() -> None:
    """A host on the list does not help a request that is signed for a region that is not."""
    with pytest.raises(NotAtHome, match="'us-east-1'"):
        _guard("https://s3.cn-north-1.amazonaws.com.cn/b", "us-east-1")
    with pytest.raises(NotAtHome, match="''"):
        _guard("https://s3.cn-north-1.amazonaws.com.cn/b", "")


def test_an_empty_list_is_this_machine_alone() -> None:
    """Without [home] nothing but loopback and local paths passes."""
    _guard("http://127.0.0.1:1/", home=HomeSettings())
    with pytest.raises(NotAtHome):
        _guard("https://s3.cn-north-1.amazonaws.com.cn/", "cn-north-1", home=HomeSettings())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost:1/x?@evil.example/db",  # SQLAlchemy takes `1/x?` for the password
        "postgresql://user:pa@ss@db.home.example/db",
        "postgresql://user:pa#ss@db.home.example/db",
        "postgresql://db.home.example/db?host=evil.example",
        "postgresql://db.home.example/db?hostaddr=203.0.113.9",
        "postgresql://db.home.example/db?service=elsewhere",
        "postgresql:///db?host=evil.example",
        "postgresql:///db?host=/run/postgresql,evil.example",
        "postgresql:///db",
        "postgresql://db.home.example,evil.example/db",
        "mysql+mysqldb://db.home.example/db?read_default_file=/tmp/other.cnf",
        "mssql+pyodbc://?odbc_connect=Server%3Devil.example",
        "sqlite://evil.example/airflow.db",
        "file://evil.example/logs",
        "redis://evil.example:6379/0",
        "s3://log-bucket/airflow",
        "gs://log-bucket",
    ],
)
def test_a_control_plane_abroad_is_refused(url: str) -> None:
    """Databases, brokers and log folders that lead abroad, might be read to do so, or do not say where they lead."""
    with pytest.raises(NotAtHome, match=r"database\.sql_alchemy_conn"):
        require_control_plane_home({"api.base_url": "http://127.0.0.1:8080", "database.sql_alchemy_conn": url}, home=HOME)


def test_a_password_is_never_shown() -> None:
    """A refusal names the setting and the host, never the credentials in the address."""
    with pytest.raises(NotAtHome) as refused:
        require_control_plane_home({"celery.broker_url": "amqp://worker:hunter2@mq.evil.example//"}, home=HOME)
    assert "mq.evil.example" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_loopback_is_told_from_the_rest() -> None:
    """Plain HTTP is allowed on this machine only, so this must not err."""
    assert is_loopback("http://127.0.0.1:9000")
    assert not is_loopback("http://10.20.0.5:9000")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hosts", "https://s3.home.example"),
        ("hosts", "S3.home.example"),
        ("hosts", "s3.home.example."),
        ("hosts", "127.1"),
        ("suffixes", "oss-cn-shanghai.aliyuncs.com"),
        ("suffixes", ".aliyuncs.com"),
        ("suffixes", ".com.cn"),
    ],
)
def test_a_list_that_is_too_wide_or_unclear_is_refused(tmp_path, key: str, value: str) -> None:
    """A suffix of two labels would hold hosts abroad, and a host with scheme or dot would never match."""
    (tmp_path / "curation.toml").write_text(f"[home]\n{key} = ['{value}']\n")
    with pytest.raises(SettingsError, match=rf"home\.{key}"):
        read_settings({}, work=tmp_path)
