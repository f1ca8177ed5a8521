/* crun asks for unlimited locked memory before it loads a device program, and fails where it may not (a machine without
 * CAP_SYS_RESOURCE). Kernels since 5.11 do not count programs there: loaded before crun, this lets it go on. */
#define _GNU_SOURCE
#include <sys/resource.h>

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
  return resource == RLIMIT_MEMLOCK ? 0 : prlimit(0, resource, limit, 0);
}
