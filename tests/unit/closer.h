/*
 * closer.h: close() called by another library.
 */
#ifndef CLOSER_H
#define CLOSER_H

int	closer_close(int fd);

#endif
