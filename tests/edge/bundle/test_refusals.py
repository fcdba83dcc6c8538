"""Every way to damage or forge a bundle that we could think of: one sentence, exit code 1, the root
as it was.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.manifest import Manifest
from edge.bundle.pack import list_files, pack, seal
from edge.bundle.signature import sign_manifest
from edge.bundle.tar import RECORD
from edge.install.install import install_bundle
from edge.schema import canonical_json
from tests.support.root import run_edge, snapshot, trusting_root
from tests.support.tiny_bundle import (
    RED_OF_A_GOOD_PART,
    KeyPair,
    make_key,
    make_tiny_bundle,
    tiny_bundle_folder,
)

MEMBERS = [
    "manifest.json",
    "signature.json",
    *(f"golden/{index:04d}.npz" for index in range(8)),
    "model/fp32.onnx",
    "normal/index.json",
    "normal/0000_color.png",
    "normal/0003_depth.png",
    "parity.json",
    "report.html",
]
PICTURES = [f"normal/{index:04d}_{kind}.png" for index in range(8) for kind in ("color", "depth")]

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> bytes:
    """A newer version of what is installed, so that an installation would change the root."""
    return make_tiny_bundle(tmp_path_factory.mktemp("good"), key, version="2.0.0").read_bytes()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Path:
    folder = tmp_path_factory.mktemp("station")
    trusting_root(folder, key)
    install_bundle(make_tiny_bundle(tmp_path_factory.mktemp("first"), key), folder)
    return folder


@pytest.fixture
def refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[bytes | Path, str], str]:
    """Install these bytes (or this path) with the real command; the sentence holds `words`, the
    root is unchanged.
    """

    def check(damaged: bytes | Path, words: str) -> str:
        path = damaged if isinstance(damaged, Path) else tmp_path / "washer-2.0.0.bundle"
        if isinstance(damaged, bytes):
            path.write_bytes(damaged)
        before = snapshot(root)
        answer = run_edge(capsys, monkeypatch, "install", path, "--root", root)
        assert snapshot(root) == before
        assert answer.code == 1
        assert answer.err.startswith("edge: ")
        assert answer.err.count("\n") == 1
        assert len(answer.err) < 600
        assert words in answer.err
        return answer.err

    return check


def members_of(data: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def tar_of(
    members: Members, *more: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.USTAR_FORMAT
) -> bytes:
    """A tar of these members and then of any headers whatever, padded like any tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info, data in more:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), link
    return info, data


def resigned(data: bytes, key: KeyPair, change: Callable[[dict[str, object]], object]) -> bytes:
    """The bundle with its manifest changed and signed again by a trusted key: only the manifest's
    content is wrong.
    """
    members = members_of(data)
    manifest = json.loads(members["manifest.json"])
    change(manifest)
    members["manifest.json"] = json.dumps(manifest, indent=2, sort_keys=True).encode()
    members["signature.json"] = sign_manifest(members["manifest.json"], key.private)
    return tar_of(members)


