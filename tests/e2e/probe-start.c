/* An entry for probe.c that a glibc older than the compiler's can serve: the symbols of every x86-64 glibc. Since 2.34
 * a program linked in the usual way asks for versions that 2.31 does not have. */
#include <stdlib.h>

int main(int argc, char **argv);
int old_start(int (*)(int, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
__asm__(".symver old_start,__libc_start_main@GLIBC_2.2.5");

__asm__(".globl _start\n"
        "_start:\n"
        "  xor %ebp, %ebp\n"
        "  mov %rsp, %rdi\n"
        "  mov %rdx, %rsi\n"
        "  and $-16, %rsp\n"
        "  call begin\n"
        "  hlt\n");

__attribute__((used)) void begin(long *stack, void (*finish)(void)) {
  exit(old_start(main, (int)stack[0], (char **)(stack + 1), 0, 0, finish, stack));
}
