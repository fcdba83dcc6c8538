"""`edge install --to` over a real sshd: what it does, and a link that drops at any moment."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from edge.config import read_config
from edge.errors import BundleError, ConfigError, RemoteError
from edge.files import remove_tree
from edge.install.install import install_bundle
from edge.install.proof_file import read_proof
from edge.install.remote import Order, Staged, install_remotely
from edge.install.ssh import Ssh
from edge.station.store import Store
from tests.support.package import make_package
from tests.support.patience import patience_s
from tests.support.proxy import Proxy
from tests.support.root import Answer, Bundles, run_edge, trusting_root
from tests.support.sshd import CuttingProxy, Sshd, running_sshd
from tests.support.tiny_bundle import KeyPair, make_key


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def is_proven(root: Path) -> bool:
    """Whether the active bundle is whole and proven on this machine."""
    store = Store(root)
    bundle = store.active()
    store.verify(bundle)
    proof = read_proof(store, bundle)
    return proof is not None and proof.state == "proven"


def test_a_bundle_is_installed_and_the_same_again_finds_it_done(
    tmp_path: Path,
    sshd: Sshd,
    bundles: Bundles,
    key: KeyPair,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "it's a station"
    options = [part for option in sshd.options() for part in ("--ssh-option", option)]

    def install() -> Answer:
        return run_edge(
            capsys, monkeypatch, "install", bundles(), "--to", sshd.host, *options,
            "--trust", key.public, "--root", root, "--station", "cell7",
        )  # fmt: skip

    first = install()
    assert first.code == 0, first.out + first.err
    assert "installed washer 1.0.0" in first.out
    assert "verify passed" in first.out
    assert is_proven(root)
    assert read_config(root).station.station == "cell7"
    assert [path.name for path in sshd.stage.iterdir()] == ["lock"]
    assert sshd.log.count("Accepted publickey") == 1, "a password would be asked for once"

    again = install()
    assert again.code == 0, again.out + again.err
    assert "already installed washer 1.0.0" in again.out
    assert "is trusted already" in again.out


def test_a_dry_run_changes_nothing(
    tmp_path: Path, sshd: Sshd, bundles: Bundles, key: KeyPair
) -> None:
    said: list[str] = []
    before = list(sshd.folder.glob("cache/**/*"))
    with Ssh(sshd.host, sshd.options()) as ssh:
        order = Order(bundles(), str(tmp_path / "station"), trust=[key.public])
        assert install_remotely(ssh, order, said.append, dry_run=True) == 0
    assert said[-1].startswith("would copy washer-1.0.0.bundle, line.pub")
    assert not (tmp_path / "station").exists()
    assert list(sshd.folder.glob("cache/**/*")) == before


def test_a_link_that_drops_while_copying_is_gone_on_with(
    tmp_path: Path, sshd: Sshd, bundles: Bundles, key: KeyPair
) -> None:
    said: list[str] = []
    root = tmp_path / "station"
    order = Order(bundles(), str(root), trust=[key.public])

    def something_arrived() -> bool:
        return any(path.stat().st_size > 0 for path in sshd.stage.glob("*.part"))

    with CuttingProxy(sshd.port, 1 << 18, something_arrived) as proxy:
        with (
            pytest.raises(RemoteError, match="goes on where it was"),
            Ssh(sshd.host, sshd.options(proxy.port)) as ssh,
        ):
            install_remotely(ssh, order, lambda _: None)
        assert not root.exists(), "nothing is changed before everything is there"
        with Ssh(sshd.host, sshd.options(proxy.port)) as ssh:
            assert install_remotely(ssh, order, said.append) == 0
    assert any(line.startswith("copied washer") and "MB were there" in line for line in said)
    assert is_proven(root)


def test_a_login_that_prints_something_is_no_trouble(tmp_path: Path, bundles: Bundles) -> None:
    said: list[str] = []
    greets = 'ForceCommand echo "Welcome, 2 = two"; echo; eval "$SSH_ORIGINAL_COMMAND"'
    with running_sshd(tmp_path / "sshd", more=[greets]) as sshd:
        with Ssh(sshd.host, sshd.options()) as ssh:
            order = Order(bundles(), str(tmp_path / "station"))
            assert install_remotely(ssh, order, said.append) == 1
        assert any(line.startswith("copied washer") for line in said)
        assert any("edge trust" in line for line in said), "it got as far as without a greeting"


def test_what_arrives_damaged_is_not_installed(
    tmp_path: Path, sshd: Sshd, bundles: Bundles, key: KeyPair
) -> None:
    root, order = tmp_path / "station", Order(bundles(), str(tmp_path / "station"))
    sshd.stage.mkdir(parents=True, exist_ok=True)
    begun = sshd.stage / f"{Staged.of(order.bundle).name}.part"
    begun.write_bytes(b"what a power cut left")
    with (
        pytest.raises(RemoteError, match="did not arrive whole"),
        Ssh(sshd.host, sshd.options()) as ssh,
    ):
        install_remotely(ssh, order, lambda _: None)
    assert not root.exists()
    assert not begun.exists(), "the next attempt copies anew"


def test_a_link_that_drops_while_installing_stops_nothing(
    tmp_path: Path, sshd: Sshd, bundles: Bundles, key: KeyPair
) -> None:
    root = tmp_path / "station"
    order = Order(bundles(), str(root), trust=[key.public])

    with Proxy(sshd.port) as proxy:

        def say(line: str) -> None:
            if line == "-- edge install":
                proxy.refuse()

        with (
            pytest.raises(RemoteError, match="comes to its end there by itself"),
            Ssh(sshd.host, sshd.options(proxy.port)) as ssh,
        ):
            install_remotely(ssh, order, say)
    wait_for_end(sshd)
    assert is_proven(root)


def wait_for_end(sshd: Sshd) -> None:
    """Until the steps have ended by themselves, well."""
    end_s = time.monotonic() + patience_s(60)
    while not any(path.read_text() == "0\n" for path in sshd.stage.glob("*.code")):
        assert time.monotonic() < end_s, [path.read_text() for path in sshd.stage.glob("*.log")]
        time.sleep(0.05)


def test_one_installation_waits_for_another(tmp_path: Path, sshd: Sshd, bundles: Bundles) -> None:
    said: list[str] = []
    root = tmp_path / "station"
    sshd.stage.mkdir(parents=True, exist_ok=True)
    with (sshd.stage / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def say(line: str) -> None:
            said.append(line)
            if "waiting for its end" in line:
                fcntl.flock(lock, fcntl.LOCK_UN)

        with Ssh(sshd.host, sshd.options()) as ssh:
            assert install_remotely(ssh, Order(bundles(), str(root)), say) == 1
    assert any("waiting for its end" in line for line in said)
    assert "edge trust" in said[-2], "then it was its turn, and it asks for a key"


def test_a_bundle_that_is_refused_there_says_why_and_changes_nothing(
    tmp_path: Path, sshd: Sshd, bundles: Bundles, key: KeyPair
) -> None:
    said: list[str] = []
    store = trusting_root(tmp_path / "station", key)
    install_bundle(bundles(version="2.0.0"), store.root)
    with Ssh(sshd.host, sshd.options()) as ssh:
        order = Order(bundles(version="1.0.0"), str(store.root))
        assert install_remotely(ssh, order, said.append) == 1
    assert any("older than the current 2.0.0" in line for line in said)
    assert store.active().manifest.version == "2.0.0"


def test_what_cannot_be_is_said_before_anything_is_copied(
    tmp_path: Path, sshd: Sshd, bundles: Bundles, key: KeyPair
) -> None:
    other = make_key(tmp_path, "other")
    with Ssh(sshd.host, sshd.options()) as ssh:
        with pytest.raises(ConfigError, match="write it from / on"):
            install_remotely(ssh, Order(bundles(), "station", trust=[key.public]), print)
        with pytest.raises(ConfigError, match="cannot be a level of an MQTT topic"):
            install_remotely(ssh, Order(bundles(), str(tmp_path), station="Zelle 7ü"), print)
        with pytest.raises(BundleError):
            install_remotely(ssh, Order(bundles(), trust=[other.public]), print)
        with pytest.raises(BundleError, match="is no file"):
            install_remotely(ssh, Order(tmp_path / "none.bundle"), print)
        foreign = make_package(tmp_path, architecture="armhf")
        with pytest.raises(ConfigError, match="is for armhf"):
            install_remotely(ssh, Order(bundles(), package=foreign), print)
        dpkg = sshd.folder / "bin/dpkg-query"
        dpkg.write_text("#!/bin/sh\necho installed 3.12.3-0ubuntu2\n")
        dpkg.chmod(0o755)
        package = make_package(tmp_path, needs="python3 (>= 3.10), python3 (<< 3.11)")
        with pytest.raises(ConfigError, match=r"is for Python 3\.10, .* has Python 3\.12"):
            install_remotely(ssh, Order(bundles(), package=package), print)
        dpkg.unlink()
        (sshd.folder / "bin/edge").rename(sshd.folder / "edge")
        try:
            with pytest.raises(ConfigError, match="has no edge-station: give"):
                install_remotely(ssh, Order(bundles()), print)
        finally:
            (sshd.folder / "edge").rename(sshd.folder / "bin/edge")


def test_an_account_without_a_place_for_the_files_loses_none_of_its_own(
    tmp_path: Path, bundles: Bundles, key: KeyPair
) -> None:
    """Its home, where a session begins, has files that nobody has changed for years."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "kept").write_text("of the account")
    os.utime(home / "kept", (0, 0))
    inside = f'ForceCommand cd {home} && eval "$SSH_ORIGINAL_COMMAND"'
    with running_sshd(tmp_path / "sshd", more=[inside]) as sshd:
        (sshd.folder / "cache").write_text("no folder can be made below a file")
        with Ssh(sshd.host, sshd.options()) as ssh:
            order = Order(bundles(), str(tmp_path / "station"), trust=[key.public])
            with pytest.raises(RemoteError, match="no place for the files in"):
                install_remotely(ssh, order, print)
    assert [path.name for path in home.iterdir()] == ["kept"]
    assert not (tmp_path / "station").exists()