def test_the_undamaged_bundle_is_accepted_in_every_harmless_spelling(
    good: bytes, key: KeyPair, tmp_path: Path
) -> None:
    members = members_of(good)
    assert sorted(members) == sorted({*MEMBERS, *PICTURES})
    shuffled = dict(sorted(members.items(), reverse=True))
    info = tarfile.TarInfo("report.html")
    # the fraction makes an extended header
    info.size, info.mtime = (len(members["report.html"]), 1.5)
    timed = {name: data for name, data in members.items() if name != "report.html"}
    for index, data in enumerate(
        [
            good,
            tar_of(shuffled),
            tar_of(members, entry("golden", tarfile.DIRTYPE), entry("model", tarfile.DIRTYPE)),
            tar_of(timed, (info, members["report.html"]), kind=tarfile.PAX_FORMAT),
        ]
    ):
        store = trusting_root(tmp_path / f"root{index}", key)
        bundle = tmp_path / f"{index}.bundle"
        bundle.write_bytes(data)
        install_bundle(bundle, store.root)
        assert store.active().manifest.version == "2.0.0"


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("mask", [0x01, 0x20, 0xFF])
def test_flipped_bits_in_a_member(refused, good: bytes, name: str, place: float, mask: int) -> None:
    members = members_of(good)
    data = bytearray(members[name])
    data[round(place * (len(data) - 1))] ^= mask
    refused(
        tar_of({**members, name: bytes(data)}),
        "" if name in ("manifest.json", "signature.json") else name,
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_missing_member(refused, good: bytes, name: str) -> None:
    members = members_of(good)
    del members[name]
    refused(tar_of(members), f"{name} is missing")


@pytest.mark.parametrize("name", MEMBERS)
def test_member_longer_or_shorter_than_signed(refused, good: bytes, name: str) -> None:
    members = members_of(good)
    words = "manifest.json does not match" if name == "manifest.json" else name
    refused(tar_of({**members, name: members[name] + b"\n"}), words)
    refused(tar_of({**members, name: members[name][:-1]}), words)
    refused(tar_of({**members, name: b""}), "")


@pytest.mark.parametrize(
    "name", ["extra.txt", "golden/0008.npz", "model/int8.onnx", "model/extra/deep.txt", "active"]
)
def test_extra_file(refused, good: bytes, name: str) -> None:
    refused(
        tar_of(members_of(good), entry(name, data=b"hello")),
        f"{name} is not in the signed manifest",
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_doubled_member(refused, good: bytes, name: str) -> None:
    members = members_of(good)
    refused(tar_of(members, entry(name, data=members[name])), f"{name} is in the bundle twice")
    refused(tar_of(members, entry(name, data=b"another")), f"{name} is in the bundle twice")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil", "escapes"),
        ("golden/../../evil", "escapes"),
        ("golden/..", "escapes"),
        ("/etc/evil", "absolute"),
        ("//evil", "absolute"),
        ("./report.html", "not a file name"),
        ("golden//0000.npz", "not a file name"),
        ("golden/", "not a file name"),
        (".hidden", "not a file name"),
        ("a\nb", "not a file name"),
        ("a\\b", "not a file name"),
        ("a b", "not a file name"),
        ("-rf", "not a file name"),
        ("m\u00f6del", "not ASCII"),
        ("d/" * 60 + "deep/" * 18 + "x", "not a file name"),
        ("", "not a file name"),
    ],
)
def test_path_that_leaves_the_folder_or_is_unusual(
    refused, good: bytes, name: str, words: str
) -> None:
    refused(tar_of(members_of(good), entry(name, data=b"evil")), words)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (tarfile.CONTTYPE, "of an unknown kind"),
        (b"Z", "of an unknown kind"),
    ],
)
@pytest.mark.parametrize("name", ["report.html", "extra", "golden/0000.npz"])
def test_anything_but_a_plain_file(
    refused, good: bytes, kind: bytes, words: str, name: str
) -> None:
    members = {member: data for member, data in members_of(good).items() if member != name}
    refused(tar_of(members, entry(name, kind, link="/etc/passwd")), words)


def test_link_as_the_folder_of_later_members(refused, good: bytes) -> None:
    members = members_of(good)
    golden = [
        entry(name, data=data) for name, data in members.items() if name.startswith("golden/")
    ]
    rest = {name: data for name, data in members.items() if not name.startswith("golden/")}
    refused(tar_of(rest, entry("golden", tarfile.SYMTYPE, link="/tmp"), *golden), "a symbolic link")


@pytest.mark.parametrize("name", ["extra", "golden/extra", "report.html"])
def test_folder_that_holds_nothing(refused, good: bytes, name: str) -> None:
    refused(tar_of(members_of(good), entry(name, tarfile.DIRTYPE)), f"a folder {name!r}")


