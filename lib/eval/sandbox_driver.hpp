#pragma once
// The Python side of sandbox.cpp: reads all programs from standard input, forks a process for each,
// writes one letter for each: P passed, F failed, T timed out.

namespace kquant {

// - A process counts as passed only if it says so through a pipe after its program's last line:
//   neither os._exit(0) nor anything printed does.
// - A seccomp filter takes from it what no answer needs: processes, sockets, signals to others,
//   tracing. The limits of setrlimit do not hold for root, and a fork bomb is over before a
//   timeout.
// - Results go to standard output, which the processes do not have.
inline constexpr const char* kSandboxDriver = R"py(
import ctypes, json, os, platform, resource, select, signal, struct, sys, time

SECONDS, MEMORY = float(sys.argv[1]), int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 4, 38, 22

# architecture id, and numbers of: clone fork vfork clone3 execve execveat | socket socketpair |
# kill tkill tgkill pidfd_open | ptrace process_vm_readv process_vm_writev | setrlimit prlimit64
DENIED = {
    "x86_64": (0xC000003E, (56, 57, 58, 435, 59, 322, 41, 53, 62, 200, 234, 434, 101, 310, 311, 160, 302)),
    "aarch64": (0xC00000B7, (220, 435, 221, 281, 198, 199, 129, 130, 131, 434, 117, 270, 271, 164, 261)),
}


def filter_program():
    if platform.machine() not in DENIED:
        return None
    arch, numbers = DENIED[platform.machine()]
    LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
    KILL, REFUSE, ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
    n = len(numbers)
    code = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, arch), (RETURN, 0, 0, KILL),
            (LOAD, 0, 0, 0), (AT_LEAST, n + 1, 0, 0x40000000)]
    code += [(EQUAL, n - i, 0, number) for i, number in enumerate(numbers)]
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    return b"".join(struct.pack("HBBI", *line) for line in code)


FILTER = filter_program()
FILTER_BUFFER = ctypes.create_string_buffer(FILTER or b"")


def confine():
    cpu = int(SECONDS) + 1
    for what, limit in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0),
                        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 32), (resource.RLIMIT_NPROC, 0)):
        hard = resource.getrlimit(what)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (limit, limit))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if FILTER is not None:
        program = ctypes.create_string_buffer(
            struct.pack("HxxxxxxP", len(FILTER) // 8, ctypes.addressof(FILTER_BUFFER)))
        if libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0) != 0:
            os._exit(3)


def child(source, done):
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    report = os.dup2(done, 3)
    os.closerange(4, 256)
    confine()
    try:
        exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
        os.write(report, b"P")
    except BaseException:
        pass
    os._exit(0)


def check(source):
    ready, done = os.pipe()
    process = os.fork()
    if process == 0:
        child(source, done)
    os.close(done)
    end = time.monotonic() + SECONDS
    letter = "T"
    while True:
        left = end - time.monotonic()
        if left <= 0:
            break
        if select.select([ready], [], [], left)[0]:
            letter = "P" if os.read(ready, 1) == b"P" else "F"
            break
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(ready)
    return letter


libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
programs = json.loads(sys.stdin.buffer.read())
for program in programs:
    os.write(1, check(program).encode())
)py";

}  // namespace kquant
