/* <sys/event.h> compiles in C++ with nothing before it (R-API-07). */
#include <sys/event.h>

int
main()
{
	struct kevent ev = { 0, EVFILT_READ, EV_ADD, 0, 0, 0 };

	if (ev.ident == 0)
		EV_SET(&ev, 1, EVFILT_WRITE, EV_ADD, 0, 0, &ev);
	else
		return 1;
	return ev.ident == 1 && kqueue() != -1 ? 0 : 1;
}
