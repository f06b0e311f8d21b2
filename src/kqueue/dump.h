/*
 * dump.h: KQ_DUMP.
 */
#ifndef KQ_DUMP_H
#define KQ_DUMP_H

struct kqueue;

extern const char *dump_path; /* where to, or NULL */

/* Before the first queue. */
void dump_init(void);
/* Its last descriptor closes; with its lock held. */
__attribute__((cold)) void dump_closing(struct kqueue *);
/* For a debugger: all queues, to a descriptor of the program's. */
void kqueue_dump(int fd);

#endif
