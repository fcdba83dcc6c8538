"""The file of a campaign: what is wrong in it is one sentence with line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.errors import ConfigError
from tests.support.tiny_bundle import make_key
from tests.support.tiny_product import write_tiny_product
from trainer.campaign.file import read_campaign
from trainer.campaign.inputs import Inputs
from trainer.campaign.plan import Job, plan
from trainer.cli import app


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    write_tiny_product(root / "disc")
    write_tiny_product(root / "flat", with_depth=False)
    make_key(root)
    (root / "torn.key").touch()
    return root


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of products whose names are taken, or are none for a bundle."""
    root = tmp_path_factory.mktemp("others")
    write_tiny_product(root / "more" / "flat", with_depth=False)
    write_tiny_product(root / "blanks" / "two words", with_depth=False)
    return {"{more}": root / "more", "{blanks}": root / "blanks"}


def written(folder: Path, text: str) -> Path:
    file = folder / "many.toml"
    file.write_text(text, encoding="utf-8")
    return file


def planned(folder: Path, text: str) -> list[Job]:
    file = written(folder, text)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    inputs = Inputs(out)
    jobs = plan(read_campaign(file), file, out, inputs)
    inputs.keep()  # for the next command
    return jobs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("products = [}", ["not TOML", "line 1"]),
        ("systems = ['mats']", ["products is missing"]),
        ("products = ['{sets}']\nsystems = ['mats']\nseed = [1]", ["line 3: seed", "no such key"]),
        ("products = ['{sets}']\n\nsystems = []", ["line 3: systems"]),
        ("products = ['{sets}']\nsystems = ['mats']\nseeds = [0, -1]", ["line 3: seeds, entry 2"]),
        ("products = ['{sets}']\nsystems = ['mats', 'mats']", ["line 2: systems", "each once"]),
        ("products = ['{sets}']\nsystems = ['rust']", ["line 2: systems", "'rust'"]),
        ("products = ['nowhere']\nsystems = ['mats']", ["line 1: products", "nowhere"]),
        ("products = ['{sets}', '{more}']\nsystems = ['mats']", ["line 1", "one name: rename"]),
        ("products = ['{sets}', '{sets}/disc']\nsystems = ['mats']", ["line 1", "named twice"]),
        ("products = ['{sets}']\nsystem = ['mats']", ["line 2: system:", "no such key"]),
        ("products = ['{sets}']\nsystems = 'mats'", ["line 2: systems", "square brackets"]),
        ("products = ['{sets}']\nsystems = ['mats']\nseeds = []", ["line 3", "at least one"]),
        ("products = ['{sets}']\nsystems = ['mats']\nepochs = '3'", ["line 3: epochs"]),
        ("products = ['{sets}']\nsystems = ['mats']\nthreads = true", ["line 3: threads"]),
        ("products = ['{sets}']\nsystems = ['mats']\nexport = 'a'", ["line 3: export", "section"]),
        (
            "products = ['{sets}']\nsystems = ['mats']\npresets = ['huge']",
            ["line 3: presets", "'huge'"],
        ),
        ("products = ['{sets}']\nsystems = ['mats']\ndevice = 'gpu'", ["line 3: device"]),
        ("products = ['{sets}']\nsystems = ['mats']\nepochs = 0", ["line 3: epochs"]),
        (
            "products = ['{sets}']\nsystems = ['mats']\n[export]\nkey = 'no.key'",
            ["line 4: export.key", "trainer keygen"],
        ),
        (
            "products = ['{sets}']\nsystems = ['mats']\n[export]\nkey = 'a'\nkeys = 'b'",
            ["line 5: export.keys", "no such key"],
        ),
        (
            "products = ['{sets}']\nsystems = ['mats']\n[export]\nkey = '{sets}/torn.key'",
            ["line 4: export.key", "not a private key"],
        ),
        (
            "products = ['{sets}']\nsystems = ['mats']\n[export]\nkey = '{sets}/line.key'\n"
            "version = 'one two'",
            ["line 5: export.version", "'one two'", "letters, digits"],
        ),
        (
            "products = ['{sets}']\nsystems = ['mats']\n[export]\nkey = '{sets}/line.key'\n"
            "precision = 'fp8'",
            ["line 5: export.precision", "'fp8'"],
        ),
        (
            "products = ['{blanks}']\nsystems = ['mats']\n[export]\nkey = '{sets}/line.key'",
            ["line 1: products", "'two words'", "letters, digits"],
        ),
        (
            "products = ['{sets}']\nsystems = ['mats']\n[pretrained]\nmats = 'a.pth'",
            ["line 3: [pretrained]", "nothing pretrained"],
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, sets: Path, others: dict[str, Path], text: str, words: list[str]
) -> None:
    for name, folder in {"{sets}": sets, **others}.items():
        text = text.replace(name, str(folder))
    file = written(tmp_path, text)
    out = tmp_path / "out"
    answer = CliRunner().invoke(app, ["campaign", str(file), "--out", str(out)])
    assert isinstance(answer.exception, ConfigError), answer.output
    said = str(answer.exception)
    assert all(word in said for word in [str(file), *words]), said
    assert "\n" not in said
    assert not out.exists()