def test_what_the_script_complains_is_shown(sshd: Sshd) -> None:
    said: list[str] = []
    with Ssh(sshd.host, sshd.options()) as ssh:
        assert ssh.show("echo no space left >&2; exit 3", said.append) == 3
    assert said == ["no space left"]


def test_an_account_that_is_not_root_uses_sudo_or_says_so(
    tmp_path: Path, bundles: Bundles, key: KeyPair
) -> None:
    """An account of a machine whose list of accounts is another one."""
    said: list[str] = []
    root = tmp_path / "station"
    with another_account("worker") as sshd, Ssh(sshd.host, sshd.options()) as ssh:
        order = Order(bundles(), str(root), trust=[key.public])
        with pytest.raises(RemoteError, match="worker may not become root on"):
            install_remotely(ssh, order, print)
        assert not sshd.stage.exists()
        sudo, called = sshd.folder / "bin/sudo", sshd.folder / "cache/called"
        sudo.write_text(f'#!/bin/sh\necho "sudo $@" >> {called}\nexit 0\n')
        sudo.chmod(0o755)
        install_remotely(ssh, order, said.append)
        first, second = called.read_text().splitlines()
    assert first == "sudo -n true"
    assert second.startswith("sudo -n sh ./"), "the steps, and nothing else, run as root"
    assert not root.exists()


