from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm import paths
from localllm.config import Settings, load_settings
from localllm.errors import RequestError
from localllm.settings_file import SettingsFile

WRITTEN = """\
# My settings.
n_ctx=4096   # enough
top_k = 20

seed = 7
# Keys of my own:
[keymap]
"chat.new" = "f8"  # as elsewhere
app.quit = "ctrl+x"
"""


def write(text: str) -> Path:
    paths.ensure(paths.config_dir())
    paths.config_file().write_bytes(text.encode())
    return paths.config_file()


def test_the_first_setting_makes_the_file_for_its_owner_alone() -> None:
    SettingsFile().set("n_ctx", "8192")
    assert paths.config_file().read_text() == "n_ctx = 8192\n"
    assert stat.S_IMODE(paths.config_file().stat().st_mode) == 0o600


def test_a_line_is_changed_in_its_place_and_all_else_stays() -> None:
    file = write(WRITTEN)
    SettingsFile().set("n_ctx", "8192")
    assert file.read_text() == WRITTEN.replace("n_ctx=4096   # enough", "n_ctx = 8192  # enough")


def test_a_new_line_goes_above_the_first_table_and_the_words_over_it() -> None:
    file = write(WRITTEN)
    SettingsFile().set("theme", '"nord"')
    assert file.read_text() == WRITTEN.replace("seed = 7\n", 'seed = 7\ntheme = "nord"\n')


def test_a_line_is_taken_away() -> None:
    file = write(WRITTEN)
    SettingsFile().set("seed", None)
    SettingsFile().set("min_p", None)
    assert file.read_text() == WRITTEN.replace("seed = 7\n", "")


def test_keys_of_a_table_are_found_quoted_and_dotted() -> None:
    file = write(WRITTEN)
    settings = SettingsFile()
    settings.set("chat.new", '"f9"', "keymap")
    settings.set("app.quit", '"f10"', "keymap")
    settings.set("app.help", '"f11"', "keymap")
    assert file.read_text().endswith('"chat.new" = "f9"  # as elsewhere\n"app.quit" = "f10"\n"app.help" = "f11"\n')
    assert load_settings().keymap == (("app.help", "f11"), ("app.quit", "f10"), ("chat.new", "f9"))


def test_a_table_is_made_when_its_first_key_is_set() -> None:
    file = write("seed = 7")
    SettingsFile().set("chat.new", '"f8"', "keymap")
    assert file.read_text() == 'seed = 7\n\n[keymap]\n"chat.new" = "f8"\n'


def test_a_table_is_emptied() -> None:
    file = write(WRITTEN)
    SettingsFile().remove_table("keymap")
    assert file.read_text().endswith("[keymap]\n") and load_settings().keymap == ()


def test_a_value_of_several_lines_is_replaced_whole() -> None:
    file = write('model_dirs = [\n  "/a", # one\n  "/b",\n]\nseed = 7\n')
    SettingsFile().set("model_dirs", '["/c"]')
    assert file.read_text() == 'model_dirs = ["/c"]\nseed = 7\n'


def test_a_hash_in_a_text_is_no_comment() -> None:
    file = write('system = "a # b" # c\n')
    SettingsFile().set("system", '"d # e"')
    assert file.read_text() == 'system = "d # e"  # c\n'


def test_windows_line_ends_stay() -> None:
    file = write("seed = 7\r\ntop_k = 1\r\n")
    SettingsFile().set("seed", "8")
    assert file.read_bytes() == b"seed = 8\r\ntop_k = 1\r\n"


def test_what_another_program_changed_elsewhere_stays() -> None:
    file = write("seed = 7\n")
    settings = SettingsFile()
    write("seed = 7\ntop_k = 3\n")
    settings.set("seed", "8")
    assert file.read_text() == "seed = 8\ntop_k = 3\n"


def test_what_another_program_changed_here_is_not_overwritten_unseen() -> None:
    file = write("seed = 7\n")
    settings = SettingsFile()
    write("seed = 9\n")
    with pytest.raises(RequestError, match="meanwhile"):
        settings.set("seed", "8")
    assert file.read_text() == "seed = 9\n"
    settings.set("seed", "8")
    assert file.read_text() == "seed = 8\n"


def test_a_line_that_only_looks_like_the_setting_is_left_alone() -> None:
    text = 'system = """\nseed = 1\n"""\n'
    file = write(text)
    with pytest.raises(RequestError, match="line by line"):
        SettingsFile().set("seed", "8")
    assert file.read_text() == text


def test_a_link_stays_a_link_and_its_mode_stays(tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.toml"
    kept.write_text("seed = 7\n")
    kept.chmod(0o644)
    paths.ensure(paths.config_dir())
    paths.config_file().symlink_to(kept)
    SettingsFile().set("seed", "8")
    assert paths.config_file().is_symlink() and kept.read_text() == "seed = 8\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o644


@pytest.mark.parametrize("content", [b"seed = ", b"\xff"])
def test_a_broken_file_is_refused_by_name(content: bytes) -> None:
    write("").write_bytes(content)
    with pytest.raises(RequestError, match=r"config\.toml"):
        SettingsFile()


def test_a_folder_that_takes_no_files_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("localllm.text_files.os.replace", refuse)
    with pytest.raises(RequestError, match="No space left"):
        SettingsFile().set("seed", "8")
    assert list(paths.config_dir().iterdir()) == []


@given(
    name=st.sampled_from(Settings.names()),
    text=st.one_of(
        st.text(max_size=20),
        st.integers(0, 2**40).map(str),
        st.sampled_from(["auto", "none", "off", "same", "random", "2GB", "1.5MB", "f16,q8_0", "a:1,b:2", "x.y=ctrl+n"]),
    ),
)
def test_a_text_that_is_allowed_means_the_same_in_the_file(
    name: str, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        value = Settings.parsed(name, text)
    except RequestError:
        return
    file = tmp_path_factory.getbasetemp() / "allowed.toml"
    file.unlink(missing_ok=True)
    SettingsFile(file).set(name, Settings.toml(name, text))
    settings = load_settings(environ={}, file=file)
    assert getattr(settings, name) == value
    shown = settings.text(name)
    assert not shown or Settings.parsed(name, shown) == value


def test_every_default_is_shown_as_it_is_written() -> None:
    shown = {name: Settings().text(name) for name in Settings.names()}
    assert (shown["n_ctx"], shown["kv_store"], shown["seed"], shown["top_p"]) == ("auto", "2GB", "random", "0.95")
    assert (shown["model"], shown["rpc"], shown["model_dirs"], shown["keymap"]) == ("", "none", "", "")