def test_folder_with_content_and_file_used_as_folder(refused, good: bytes) -> None:
    members = members_of(good)
    header = entry("golden", b"5")[0]
    raw = bytearray(header.tobuf(tarfile.USTAR_FORMAT))
    raw[124:136] = b"00000000005\0"
    refused(_with_header(tar_of(members), raw, b"hello"), "a folder with content")
    refused(tar_of(members, entry("report.html/x", data=b"1")), "report.html")


@pytest.mark.parametrize(
    "pax",
    [
        {"path": "../evil"},
        {"size": "1"},
        {"linkpath": "x"},
        {"GNU.sparse.major": "1"},
        {"comment": "c" * 5000},
        {"uid": "0"},
    ],
)
def test_extended_headers_that_change_a_member(refused, good: bytes, pax: dict[str, str]) -> None:
    info, data = entry("report.html", data=members_of(good)["report.html"])
    info.pax_headers = pax
    members = {name: data for name, data in members_of(good).items() if name != "report.html"}
    refused(tar_of(members, (info, data), kind=tarfile.PAX_FORMAT), "extended tar header")


@pytest.mark.parametrize("kind", [b"L", b"K", b"g"])
def test_headers_that_speak_of_other_headers(refused, good: bytes, kind: bytes) -> None:
    refused(
        tar_of(members_of(good), entry("././@LongLink", kind, data=b"../evil\0")),
        "plain files only",
    )


CUTS = [
    1,
    100,
    511,
    512,
    513,
    1024,
    4096,
    10239,
    10240,
    20480,
    -1,
    -511,
    -512,
    -1024,
    -1536,
    -10240,
]


@pytest.mark.parametrize("cut", CUTS)
def test_truncated_file(refused, good: bytes, cut: int) -> None:
    refused(good[:cut], "")