def test_results_inside_a_product_are_refused(tmp_path: Path) -> None:
    product = write_tiny_product(tmp_path / "disc", with_depth=False)
    file = written(tmp_path, "products = ['disc']\nsystems = ['mats']")
    out = product / "runs"
    answer = CliRunner().invoke(app, ["campaign", str(file), "--out", str(out)])
    assert isinstance(answer.exception, ConfigError)
    assert f"--out {out} lies in the product" in str(answer.exception)
    assert not out.exists()


@pytest.mark.parametrize(
    "runner", ["lokal", "local:0", "local:x", "ray://", "slurm://", "slurm://gpu?jobs=0"]
)
def test_a_runner_that_is_none_is_one_sentence(tmp_path: Path, sets: Path, runner: str) -> None:
    file = written(tmp_path, f"products = ['{sets}']\nsystems = ['mats']")
    words = ["campaign", str(file), "--out", str(tmp_path / "out"), "--runner", runner]
    answer = CliRunner().invoke(app, words)
    assert isinstance(answer.exception, ConfigError)
    assert f"--runner {runner}" in str(answer.exception).replace("'", "")


def test_a_dry_run_prints_every_command_and_writes_nothing(tmp_path: Path, sets: Path) -> None:
    key = make_key(tmp_path).private
    file = written(
        tmp_path,
        f"products = ['{sets}']\nsystems = ['mats', 'vmpfd']\nseeds = [0, 1]\ndepth = 'both'\n"
        "epochs = 2\n[export]\nkey = 'line.key'\nversion = '2.0.0'",
    )
    out = tmp_path / "out"
    answer = CliRunner().invoke(app, ["campaign", str(file), "--out", str(out), "--dry-run"])
    assert answer.exit_code == 0, answer.output
    lines = answer.output.splitlines()
    assert (
        len(lines) == 3 * 2 * 2 * 3
    )  # disc with and without depth, flat; each train, evaluate, export
    assert lines[0].startswith(f"trainer train mats {sets}/disc --out {out}/jobs/disc/mats-compact")
    assert "--epochs 2" in lines[0]
    assert "--no-depth" not in lines[0]
    assert sum("--no-depth" in line for line in lines) == 2 * 2 * 2
    assert lines[2].startswith("trainer export ")
    assert f"--version 2.0.0 --key {key}" in lines[2]
    assert not out.exists()


def test_a_folder_is_another_when_anything_that_matters_has_changed(tmp_path: Path) -> None:
    product = write_tiny_product(tmp_path / "disc", with_depth=False)

    def folders(more: str = "") -> set[Path]:
        text = f"products = ['disc']\nsystems = ['mats']\n{more}"
        return {job.landing for job in planned(tmp_path, text)}

    first = folders()
    assert folders() == first
    assert folders("memory_mb = 2000") == first
    others = [folders("epochs = 3"), folders("threads = 2"), folders("seeds = [1]")]
    (product / "train").rename(tmp_path / "elsewhere")
    (product / "train").symlink_to(tmp_path / "elsewhere")  # as data sets lie on a shared disk
    (product / "train/good/around").symlink_to(tmp_path / "elsewhere")
    assert folders() == first
    image = product / "train/good/rgb/000.png"
    image.write_bytes(image.read_bytes())  # touched, but not changed
    assert folders() == first
    image.write_bytes((product / "train/good/rgb/001.png").read_bytes())
    assert len({*map(frozenset, [first, *others, folders()])}) == 5
