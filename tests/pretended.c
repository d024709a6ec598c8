/* Preloaded, tells a program of another machine at full speed: PRETEND_CORES, PRETEND_L1 and PRETEND_L2 in KiB, and
   PRETEND_VENDOR, of twelve letters.

   Cores are those that C libraries ask for. Caches and the vendor are in the answers of the instruction CPUID, which
   Linux lets fault where the processor can (arch_prctl): the handler of SIGSEGV asks the processor, changes the answer
   and goes on. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define UNABLE 77

static int cores;
static unsigned kib[3];
static const char *vendor;
static int is_intel;

static int number(const char *name) {
  const char *given = getenv(name);
  return given ? atoi(given) : 0;
}

static void ask(unsigned leaf, unsigned sub, unsigned said[4]) {
  int amd = vendor && !strcmp(vendor, "AuthenticAMD");
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
  /* Caches of AMD's processors are in a leaf of their own, which has the form of Intel's. */
  if (amd && is_intel && leaf == 0x8000001d) leaf = 4;
  __cpuid_count(leaf, sub, said[0], said[1], said[2], said[3]);
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
  if (vendor && leaf == 0) {
    memcpy(&said[1], vendor, 4);
    memcpy(&said[3], vendor + 4, 4);
    memcpy(&said[2], vendor + 8, 4);
  }
  if (amd && leaf == 0x80000000 && said[0] < 0x8000001e) said[0] = 0x8000001e;
  if (amd && leaf == 0x80000001) said[2] |= 1u << 22; /* It says that there is this leaf. */
  unsigned type = said[0] & 31, level = said[0] >> 5 & 7;
  /* Intel's and AMD's description of caches: data or unified; line, partitions and ways less one, then sets less one. */
  if ((leaf == 4 || leaf == 0x8000001d) && (type == 1 || type == 3) && level <= 2 && kib[level]) {
    unsigned line = (said[1] & 0xfff) + 1, ways = (said[1] >> 22) + 1;
    said[1] &= ~(0x3ffu << 12);
    said[2] = kib[level] * 1024 / (line * ways) - 1;
  }
}

static void answer(int sig, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *at = (const unsigned char *)registers[REG_RIP];
  unsigned said[4];
  (void)info;
  if (at[0] != 0x0f || at[1] != 0xa2) {
    signal(sig, SIG_DFL);
    return;
  }
  ask((unsigned)registers[REG_RAX], (unsigned)registers[REG_RCX], said);
  registers[REG_RAX] = said[0];
  registers[REG_RBX] = said[1];
  registers[REG_RCX] = said[2];
  registers[REG_RDX] = said[3];
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
  struct sigaction action;
  cores = number("PRETEND_CORES");
  kib[1] = (unsigned)number("PRETEND_L1");
  kib[2] = (unsigned)number("PRETEND_L2");
  unsigned said[4];
  __cpuid(0, said[0], said[1], said[2], said[3]);
  is_intel = said[1] == signature_INTEL_ebx;
  vendor = getenv("PRETEND_VENDOR");
  if (vendor && strlen(vendor) != 12) _exit(1);
  if (!kib[1] && !kib[2] && !vendor) return;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = answer;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, NULL);
  if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) _exit(UNABLE);
}

int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set) {
  static int (*real)(pid_t, size_t, cpu_set_t *);
  if (!cores) {
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "sched_getaffinity");
    return real(process, size, set);
  }
  memset(set, 0, size);
  for (int i = 0; i < cores; i++) CPU_SET_S(i, size, set);
  return 0;
}

int pthread_getaffinity_np(unsigned long thread, size_t size, cpu_set_t *set) {
  (void)thread;
  return sched_getaffinity(0, size, set);
}

long sysconf(int name) {
  static long (*real)(int);
  if (cores && (name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF)) return cores;
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "sysconf");
  return real(name);
}

int get_nprocs(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }
int get_nprocs_conf(void) { return (int)sysconf(_SC_NPROCESSORS_CONF); }
