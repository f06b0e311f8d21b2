/* <sys/event.h> compiles as it is: nothing before it, strict C99 (R-API-07). */
#include <sys/event.h>

int
main(void)
{
	struct kevent ev = { 0, EVFILT_READ, EV_ADD, 0, 0, 0 };

	EV_SET(&ev, 1, EVFILT_WRITE, EV_ADD, 0, 0, &ev);
	return ev.ident == 1 && kqueue() != -1 ? 0 : 1;
}
