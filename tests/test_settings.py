from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from immr.data.contract import IMPRESSIONS
from immr.errors import SettingsError
from immr.features.item_stats import item_stats
from immr.settings import Settings, reason_without_credentials, without_credentials
from immr.types import Impression, Item, ModelVersion
from immr.wiring import connect


def test_everything_embedded_lives_below_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for url in (settings.tracking_url, settings.index_url, settings.features_url, settings.events_url):
        assert str(tmp_path) in url


def test_everything_stays_below_a_home_with_special_characters(tmp_path: Path) -> None:
    name = "a#b 50% off;ü&c=d@e:f"
    settings = Settings(home=tmp_path / name / "home")
    now = datetime(2025, 6, 1, tzinfo=UTC)
    item = Item("a", "A", "", "X", "a.jpg", 1.0, now)
    version = ModelVersion("immr", 1, "key", "run", 4, "p", "m", "r")

    with closing(connect(settings).events) as events:
        events.record_impressions([Impression("q", "a", 1, "u", "control", "immr-1", now)])
    connect(settings).features.materialize(item_stats([item], IMPRESSIONS.columns.empty_table(), now))
    assert list(connect(settings).features.read(["a"])) == ["a"]
    connect(settings).index.build(version, [item], np.eye(4, dtype=np.float32)[:1])
    assert make_url(settings.tracking_url).database == f"{settings.home}/mlflow/mlflow.db"  # as MLflow does

    assert {path.name for path in settings.home.iterdir()} == {"events", "features", "index"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in (tmp_path / name).iterdir()] == ["home"]


