/*
 * The first process of a pod's sandbox: holds the namespaces, buries orphans, leaves on SIGTERM or SIGINT.
 * Freestanding, so that its image is this one file; the system calls are made directly.
 */
#if defined(__x86_64__)
enum { SYS_sigprocmask = 14, SYS_sigtimedwait = 128, SYS_wait4 = 61, SYS_exit_group = 231 };
static long call(long number, long a, long b, long c, long d) {
  long result;
  register long fourth __asm__("r10") = d;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
enum { SYS_sigprocmask = 135, SYS_sigtimedwait = 137, SYS_wait4 = 260, SYS_exit_group = 94 };
static long call(long number, long a, long b, long c, long d) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
}
#else
#error "add this architecture's system call convention here"
#endif

enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, BLOCK = 0, WNOHANG = 1, SET_BYTES = 8 };
#define BIT(signal) (1UL << ((signal)-1))

void _start(void) {
  unsigned long everything = ~0UL;
  unsigned long awaited = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGCHLD);
  /* A pid 1 without handlers ignores signals; blocked ones stay pending until they are asked for. */
  call(SYS_sigprocmask, BLOCK, (long)&everything, 0, SET_BYTES);
  for (;;) {
    long signal = call(SYS_sigtimedwait, (long)&awaited, 0, 0, SET_BYTES);
    if (signal == SIGINT || signal == SIGTERM) call(SYS_exit_group, 0, 0, 0, 0);
    while (call(SYS_wait4, -1, 0, WNOHANG, 0) > 0) {
    }
  }
}