@contextmanager
def another_account(name: str) -> Iterator[Sshd]:
    """A server with one more account, number 12345, in a list of accounts of its own. Its folder
    is open, as that of the tests is not. Skips, saying so, without root's right to mount.
    """
    folder = Path(mkdtemp(prefix="edge-sshd-"))
    folder.chmod(0o755)
    passwd = folder / "passwd"
    passwd.write_text(f"{Path('/etc/passwd').read_text()}{name}:x:12345:12345::/tmp:/bin/sh\n")
    own = ["unshare", "--mount", "--propagation", "private"]
    bind = [*own, "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', str(passwd)]
    if subprocess.run([*bind, "true"], capture_output=True).returncode != 0:
        remove_tree(folder)
        pytest.skip("this account may not mount: run the tests as root")
    (folder / "sshd/cache").mkdir(parents=True)
    (folder / "sshd/cache").chmod(0o777)
    try:
        with running_sshd(folder / "sshd", name, bind) as sshd:
            yield sshd
    finally:
        remove_tree(folder)


def test_a_machine_that_is_not_there_is_one_sentence(bundles: Bundles, sshd: Sshd) -> None:
    with Proxy(sshd.port) as proxy, Ssh(sshd.host, sshd.options(proxy.port)) as ssh:
        proxy.refuse()
        with pytest.raises(RemoteError, match="no link to "):
            install_remotely(ssh, Order(bundles()), print)


@pytest.mark.parametrize("host", ["-oProxyCommand=sh", "", "a b"])
def test_a_name_that_is_no_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="names no machine"):
        Ssh(host)
