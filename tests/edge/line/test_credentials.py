"""Files of [broker] are checked before anything starts, each with a sentence that names key and
file.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edge.config import parse_config
from edge.errors import ConfigError
from edge.line.credentials import check_credentials, read_password, with_paths_below
from edge.line.identity import client_id, short_id
from edge.sections import BrokerConfig


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name in ("one", "two"):
        words = (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a -keyout"
            f" {name}.key"
        )
        command = ["openssl", *words.split(), "-out", f"{name}.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    words = "ec -in one.key -aes256 -passout pass:secret -out locked.key"
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    (folder / "text").write_text("hello")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(
    ("ca", "cert", "key", "words"),
    [
        ("absent", "", "", "broker.ca_file: {}/absent does not exist"),
        ("folder", "", "", "broker.ca_file: {}/folder is a folder"),
        ("pipe", "", "", "broker.ca_file: {}/pipe is a named pipe where a file is needed"),
        (
            "one.pem",
            "one.pem",
            "pipe",
            "broker.key_file: {}/pipe is a named pipe where a file is needed",
        ),
        ("text", "", "", "broker.ca_file: {}/text contains no certificate in PEM"),
        ("one.pem", "absent", "one.key", "broker.cert_file: {}/absent does not exist"),
        ("", "one.pem", "absent", "broker.key_file: {}/absent does not exist"),
        ("", "one.pem", "two.key", "they do not belong together"),
        ("", "text", "one.key", "they are not a certificate and an unencrypted key in PEM"),
        ("", "one.pem", "text", "they are not a certificate and an unencrypted key in PEM"),
        ("", "one.pem", "locked.key", "they are not a certificate and an unencrypted key in PEM"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    files: Path, ca: str, cert: str, key: str, words: str
) -> None:
    broker = BrokerConfig(tls=True, ca_file=ca, cert_file=cert, key_file=key)
    with pytest.raises(ConfigError) as error:
        check_credentials(with_paths_below(broker, files))
    assert words.format(files) in str(error.value)


def test_files_that_can_be_used_pass(files: Path) -> None:
    check_credentials(
        with_paths_below(
            BrokerConfig(tls=True, ca_file="one.pem", cert_file="one.pem", key_file="one.key"),
            files,
        )
    )


@pytest.mark.parametrize(
    ("mode", "is_told"), [(0o600, False), (0o400, False), (0o644, True), (0o620, True)]
)
def test_a_secret_that_others_can_read_or_change_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, is_told: bool
) -> None:
    path = tmp_path / "password"
    path.write_text("secret\n")
    path.chmod(mode)
    check_credentials(BrokerConfig(tls=True, username="edge", password_file=str(path)))
    assert [f"other accounts can read or change {path}" in line for line in caplog.messages] == [
        True
    ] * is_told


@pytest.fixture
def handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which systemd hands credentials to this process."""
    folder = tmp_path / "handed"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


BY_CREDENTIAL = BrokerConfig(tls=True, username="edge", password_file="credential:broker-password")


def test_a_password_that_systemd_hands_over_is_read_and_its_mode_is_no_concern(
    handed_over: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Group bits of a credential are the mask of its access list (seen with systemd 252)."""
    (handed_over / "broker-password").write_text("secret\n")
    (handed_over / "broker-password").chmod(0o444)
    broker = with_paths_below(BY_CREDENTIAL, tmp_path)
    check_credentials(broker)
    assert read_password(broker) == "secret"
    assert caplog.messages == []


def test_a_credential_that_nobody_wrote_names_the_file_to_write(
    handed_over: Path, tmp_path: Path
) -> None:
    """Absent, or the blank one with which the unit lets a station start."""
    for content in (None, "\n"):
        if content is not None:
            (handed_over / "broker-password").write_text(content)
        with pytest.raises(ConfigError) as error:
            with_paths_below(BY_CREDENTIAL, tmp_path)
        assert "broker.password_file: systemd handed over no" in str(error.value)
        file = tmp_path / "etc/edge/credentials/broker-password"
        assert f"write it into {file}" in str(error.value)


def test_outside_a_service_the_file_itself_serves_whoever_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="to a service alone, and this account cannot read"):
        with_paths_below(BY_CREDENTIAL, tmp_path)
    file = tmp_path / "etc/edge/credentials/broker-password"
    file.parent.mkdir(parents=True)
    file.write_text("secret\n")
    assert read_password(with_paths_below(BY_CREDENTIAL, tmp_path)) == "secret"


@pytest.mark.parametrize("name", ["", "../shadow", "a/b", ".", ".."])
def test_a_credential_never_leads_out_of_its_folder(
    handed_over: Path, tmp_path: Path, name: str
) -> None:
    broker = BrokerConfig(username="edge", password_file=f"credential:{name}")
    with pytest.raises(ConfigError, match="is no name of a credential"):
        with_paths_below(broker, tmp_path)


def test_a_password_without_tls_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    check_credentials(BrokerConfig(username="edge", password_file=str(tmp_path / "password")))
    assert caplog.messages == [
        "broker.password_file: the password crosses the network in clear: set tls = true in"
        " [broker]"
    ]


@pytest.mark.parametrize(
    "text",
    [
        'cert_file = "a.pem"\ntls = true',
        'key_file = "a.key"\ntls = true',
        'cert_file = "a"\nkey_file = "b"',
        'ca_file = "a"',
        'protocol = "3.1"',
        "protocol = 5",
        'password_file = "a"',
    ],
)
def test_keys_that_contradict_each_other_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="broker"):
        parse_config(f"[broker]\n{text}\n")


def test_identifiers_differ_wherever_names_differ_and_stay_readable() -> None:
    assert client_id("edge/site/line/cell7", "record") == "edge:site:line:cell7:record"
    prefixes = ["edge/a/b-c/s", "edge/a-b/c/s", "edge/a/b/c-s", "edge/a.b/c/s", "edge/a/b.c/s"]
    both = [
        make(client_id(prefix, role))
        for prefix in prefixes
        for role in ("record", "verdict")
        for make in (str, short_id)
    ]
    assert len(set(both)) == len(both)
    assert all(len(short_id(one)) == 23 and short_id(one).isalnum() for one in both)
