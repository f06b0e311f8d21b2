/*
 * interpose_vfork.c: vfork(), told apart without a system call.
 *
 * A vforked child shares all memory with its parent, so that what it closes
 * would cost the parent its knotes.  To ask for the process id at every close
 * of a watched descriptor costs 2 % of a connection's life.  So vfork() leaves
 * a mark in its thread, which parent and child both see; whoever finds it asks
 * once, and the parent takes it away.
 *
 * The child returns from vfork() on the parent's stack: the wrapper must not
 * have a frame on it, and leaves by a jump.  Where that is not written down
 * below, process_vforks_unseen stays set and everybody always asks.
 */
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "export.h"
#include "interpose.h"
#include "process.h"

_Thread_local volatile int process_vforked
    __attribute__((tls_model("initial-exec")));

#if defined(__x86_64__) && defined(__LP64__) && defined(__GLIBC__)

bool process_vforks_unseen = false;

extern pid_t __vfork(void);

/* The jump below reads it. */
static __attribute__((used)) pid_t (*interpose_real_vfork)(void) = __vfork;

static __attribute__((constructor)) void
find_vfork(void)
{
	interpose_find("vfork", &interpose_real_vfork);
}

__asm__(".text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	"vfork:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	movq process_vforked@gottpoff(%rip), %rax\n"
	"	movl $1, %fs:(%rax)\n"
	"	jmp *interpose_real_vfork(%rip)\n"
	"	.cfi_endproc\n"
	".size vfork, .-vfork\n");

#else

bool process_vforks_unseen = true;

#endif