def test_truncated_at_every_member_boundary(refused, good: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(good)) as tar:
        starts = [
            (info.offset, info.offset_data, info.offset_data + info.size // 2) for info in tar
        ]
    for offset in sum(starts, ())[1:]:
        refused(good[:offset], "")
        refused(good[:offset] + bytes(-offset % RECORD), "")


@pytest.mark.parametrize("tail", [b"x", b"x" * RECORD, bytes(RECORD - 1) + b"x"])
def test_bytes_after_the_end(refused, good: bytes, tail: bytes) -> None:
    refused(good + tail, "")
    refused(good + good, "after its end mark")


@pytest.mark.parametrize("position", [0, 100, 124, 148, 156, 157, 257, 345])
def test_damaged_header(refused, good: bytes, position: int) -> None:
    for offset in (0, _offset_of(good, "parity.json")):
        data = bytearray(good)
        data[offset + position] ^= 0x11
        refused(bytes(data), "")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (b"77777777777\0", "at most"),
        (b"07777777777\0", "truncated"),
        (b"\x80" + bytes(6) + b"\x7f" * 5, "absurd size"),
        (b"\xff" * 12, "absurd size"),
        (b"-0000000001\0", "absurd size"),
        (b"            ", "absurd size"),
        (b"0x000000001\0", "absurd size"),
    ],
)
def test_absurd_size_in_a_header(refused, good: bytes, size: bytes, words: str) -> None:
    header = bytearray(entry("huge")[0].tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size
    refused(_with_header(tar_of(members_of(good)), header, b"1"), words)


def test_absurd_size_in_a_signed_manifest(refused, good: bytes, key: KeyPair) -> None:
    for size in (10 << 40, -1, 1.5):
        absurd = resigned(
            good, key, lambda m, size=size: m["files"]["report.html"].update(size=size)
        )
        refused(absurd, "files.report.html")
    refused(
        resigned(good, key, lambda m: m["files"]["report.html"].update(size=1 << 30)),
        "report.html has",
    )


def test_actual_size_beyond_every_limit(refused, good: bytes, tmp_path: Path) -> None:
    """Five gigabytes of zeros behind a good bundle: refused from its length, without reading or
    writing them.
    """
    path = tmp_path / "bomb.bundle"
    path.write_bytes(good)
    os.truncate(path, 5 << 30)
    refused(path, "at most")


def test_member_of_a_gigabyte_that_nobody_signed(refused, good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fat.bundle"
    header = bytearray(entry("fat")[0].tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = f"{1 << 30:011o}".encode() + b"\0"
    data = _with_header(tar_of(members_of(good)), header, b"", pad=False)
    path.write_bytes(data)
    length = len(data) + (1 << 30) + 1024
    os.truncate(path, length + -length % RECORD)
    refused(path, "fat is not in the signed manifest")


def test_too_many_members(refused, good: bytes) -> None:
    refused(
        tar_of(members_of(good), *(entry(f"f{index}") for index in range(5000))),
        "more than 4096 files",
    )


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.XHDTYPE])
def test_every_entry_counts_and_not_only_files(refused, good: bytes, kind: bytes) -> None:
    data = b"12 mtime=1.5\n" if kind == tarfile.XHDTYPE else b""
    more = (entry(f"d{index}", kind, data) for index in range(13_000))
    refused(tar_of(members_of(good), *more), "more than 12288 entries")


@pytest.mark.parametrize(
    ("name", "size"), [("manifest.json", 5 << 20), ("signature.json", 20 << 10)]
)
def test_absurdly_large_manifest_or_signature(refused, good: bytes, name: str, size: int) -> None:
    refused(tar_of({**members_of(good), name: b" " * size}), f"{name} has")


def _with_precisions(manifest: dict[str, object], *precisions: str) -> None:
    manifest["precisions"] = precisions
    for key in ("normal_scores", "normal_spread", "thresholds", "verdicts"):
        manifest[key] = dict.fromkeys(precisions, manifest[key]["fp32"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m["camera"].update(surprise=1), "camera.surprise"),
        (lambda m: m["files"]["report.html"].update(surprise=1), "files.report.html.surprise"),
        (lambda m: m.update(schema=3), "schema 3"),
        (lambda m: m.update(schema=1), "export it again with this version"),
        (lambda m: m.update(schema=99), "update the station's software"),
        (lambda m: m.update(schema="1"), "schema"),
        (lambda m: m.update(schema=0), "schema"),
        (lambda m: m.pop("thresholds"), "thresholds"),
        (lambda m: m["thresholds"]["fp32"].update(value=float("nan")), ""),
        (lambda m: m["thresholds"]["fp32"].update(value=float("inf")), ""),
        (lambda m: m["thresholds"]["fp32"].update(value=30.0), "not its normal score of rank 1"),
        (lambda m: m["thresholds"]["fp32"].update(rank=2), "not its normal score of rank 2"),
        (lambda m: m["normal"].update(parts=9), "8 normal scores"),
        (lambda m: m["normal_scores"]["fp32"].reverse(), "not ordered"),
        (lambda m: m["files"].pop("normal/index.json"), "normal/index.json"),
        (lambda m: m.update(product="../washer"), "product"),
        (lambda m: m.update(product="a/b"), "product"),
        (lambda m: m.update(product="was her"), "product"),
        (lambda m: m.update(product="w\u00e4scher"), "product"),
        (lambda m: m.update(product=""), "product"),
        (lambda m: m.update(product="."), "product"),
        (lambda m: m.update(product="p" * 65), "product"),
        (lambda m: m.update(product="washer\n"), "product"),
        (lambda m: m.update(version="../1"), "version"),
        (lambda m: m["files"].update({"../evil": m["files"].pop("report.html")}), "escapes"),
        (lambda m: m["files"].update({"/etc/evil": m["files"].pop("report.html")}), "absolute"),
        (
            lambda m: m["files"].update({"manifest.json": m["files"]["report.html"]}),
            "manifest.json",
        ),
        (
            lambda m: m.update(precisions=["int8", "fp32"]),
            "normal_scores has ['fp32'], the bundle ['fp32', 'int8']",
        ),
        (lambda m: _with_precisions(m, "int8", "fp32"), "model/int8.onnx"),
        (lambda m: _with_precisions(m, "int8"), "fp32 is missing"),
        (_with_precisions, "manifest.json"),
        (lambda m: m.update(presence="yes"), "presence"),
        (lambda m: m["camera"].update(width="128"), "camera.width"),
        (lambda m: m["camera"].update(fixed=1), "camera.fixed"),
        (lambda m: m["inputs"][0].update(shape=[1, 96, 0, 3]), "inputs.0.shape.2"),
        (lambda m: m["inputs"][0].update(shape=[1, 96, 1 << 30, 3]), "elements"),
        (lambda m: m["inputs"][1].update(default=300), "the default 300 of region is no uint8"),
        (lambda m: m["files"]["golden/0003.npz"].update(size=65 << 20), "golden/0003.npz has"),
    ],
)
def test_manifest_that_a_trusted_key_signed_and_yet_is_wrong(
    refused, good: bytes, key: KeyPair, change: Callable[[dict[str, object]], object], words: str
) -> None:
    refused(resigned(good, key, change), words)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema": 1e400}',
        b'{"schema": ' + b"1" * 5000 + b"}",
        b'{"schema": 2, "schema": 2}',
    ],
)
def test_manifest_that_is_not_an_object(refused, good: bytes, key: KeyPair, text: bytes) -> None:
    members = members_of(good)
    members.update({"manifest.json": text, "signature.json": sign_manifest(text, key.private)})
    refused(tar_of(members), "manifest.json")


