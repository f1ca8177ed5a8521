/* Device programs of cgroups of version 2, shown and added.
 * programs show CGROUP...          their identifiers, a line each
 * programs add WHICH CGROUP        beside those that are there: `allow` allows all, `few` c 1:*, `calling` calls the kernel
 * programs alone none CGROUP       none at all
 * programs alone WHICH CGROUP      in place of all that are there, in a way that lets no second one be added
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned ids[64];

static int call(int command, union bpf_attr *attributes) {
  int answer = syscall(SYS_bpf, command, attributes, sizeof *attributes);
  if (answer < 0)
    fprintf(stderr, "bpf command %d: %s\n", command, strerror(errno)), exit(1);
  return answer;
}

static unsigned query(int cgroup) {
  union bpf_attr a = {0};
  a.query.target_fd = cgroup, a.query.attach_type = BPF_CGROUP_DEVICE;
  a.query.prog_ids = (unsigned long)ids, a.query.prog_cnt = 64;
  call(BPF_PROG_QUERY, &a);
  return a.query.prog_cnt;
}

static void detach(int cgroup, unsigned id) {
  union bpf_attr a = {0}, b = {0};
  a.prog_id = id;
  b.target_fd = cgroup, b.attach_type = BPF_CGROUP_DEVICE, b.attach_bpf_fd = call(BPF_PROG_GET_FD_BY_ID, &a);
  call(BPF_PROG_DETACH, &b);
}

static void attach(int cgroup, const char *which, unsigned flags) {
  struct bpf_insn yes[] = {{.code = 0xb7, .imm = 1}, {.code = 0x95}};
  struct bpf_insn few[] = {{.code = 0x61, .dst_reg = 4, .src_reg = 1, .off = 4},
                           {.code = 0xb7, .imm = 1},
                           {.code = 0x15, .dst_reg = 4, .off = 1, .imm = 1},
                           {.code = 0xb7, .imm = 0},
                           {.code = 0x95}};
  struct bpf_insn calling[] = {{.code = 0x85, .imm = BPF_FUNC_get_prandom_u32}, {.code = 0xb7, .imm = 1}, {.code = 0x95}};
  union bpf_attr a = {0}, b = {0};
  a.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, a.license = (unsigned long)"GPL";
  a.insns = (unsigned long)yes, a.insn_cnt = sizeof yes / 8;
  if (!strcmp(which, "few"))
    a.insns = (unsigned long)few, a.insn_cnt = sizeof few / 8;
  if (!strcmp(which, "calling"))
    a.insns = (unsigned long)calling, a.insn_cnt = sizeof calling / 8;
  b.target_fd = cgroup, b.attach_type = BPF_CGROUP_DEVICE, b.attach_flags = flags;
  b.attach_bpf_fd = call(BPF_PROG_LOAD, &a);
  call(BPF_PROG_ATTACH, &b);
}

int main(int count, char **words) {
  int show = count > 2 && !strcmp(words[1], "show");
  if (!show && count != 4)
    return 2;
  for (int i = show ? 2 : 3; i < count; i++) {
    int cgroup = open(words[i], O_RDONLY);
    if (cgroup < 0)
      return perror(words[i]), 1;
    unsigned many = query(cgroup);
    if (show) {
      printf("%s:", words[i]);
      for (unsigned j = 0; j < many; j++)
        printf(" %u", ids[j]);
      puts("");
    } else if (!strcmp(words[1], "add"))
      attach(cgroup, words[2], BPF_F_ALLOW_MULTI);
    else {
      for (unsigned j = 0; j < many; j++)
        detach(cgroup, ids[j]);
      if (strcmp(words[2], "none"))
        attach(cgroup, words[2], 0);
    }
  }
}
