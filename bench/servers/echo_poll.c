/* poll(2): the whole table handed over and searched at each turn. */
#include "echo.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static struct pollfd *table;
static nfds_t used;

static void
add(int fd)
{
	table[used].fd = fd;
	table[used].events = POLLIN;
	table[used].revents = 0;
	used++;
}

int
main(int argc, char *argv[])
{
	struct rlimit rl;
	enum want want;
	int fd, listener, n;
	nfds_t i;

	listener = echo_listen(argc, argv);
	if (getrlimit(RLIMIT_NOFILE, &rl) == -1 ||
	    (table = calloc(rl.rlim_cur, sizeof(*table))) == NULL)
		err(1, "calloc");
	add(listener);
	echo_ready();
	for (;;) {
		n = poll(table, used, -1);
		if (n == -1 && errno != EINTR)
			err(1, "poll");
		for (i = used; n > 0 && i-- > 0;) {
			if (table[i].revents == 0)
				continue;
			n--;
			if (table[i].fd == listener) {
				fd = echo_accept(listener);
				if (fd != -1)
					add(fd);
				continue;
			}
			want = echo_serve(table[i].fd);
			table[i].events = want == WANT_WRITE ? POLLOUT : POLLIN;
			if (want == WANT_CLOSE) {
				close(table[i].fd);
				table[i] = table[--used];
			}
		}
	}
}
