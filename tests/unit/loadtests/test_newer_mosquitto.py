"""Where the source of a newer broker comes from, and what is not built twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from devstack.mosquitto import CONFIG_FOLDER, SYSTEM_PLUGIN
from loadtests import newer_mosquitto as module
from loadtests.newer_mosquitto import NoNewerMosquitto, debian_mirrors, newer_mosquitto, print_uris

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="reads apt's sources by apt itself")


def mirrors(folder: Path, **files: str) -> list[str]:
    """What is found when these are all of apt's source files; `name_list` stands for `name.list`."""
    parts = folder / "parts"
    parts.mkdir()
    for name, text in files.items():
        (parts / name.replace("_", ".")).write_text(text)
    (folder / "lists" / "partial").mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": str(parts),
        "Dir::State::lists": str(folder / "lists"),
    }
    said = print_uris([word for name, value in options.items() for word in ("-o", f"{name}={value}")])
    return debian_mirrors(said, "bookworm")


@needs_apt
class TestAptSources:
    def test_one_line(self, tmp_path: Path) -> None:
        assert mirrors(
            tmp_path, a_list="deb http://mirror.example/debian bookworm main contrib # ours\n"
        ) == ["http://mirror.example/debian"]

    def test_options_in_brackets(self, tmp_path: Path) -> None:
        line = "deb [ arch=amd64,arm64  trusted=yes ] http://mirror.example/debian/ bookworm main\n"
        assert mirrors(tmp_path, a_list=line) == ["http://mirror.example/debian"]

    def test_deb822_with_several_suites_and_addresses(self, tmp_path: Path) -> None:
        stanza = (
            "# ours\nTypes: deb deb-src\nURIs: https://one.example/debian\n https://two.example/debian/\n"
            "Suites: bookworm bookworm-updates\nComponents: main non-free\nTrusted: yes\n"
        )
        assert sorted(mirrors(tmp_path, a_sources=stanza)) == [
            "https://one.example/debian",
            "https://two.example/debian",
        ]

    def test_a_mirror_in_several_files_and_suites_counts_once(self, tmp_path: Path) -> None:
        found = mirrors(
            tmp_path,
            a_list="deb http://mirror.example/debian bookworm main\n"
            "deb-src http://mirror.example/debian sid main\n",
            b_sources="Types: deb\nURIs: http://mirror.example/debian\nSuites: stable\nComponents: main\n",
        )
        assert found == ["http://mirror.example/debian"]

    @pytest.mark.parametrize(
        "suite", ["bookworm-updates", "bookworm-security", "bookworm-pgdg", "nodistro", "jammy"]
    )
    def test_what_is_no_release_of_debian_is_no_mirror(self, tmp_path: Path, suite: str) -> None:
        assert mirrors(tmp_path, a_list=f"deb http://mirror.example/debian {suite} main\n") == []

    def test_what_is_switched_off_is_no_mirror(self, tmp_path: Path) -> None:
        found = mirrors(
            tmp_path,
            a_list="# deb http://off.example/debian sid main\n",
            b_sources="Enabled: no\nTypes: deb\nURIs: http://off.example/debian\n"
            "Suites: sid\nComponents: main\n",
            c_list_disabled="deb http://off.example/debian sid main\n",
        )
        assert found == []

    def test_a_medium_is_no_mirror(self, tmp_path: Path) -> None:
        line = "deb cdrom:[Debian GNU/Linux 12 _Bookworm_]/ bookworm main\n"
        assert mirrors(tmp_path, a_list=line) == []

    def test_apt_says_what_it_cannot_read(self, tmp_path: Path) -> None:
        with pytest.raises(NoNewerMosquitto, match="Malformed entry"):
            mirrors(tmp_path, a_list="deb http://mirror.example/debian\n")


class TestWhatWasBuilt:
    def test_the_newest_is_returned_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_require_packages", lambda: pytest.fail("it is built again"))
        for name in ("mosquitto-2.9.0", "mosquitto-2.10.1", "mosquitto-unfinished-x", "mosquitto"):
            (tmp_path / name).mkdir()
        found = newer_mosquitto(tmp_path)
        assert found.version == "2.10.1"
        assert found.executable == tmp_path / "mosquitto-2.10.1" / "mosquitto"
        assert found.include_dir == tmp_path / "mosquitto-2.10.1" / "include"
        assert found.plugin_build.folder == tmp_path / "mosquitto-2.10.1" / "plugin"

    def test_its_plugin_is_built_apart_from_the_systems(self, tmp_path: Path) -> None:
        (tmp_path / "mosquitto-2.1.2").mkdir()
        build = newer_mosquitto(tmp_path).plugin_build
        told = dict(variable.split("=", 1) for variable in build.make_variables())
        assert {name: (CONFIG_FOLDER / path).resolve() for name, path in told.items()} == {
            "BUILD_DIR": tmp_path / "mosquitto-2.1.2" / "plugin",
            "MOSQUITTO_INCLUDE_DIR": tmp_path / "mosquitto-2.1.2" / "include",
        }
        assert SYSTEM_PLUGIN.make_variables() == ["BUILD_DIR=build"]

    def test_without_apt_the_error_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(NoNewerMosquitto, match="no apt-get here"):
            newer_mosquitto(tmp_path / "run")

    @pytest.mark.parametrize("name", ["mosquitto_2.0.11-1.2+deb12u2.dsc", "mosquitto_.dsc"])
    def test_an_older_source_is_refused(self, name: str) -> None:
        with pytest.raises(NoNewerMosquitto, match=r"2\.1 or newer is needed"):
            module._version(Path(name))

    @pytest.mark.parametrize(
        ("name", "version"),
        [("mosquitto_2.1.2-3.dsc", "2.1.2"), ("mosquitto_3.0.0+dfsg1-1~exp2.dsc", "3.0.0")],
    )
    def test_the_version_is_the_upstream_one(self, name: str, version: str) -> None:
        assert module._version(Path(name)) == version