def test_unsigned(refused, good: bytes) -> None:
    members = members_of(good)
    del members["signature.json"]
    assert "not signed" in refused(tar_of(members), "signature.json is missing")
    refused(
        tar_of({**members, "signature.json": canonical_json({"schema": 1, "signatures": []})}),
        "signature.json",
    )
    refused(tar_of({**members, "signature.json": b""}), "signature.json")


def test_signed_by_a_key_that_is_not_trusted(refused, tmp_path: Path) -> None:
    stranger = make_key(tmp_path, "stranger")
    assert "edge trust" in refused(
        make_tiny_bundle(tmp_path, stranger, version="3.0.0"), "does not trust"
    )


def test_stranger_who_uses_the_name_of_a_trusted_key(
    refused, good: bytes, key: KeyPair, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path, "stranger")
    members = members_of(good)
    keyid = json.loads(key.public.read_bytes())["keyid"]
    forged = json.loads(sign_manifest(members["manifest.json"], stranger.private))
    forged["signatures"][0]["keyid"] = keyid
    refused(
        tar_of({**members, "signature.json": canonical_json(forged)}),
        "does not match its signature",
    )


def test_signature_of_another_bundle(refused, good: bytes, key: KeyPair, tmp_path: Path) -> None:
    other = members_of(make_tiny_bundle(tmp_path, key, version="4.0.0").read_bytes())
    refused(
        tar_of({**members_of(good), "signature.json": other["signature.json"]}),
        "does not match its signature",
    )


def test_root_that_trusts_nobody(good: bytes, tmp_path: Path, capsys, monkeypatch) -> None:
    bundle = tmp_path / "washer.bundle"
    bundle.write_bytes(good)
    answer = run_edge(capsys, monkeypatch, "install", bundle, "--root", tmp_path / "fresh")
    assert answer.code == 1
    assert "edge trust" in answer.err
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize(
    "data", [b"", b"hello", bytes(RECORD), bytes(range(256)) * 200, b"<html>" * 5000]
)
def test_not_a_tar(refused, data: bytes) -> None:
    refused(data, "not a bundle")


def test_packed_or_wrapped_bundle(refused, good: bytes) -> None:
    refused(gzip.compress(good), "not a bundle")
    refused(b"PK\x03\x04" + good, "not a bundle")


def test_not_even_a_file(refused, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "pipe", Path("/dev/zero")):
        refused(path, "cannot open the bundle")


def _other_reference_red(folder: Path) -> None:
    model = folder / "model" / "fp32.onnx"
    model.write_bytes(
        model.read_bytes().replace(struct.pack("<f", RED_OF_A_GOOD_PART), struct.pack("<f", 150.0))
    )