@pytest.mark.parametrize("blank", ["", " "])
def test_a_blank_home_is_the_default(blank: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was the working folder, which filled with our files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMMR_HOME", blank)
    assert Settings().home == tmp_path / ".immr"


def test_a_tilde_is_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A shell expands it, a Compose or unit file does not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IMMR_HOME", "~/immr")
    monkeypatch.setenv("IMMR_DATA_MIRROR", "~/mirror")
    assert (Settings().home, Settings().data_mirror) == (tmp_path / "immr", tmp_path / "mirror")


@pytest.mark.parametrize("home", ["s3://bucket/home", "file:///home/ann/immr", "gs:/x"])
def test_a_home_that_is_a_url_is_refused(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It became a folder `s3:` in the working folder."""
    monkeypatch.setenv("IMMR_HOME", home)
    with pytest.raises(SettingsError, match="is a URL: name a folder of this machine"):
        Settings()


@pytest.mark.parametrize("name", ["what?", "50%25"])
def test_a_home_that_mlflow_would_misread_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="choose another folder"):
        Settings(home=Path("/tmp") / name)


def test_a_process_started_with_the_environment_sees_the_same(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path, tracking_url="http://mlflow:5000", data_mirror=tmp_path)
    values = {name.removeprefix("IMMR_").lower(): value for name, value in settings.environment().items()}
    assert Settings(**values) == settings


def test_what_is_not_given_comes_from_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMMR_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("IMMR_CHALLENGERS", "3")
    monkeypatch.setenv("immr_context", "language")
    monkeypatch.setenv("IMMR_PAGE_KEY_FILE", "")
    monkeypatch.setenv("IMMR_UNKNOWN", "ignored")
    settings = Settings(home=tmp_path)
    assert (settings.home, settings.challengers, settings.context) == (tmp_path, 3, "language")
    assert settings.page_key_file is None
    monkeypatch.setenv("IMMR_CHALLENGERS", "ten")
    with pytest.raises(SettingsError, match="IMMR_CHALLENGERS='ten'"):
        Settings()
    with pytest.raises(SettingsError, match="IMMR_NOPE"):
        Settings(challengers=1, nope=1)


def test_an_empty_path_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It would be the working folder: no key could be read from it, and it is no mirror."""
    paths = {name for name, value in Settings.model_fields.items() if value.annotation == Path | None}
    assert "token_key_file" in paths
    for name in paths:
        monkeypatch.delenv(f"IMMR_{name.upper()}", raising=False)
    without = Settings(home=tmp_path)
    for name in paths:
        monkeypatch.setenv(f"IMMR_{name.upper()}", "")
    assert Settings(home=tmp_path) == without


def test_processes_with_another_working_folder_find_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`IMMR_PAGE_KEY_FILE=page.key immr serve`, as in the docs, found no key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMMR_PAGE_KEY_FILE", "page.key")
    monkeypatch.setenv("IMMR_BEARER_KEYS_FILE", "keys/bearer.txt")
    environment = Settings().serving_environment()
    assert environment["IMMR_PAGE_KEY_FILE"] == str(tmp_path / "page.key")
    assert environment["IMMR_BEARER_KEYS_FILE"] == str(tmp_path / "keys" / "bearer.txt")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().home = Path("elsewhere")  # type: ignore[misc]


def test_the_default_index_is_qdrant_edge_below_home(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).index_url == f"edge://{tmp_path}/index"


def test_photos_are_kept_for_a_positive_number_of_days() -> None:
    with pytest.raises(SettingsError, match="IMMR_KEEP_PHOTOS_DAYS=0"):
        Settings.model_validate({"keep_photos_days": 0})


def test_a_value_of_another_type_names_its_variable() -> None:
    with pytest.raises(SettingsError, match="IMMR_KEEP_PHOTOS='perhaps'"):
        Settings.model_validate({"keep_photos": "perhaps"})


@pytest.mark.parametrize(
    ("url", "quoted"),
    [
        ("http://ann:secret@mlflow:5000/a?b=c", "http://mlflow:5000/a?b=c"),
        ("https://mlflow/p@th", "https://mlflow/p@th"),
        ("sqlite:////home/ann/mlflow.db", "sqlite:////home/ann/mlflow.db"),
        ("http://a@b:p@host", "http://host"),
        ("kafka://a:1/t?sasl.password=s&acks=all", "kafka://a:1/t?sasl.password=…&acks=all"),
        ("kafka://a:1/t?acks=all&SSL.KEY.password=s#x", "kafka://a:1/t?acks=all&SSL.KEY.password=…#x"),
        ("redis://:secret@host:6379/0", "redis://host:6379/0"),
        ("postgresql://ann:pa/ss?#w@host/db", "postgresql://host/db"),
        ("redis://:12/34@host:6379/0", "redis://host:6379/0"),
        ("s3://AKIA:se/cret@bucket/shop", "s3://bucket/shop"),
        ("http://ann:pa/ss@host/a", "http://host/a"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("postgresql://db:5432/shop?application_name=a@b", "postgresql://db:5432/shop?application_name=a@b"),
        ("postgresql://[::1]:5432/shop?user=a@b", "postgresql://[::1]:5432/shop?user=a@b"),
        ("kafka://b1:9092,b2:9092/events?user=a@b", "kafka://b1:9092,b2:9092/events?user=a@b"),
        ("kafka://b1:9092/t?acks=all&sasl.password=p@ss", "kafka://b1:9092/t?acks=all&sasl.password=…"),
        ("postgresql://ann:s@db:5432/shop?user=a@b", "postgresql://db:5432/shop?user=a@b"),
        ("postgresql://ann:1234/56@db/shop?user=a@b", "postgresql://db/shop?user=a@b"),
        ("postgresql://ann:1234/5?6@db/shop", "postgresql://db/shop"),
        ("postgresql://ann:123456?a=7@db/shop", "postgresql://db/shop"),
        ("redis://:12?a=34@host:6379/0", "redis://host:6379/0"),
    ],
)
def test_messages_quote_urls_without_credentials(url: str, quoted: str) -> None:
    assert without_credentials(url) == quoted


@pytest.mark.parametrize(
    ("url", "message", "quoted"),
    [
        ("postgres://ann:pass/word@h/db", "Port is not an integer: 'pass'", "Port is not an integer: '…'"),
        ("s3://AKIA:se/cret@b/x", "Cannot parse 's3://AKIA:se/cret@b/x'", "Cannot parse 's3://b/x'"),
        (
            "https://host/a",
            "no answer from https://host/a\n\ntry again",
            "no answer from https://host/a try again",
        ),
        ("https://ann@host/a", "", "ValueError"),
        (
            "postgresql://immr@postgres:5432/immr",
            'connection to "immr-postgres" failed for postgresql://immr@postgres:5432/immr: no database "immr"',
            'connection to "immr-postgres" failed for postgresql://postgres:5432/immr: no database "immr"',
        ),
        ("postgresql://immr:s3cret@db/immr", 'user "immr", password "s3cret"', 'user "immr", password "…"'),
        ("kafka://b1:9092/t?sasl.password=p@ss", "b1:9092 does not answer", "b1:9092 does not answer"),
        (
            "kafka://b1:9092/t?sasl.password=p@ss",
            "no kafka://b1:9092/t?sasl.password=p@ss",
            "no kafka://b1:9092/t?sasl.password=…",
        ),
    ],
)
def test_a_librarys_message_is_quoted_without_credentials(url: str, message: str, quoted: str) -> None:
    assert reason_without_credentials(ValueError(message), url) == quoted


def test_a_password_that_is_not_encoded_is_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"IMMR_INDEX_URL is not a URL.*percent escapes") as raised:
        Settings(index_url="http://ann:secret[word@host")
    assert "secret" not in str(raised.value)


def test_a_home_that_is_a_url_is_shown_without_its_password() -> None:
    with pytest.raises(SettingsError, match=r"IMMR_HOME=s3://bucket/home is a URL"):
        Settings(home="s3://ann:secret@bucket/home")


@pytest.mark.parametrize(
    "url", ["http://qdrant:70000", "kafka://a:9092,b:99999/topic", "http://ann:secret@[::1]:65536"]
)
def test_a_port_that_cannot_exist_is_refused(url: str) -> None:
    """Some clients ended with a stack."""
    with pytest.raises(SettingsError, match="IMMR_INDEX_URL has a port above 65535") as raised:
        Settings(index_url=url)
    assert "secret" not in str(raised.value)
    assert Settings(index_url=url.replace("70000", "6333").replace("99999", "1").replace("65536", "65535"))
