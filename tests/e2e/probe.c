/* What a program in the container finds of the driver: one line of answer for each word of the command line.
 * Without a GPU the real libraries answer 100 (no device) and 9 (driver not loaded); that they answer at all is the
 * point. ENXIO from a device node says that the device cgroup let the open through to a number without a driver. */
#define _GNU_SOURCE
#ifdef OLD_GLIBC
__asm__(".symver dlopen,dlopen@GLIBC_2.2.5");
__asm__(".symver dlsym,dlsym@GLIBC_2.2.5");
__asm__(".symver dladdr,dladdr@GLIBC_2.2.5");
__asm__(".symver dlerror,dlerror@GLIBC_2.2.5");
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int call(const char *library, const char *function, int (*with)(void *)) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  void *symbol = handle ? dlsym(handle, function) : NULL;
  if (!symbol) {
    printf("%s %s\n", function, dlerror());
    return 1;
  }
  printf("%s %d\n", function, with(symbol));
  return 0;
}

static int without_argument(void *function) { return ((int (*)(void))function)(); }
static int with_flags(void *function) { return ((int (*)(unsigned))function)(0); }

static int loads(const char *library) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  printf("dlopen %s %s\n", library, handle ? "ok" : dlerror());
  return !handle;
}

/* strerrorname_np is younger than some glibc that this runs on. */
static const char *name(int error) {
  switch (error) {
  case ENOENT: return "ENOENT";
  case ENXIO: return "ENXIO";
  case EPERM: return "EPERM";
  case EACCES: return "EACCES";
  default: return strerror(error);
  }
}

static int opens(const char *path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  printf("open %s %s\n", path, fd < 0 ? name(errno) : "ok");
  if (fd >= 0)
    close(fd);
  return 0;
}

/* The file that the loader took for libcuda.so.1. */
static int whence(void) {
  Dl_info found = {0};
  void *handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  void *symbol = handle ? dlsym(handle, "cuInit") : NULL;
  int known = symbol && dladdr(symbol, &found);
  printf("libcuda.so.1 from %s\n", known ? found.dli_fname : dlerror());
  return !known;
}

int main(int argc, char **argv) {
  int failed = 0;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "cuda"))
      failed |= call("libcuda.so.1", "cuInit", with_flags);
    else if (!strcmp(argv[i], "nvml"))
      failed |= call("libnvidia-ml.so.1", "nvmlInit_v2", without_argument);
    else if (!strcmp(argv[i], "whence"))
      failed |= whence();
    else if (argv[i][0] == '/')
      failed |= opens(argv[i]);
    else
      failed |= loads(argv[i]);
  }
  return failed;
}
