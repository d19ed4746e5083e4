"""Names of ours in folders that others may write to."""

import os
import stat

import pytest

from msdtool.private import is_own, private_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no owners")
needs_root = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() != 0, reason="needs two users"
)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("before", [None, 0o700, 0o755, 0o777])
def test_the_folder_is_this_user_s_alone(tmp_path, before):
    folder = tmp_path / "a"
    if before is not None:
        folder.mkdir()
        folder.chmod(before)
        (folder / "mine").touch()
    private_folder(folder)
    assert mode(folder) == 0o700
    assert (folder / "mine").exists() == (before is not None)


def test_a_link_or_a_file_is_no_such_folder(tmp_path):
    (tmp_path / "victim").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("victim")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for name in ("link", "dangling", "file"):
        with pytest.raises(PermissionError) as error:
            private_folder(tmp_path / name)
        assert error.value.strerror == f"{tmp_path}/{name} is not a folder owned by this user"
    assert mode(tmp_path / "victim") == 0o755 and not (tmp_path / "nowhere").exists()


@needs_root
def test_a_folder_of_another_user_is_refused(tmp_path):
    (tmp_path / "a").mkdir(mode=0o700)
    os.chown(tmp_path / "a", 12345, 12345)
    with pytest.raises(PermissionError):
        private_folder(tmp_path / "a")


def test_a_file_with_a_second_name_or_a_link_is_not_ours_alone(tmp_path):
    file = tmp_path / "a"
    file.touch()
    assert is_own(file.lstat()) and is_own(tmp_path.lstat())
    (tmp_path / "link").symlink_to(file)
    assert not is_own((tmp_path / "link").lstat())
    os.link(file, tmp_path / "b")
    assert not is_own(file.lstat())


@needs_root
def test_a_file_of_another_user_is_not_ours(tmp_path):
    file = tmp_path / "a"
    file.touch()
    os.chown(file, 12345, 12345)
    assert not is_own(file.lstat())
