/* Placeholder of the skeleton; the queue follows. */
extern int kq_skeleton;
int kq_skeleton;
