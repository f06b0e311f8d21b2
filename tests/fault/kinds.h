/*
 * kinds.h: what a knote may be of, each with a way to make it active.
 */
#ifndef KINDS_H
#define KINDS_H

#include <sys/event.h>

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

/* The ground of a test must be there; allocates nothing, as Check would. */
#define NEED(condition)                                                        \
	do {                                                                   \
		if (!(condition))                                              \
			ck_abort_msg("cannot: %s", #condition);                \
	} while (0)

struct kind {
	const char *k_name;
	/*
	 * Make what is watched and set kind_ident; false: not on this system.
	 */
	bool (*k_open)(void);
	void (*k_fire)(void); /* NULL: it is active from the beginning */
	unsigned int k_fflags;
	unsigned int k_other; /* other notes to be wanted instead */
	int64_t k_data;
	short k_filter;
	unsigned short k_flags;
	bool k_isfd; /* the knote goes with the descriptor */
	bool k_slow; /* the kernel takes milliseconds to close inotify */
	bool k_ext;  /* with words of the program's in ext[] */
};

extern const struct kind kinds[];
extern const int nkinds;

extern uintptr_t kind_ident;
extern int kind_kq; /* the queue, for a kind that fires by it */

/* Close what k_open made, if it is still open. */
void kind_close(void);

#endif