def _not_a_model(folder: Path) -> None:
    (folder / "model" / "fp32.onnx").write_bytes(b"this is not ONNX")


def _damaged_reference_frame(folder: Path) -> None:
    (folder / "golden" / "0003.npz").write_bytes(b"this is not a frame")


def _pickled_reference_frame(folder: Path) -> None:
    np.savez(folder / "golden" / "0003.npz", map=np.array([{}], dtype=object), score=np.zeros(1))


def _golden_frames_all_good(folder: Path) -> None:
    for index in range(4, 8):
        shutil.copy(folder / "golden" / "0000.npz", folder / "golden" / f"{index:04d}.npz")


def _certificate_of_another_threshold(folder: Path) -> None:
    certificate = json.loads((folder / "parity.json").read_bytes())
    certificate["sections"][0]["threshold"]["value"] = 30.0
    (folder / "parity.json").write_text(json.dumps(certificate))


def _index_with(folder: Path, **changes: object) -> None:
    path = folder / "normal/index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _normal_frames_of_another_count(folder: Path) -> None:
    _index_with(folder, parts=9)


def _normal_frame_without_its_picture(folder: Path) -> None:
    (folder / "normal/0002_color.png").unlink()


def _normal_frame_that_is_no_picture(folder: Path) -> None:
    (folder / "normal/0002_color.png").write_bytes(b"this is not a picture")


def _certificate_with_an_unknown_key(folder: Path) -> None:
    certificate = json.loads((folder / "parity.json").read_bytes())
    (folder / "parity.json").write_text(json.dumps({**certificate, "surprise": 30.0}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_other_reference_red, "no engine decides as the trained model did"),
        (_not_a_model, "cannot be loaded"),
        (_damaged_reference_frame, "not a reference frame"),
        (_pickled_reference_frame, "not a reference frame"),
        (_golden_frames_all_good, "above the threshold"),
        (_certificate_of_another_threshold, "certificate's threshold of fp32 is 30.0"),
        (_normal_frames_of_another_count, "the 8 highest of 9, the manifest says 8 of 8"),
        (_normal_frame_without_its_picture, "good/003 has no color"),
        (_normal_frame_that_is_no_picture, "normal/0002_color.png: no picture"),
        (_certificate_with_an_unknown_key, "surprise"),
    ],
)
def test_signed_and_whole_but_not_proven_here(
    root: Path,
    key: KeyPair,
    tmp_path: Path,
    capsys,
    monkeypatch,
    damage: Callable[[Path], None],
    words: str,
) -> None:
    """Refused only after staging: no file has changed, no name is new."""
    with tiny_bundle_folder(key.private, version="5.0.0") as folder:
        damage(folder)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        seal(
            folder, Manifest.model_validate({**manifest, "files": list_files(folder)}), key.private
        )
        bundle = pack(folder, tmp_path / "other.bundle")
    before = snapshot(root)
    answer = run_edge(capsys, monkeypatch, "install", bundle, "--root", root)
    after = snapshot(root)
    assert answer.code == 1
    assert words in answer.err
    assert answer.err.count("\n") == 1
    assert list(after) == list(before)
    # the folder's own time
    assert {name for name in after if after[name] != before[name]} <= {"var/lib/edge"}


def _offset_of(data: bytes, name: str) -> int:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getmember(name).offset


def _with_header(tar: bytes, header: bytearray, body: bytes, pad: bool = True) -> bytes:
    """`tar` with a raw header and its body before the end mark; the header's checksum is made
    right.
    """
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    end = _end_of(tar)
    data = tar[:end] + bytes(header) + body + bytes(-len(body) % 512)
    return data + bytes(1024 + -(len(data) + 1024) % RECORD) if pad else data


def _end_of(data: bytes) -> int:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        last = tar.getmembers()[-1]
    return last.offset_data + -(-last.size // 512) * 512
