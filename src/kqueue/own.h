/*
 * own.h: the library's own descriptors.
 *
 * The program did not open them, so it must not close them: a loop of close()
 * over all numbers, closefrom() and close_range() pass over them while a queue
 * needs them.  In a child they are as any other.
 */
#ifndef KQ_OWN_H
#define KQ_OWN_H

#include <stdbool.h>

void	own_add(int fd);
void	own_remove(int fd);

/*
 * The program is about to close a number, or to give it to another file: true
 * if it must not, as the number is one of them.  In a child of the process
 * that they are of it may, and the number is the child's from then on.
 */
bool	own_guards(int fd);

/* The first of them that is not below fd, -1 if there is none. */
int	own_next(int fd);

#endif
