/*
 * The least program there is, for who starts programs: one line, and the end,
 * without what the C library does first.  Linked with -nostartfiles.
 */
#include <sys/syscall.h>
#include <unistd.h>

void _start(void) __attribute__((__noreturn__));

void
_start(void)
{
	(void)syscall(SYS_write, STDOUT_FILENO, "hello\n", 6);
	for (;;)
		(void)syscall(SYS_exit_group, 0);
}
