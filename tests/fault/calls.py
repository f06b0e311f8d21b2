"""What libkq calls of libc, the fault tests can make fail.

    calls.py ARCHIVE NAME...

ARCHIVE is the static library; each NAME is a function for which inject.c has
another one.  All others that the archive refers to stand below, as they take no
memory and make no system call that can fail.
"""

import re
import subprocess
import sys

HARMLESS = """
    memchr memcpy memmove memset snprintf strchr strchrnul strcmp strlen strncmp
    strnlen strrchr strspn strstr strtol getenv secure_getenv environ fileno dirfd
    sigaddset sigdelset sigemptyset sigfillset sigismember
    __libc_current_sigrtmin __errno_location __libc_single_threaded
    __sigsetjmp __pthread_register_cancel __pthread_unregister_cancel
    __pthread_unwind_next __stack_chk_fail abort _GLOBAL_OFFSET_TABLE_
    __tls_get_addr
    pthread_mutex_lock pthread_mutex_unlock
    pthread_setcancelstate pthread_setcanceltype pthread_testcancel
"""

# They cannot fail as libkq calls them: with no wrong argument, on what is there
# and takes it; or nothing depends on it.
SAFE = """
    atexit clock_getres clock_gettime getrlimit getrlimit64 inotify_rm_watch
    munmap qsort
    timerfd_settime
"""

# The program's own call, passed on, with the program's own result.  In a
# program that is linked dynamically dlsym() finds another way to it.
PASSED_ON = """
    _IO_fclose _IO_popen __close __connect __dup2 __fcntl __lseek __posix_spawn
    __sigaction __vfork kill waitpid
    posix_spawnattr_destroy posix_spawnattr_init posix_spawnattr_setflags
    posix_spawnattr_setsigdefault posix_spawnattr_setsigmask
"""


def symbols(archive, *which):
    told = subprocess.run(
        ["nm", "--format=posix", *which, archive],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = (line.split() for line in told.stdout.splitlines())
    return {row[0] for row in rows if len(row) >= 2 and not row[0].endswith("]:")}


archive, *wrapped = sys.argv[1:]
called = symbols(archive, "--undefined-only") - symbols(archive, "--defined-only")
known = set((HARMLESS + SAFE + PASSED_ON).split()) | set(wrapped)
missed = {name for name in called - known if not re.match(r"_+(asan|tsan|ubsan)_", name)}
for name in sorted(missed):
    print(f"{name}: called by libkq; can it fail?  inject.c or calls.py must say")
sys.exit(1 if missed else 0)
