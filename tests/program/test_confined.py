"""What the sandbox allows and what it does not: unit/confined.c tries it."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

CONFINED = pathlib.Path(os.environ["CONFINED"])

ALLOWED = """read_file read_again read_hosts make_socket write_log write_null
    talk_tcp find_names start_thread see_descriptors watch_file take_memory
    wait_for_child run_ourselves nothing_of_it_is_left_out""".split()
# By Landlock.
HIDDEN = """read_other read_home read_root change_file make_file
    make_file_in_read remove_file remove_log move_file make_socket_elsewhere
    write_proc run_another run_hidden""".split()
# By seccomp.
GONE = """make_folder call_ptrace call_mount call_unshare call_clone
    call_setuid call_chroot call_bpf call_keyctl call_io_uring call_reboot
    call_memfd raw_socket type_for_user""".split()


@pytest.fixture(name="folder")
def fixture_folder():
    """One that everybody can come to."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name).resolve()
        for sub in ("read", "other", "sockets", "write"):
            (folder / sub).mkdir()
        for file in ("read/file", "read/new", "other/file"):
            (folder / file).touch()
        shutil.copy("/bin/true", folder / "read" / "program")
        yield folder


def confined(folder, **kwargs):
    """The state, {attempt: how it went}, and what a reload would be told."""
    r = subprocess.run([CONFINED, folder], capture_output=True, text=True,
                       check=False, timeout=20, **kwargs)
    assert (r.returncode, r.stderr) == (0, "")
    state, *tries = r.stdout.splitlines()
    if not tries:
        pytest.skip(f"nothing confines it here: {state}")
    reload = tries.pop()
    return state, dict(t.split(": ") for t in tries), reload


def test_all_that_is_promised(folder):
    _, tries, reload = confined(folder)
    expected = {n: "ok" for n in ALLOWED}
    expected |= {n: "Permission denied" for n in HIDDEN}
    expected |= {n: "Function not implemented" for n in GONE}
    assert tries == expected
    assert reload.startswith(f"{folder}/other: the sandbox has the folders ")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be nobody")
def test_the_same_as_nobody(folder):
    """Who is no root is confined as well."""
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        subprocess.run([CONFINED], check=False, timeout=20, **nobody)
    except PermissionError:
        pytest.skip("nobody may not come to the folder of the program")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    _, tries, _ = confined(folder, **nobody)
    assert [n for n, how in tries.items() if how == "ok"] == ALLOWED
