"""Further brokers as packaged by Debian, each on a free port of its own and without its system
service.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.broker import Broker, free_port, wait_until
from tests.support.patience import patience_s

START_S = 15.0  # an Erlang machine starts in 1 to 8 s on a quiet computer
EPMD = "/usr/bin/epmd"
# Not the wrapper in /usr/sbin, which changes the user.
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Mosquitto(Broker):
    """mosquitto that can also be killed, suspended, made to forget, and given an access list."""

    def __init__(self, folder: Path, acl: str = "topic readwrite #", extra: str = "") -> None:
        self.folder = folder
        super().__init__(folder, extra, acl=f"{acl}\n")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self._process = None

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def allow(self, acl: str) -> None:
        """Replace the access list of clients without a name; mosquitto reads it again on SIGHUP."""
        self.reload(f"{acl}\n")

    def forget(self) -> None:
        """While stopped: every session, subscription and retained message is lost."""
        (self.folder / "mosquitto.db").unlink(missing_ok=True)


class ErlangBroker:
    """A broker that runs in an Erlang machine, started in the foreground.

    user: any name and password may connect.
    """

    needs: tuple[Path, ...] = ()
    package = ""
    user = ""
    protocol = "5"

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._configure()

    @classmethod
    def skip_where_absent(cls) -> None:
        if not all(path.exists() for path in cls.needs):
            pytest.skip(f"{cls.package} is not installed: apt-get install {cls.package}")

    def start(self) -> None:
        environment = {**os.environ, "HOME": str(self.folder), **self._environment()}
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )
        wait_until(
            self._answers, START_S, f"{self.package} does not listen: {self.folder}/out says why"
        )

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        """The whole process group, which is the broker's alone."""
        if self._process is None:
            return
        os.killpg(self._process.pid, number)
        try:
            self._process.wait(patience_s(5))
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
        self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.package} ended: {self.folder}/out says why"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _configure(self) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> Mapping[str, str]:
        raise NotImplementedError


class Ejabberd(ErlangBroker):
    """ejabberd's mod_mqtt: MQTT 5, written in Erlang by ProcessOne.

    It wants a user name; any password will do.
    """

    needs = (Path("/usr/sbin/ejabberdctl"),)
    package = "ejabberd"
    user = "edge"

    def _configure(self) -> None:
        (self.folder / "ejabberd.yml").write_text(
            "hosts: [localhost]\nloglevel: error\nauth_method: anonymous\nanonymous_protocol:"
            f" both\nlisten:\n  - {{port: {self.port}, ip: '127.0.0.1', module:"
            " mod_mqtt}\nmodules:\n  mod_mqtt: {}\n"
        )

    def _command(self) -> list[str]:
        """Without a node name, so that no port mapper is started."""
        return [
            "erl",
            "+K",
            "true",
            "-noinput",
            "-mnesia",
            "dir",
            f'"{self.folder}/spool"',
            "-s",
            "ejabberd",
        ]

    def _environment(self) -> Mapping[str, str]:
        libraries = next(
            (found.parent for found in Path("/usr/lib").glob("*/ejabberd-*")), Path("/usr/lib")
        )
        return {
            "ERL_LIBS": str(libraries),
            "EJABBERD_CONFIG_PATH": str(self.folder / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"),
        }


class RabbitMq(ErlangBroker):
    """RabbitMQ 3.10 with its MQTT plugin, which speaks 3.1.1 and refuses 5.

    It has a port mapper of its own here.
    """

    needs = (RABBITMQ,)
    package = "rabbitmq-server"
    protocol = "3.1.1"

    def start(self) -> None:
        self._mapper_port, self._distribution_port = free_port(), free_port()
        mapper = [EPMD, "-port", str(self._mapper_port), "-address", "127.0.0.1"]
        self._mapper = subprocess.Popen(
            mapper, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        super().start()

    def _end(self, number: signal.Signals) -> None:
        super()._end(number)
        self._mapper.kill()
        self._mapper.wait(10)

    def _configure(self) -> None:
        (self.folder / "rabbitmq.conf").write_text(
            "listeners.tcp = none\nmqtt.listeners.tcp.1 ="
            f" 127.0.0.1:{self.port}\nmqtt.allow_anonymous = true\nlog.console.level ="
            " error\nlog.file = false\n"
        )
        (self.folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")

    def _command(self) -> list[str]:
        return [str(RABBITMQ)]

    def _environment(self) -> Mapping[str, str]:
        return {
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "ERL_EPMD_PORT": str(self._mapper_port),
        }
