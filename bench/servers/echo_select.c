/* select(2): bit sets copied in and out and searched at each turn. */
#include "echo.h"

#include <sys/select.h>

#include <err.h>
#include <errno.h>
#include <unistd.h>

int
main(int argc, char *argv[])
{
	fd_set reads, writes, canread, canwrite;
	int fd, highest, listener, n;
	enum want want;

	highest = listener = echo_listen(argc, argv);
	FD_ZERO(&reads);
	FD_ZERO(&writes);
	FD_SET(listener, &reads);
	echo_ready();
	for (;;) {
		canread = reads;
		canwrite = writes;
		n = select(highest + 1, &canread, &canwrite, NULL, NULL);
		if (n == -1 && errno != EINTR)
			err(1, "select");
		for (fd = 0; n > 0 && fd <= highest; fd++) {
			if (!FD_ISSET(fd, &canread) && !FD_ISSET(fd, &canwrite))
				continue;
			n--;
			if (fd == listener) {
				int new = echo_accept(listener);

				if (new >= FD_SETSIZE)
					close(new);
				else if (new != -1)
					FD_SET(new, &reads);
				if (new<FD_SETSIZE &&new> highest)
					highest = new;
				continue;
			}
			want = echo_serve(fd);
			FD_CLR(fd, &reads);
			FD_CLR(fd, &writes);
			if (want == WANT_CLOSE)
				close(fd);
			else
				FD_SET(fd,
				    want == WANT_READ ? &reads : &writes);
		}
	}
}
