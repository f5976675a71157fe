"""The system calls that no program needs, as a filter for the kernel, made by libseccomp.

Refused is also what would let programs that run side by side talk to each other: the files that all of them see have
locks, watchers, pages in memory and places to wait at, whatever namespaces they are in.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from functools import cache

ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NOT_EQUAL, MASKED_EQUAL = 1, 7
INT = 0xFFFFFFFF
"""The bits of an ``int``: the kernel looks at no others."""
UNIX = 1
NEW_NAMESPACES = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""The flags of ``clone`` that make a namespace, one bit each."""

REFUSED: Mapping[str, str] = {
    "the network, also inside the machine": "socket socketcall connect bind listen accept accept4",
    "memory that no limit of a process counts, or that outlives it": (
        "memfd_create memfd_secret shmget shmat shmctl msgget semget mq_open add_key request_key keyctl"
    ),
    "other processes": "ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise",
    "file systems, namespaces and what reaches round them": (
        "unshare setns mount umount umount2 move_mount open_tree open_tree_attr fsopen fsmount fsconfig "
        "fspick mount_setattr pivot_root chroot name_to_handle_at open_by_handle_at fanotify_init swapon "
        "swapoff quotactl quotactl_fd"
    ),
    "parts of the kernel that have been ways out of it": (
        "bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register personality "
        "modify_ldt vmsplice seccomp landlock_create_ruleset lsm_set_self_attr"
    ),
    "the machine itself": (
        "reboot kexec_load kexec_file_load init_module finit_module delete_module iopl ioperm acct syslog "
        "settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname vhangup"
    ),
    "watchers, locks and pages of files that other programs see": (
        "inotify_init inotify_init1 inotify_add_watch flock mincore cachestat preadv2 fadvise64 readahead "
        "futex_wait futex_wake futex_waitv futex_requeue"
    ),
    "what all programs wait for": "sync syncfs",
    "priorities": (
        "setpriority sched_setscheduler sched_setattr sched_setaffinity ioprio_set mbind migrate_pages move_pages"
    ),
}
"""The names of system calls, by what they reach."""
NEWER: Mapping[str, int] = {
    "memfd_secret": 447,
    "futex_waitv": 449,
    "cachestat": 451,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "lsm_set_self_attr": 460,
    "open_tree_attr": 467,
}
"""The numbers of system calls that a libseccomp may be too old to know; they are the same on all architectures."""
LAST = 470
"""The first number of a system call that did not exist when this was written."""
COMMANDS = (*range(5, 12), *range(15, 17), *range(36, 39), *range(1024, 1027), 1031, *range(1039, 1041))
"""What ``fcntl`` does to what others see: locks, owners and signals, leases and notices, sizes of pipes."""
WAKING = (1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13)
"""What ``futex`` does beside waiting: to wake and to hand on. All but threads' own have no flag."""
OF_THREADS = 0x80


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


@cache
def filter() -> bytes:
    """The filter as instructions for the kernel. Raises ``OSError`` where libseccomp is not installed."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))
    try:
        for name in " ".join(REFUSED.values()).split():
            _refuse(library, context, name, errno.EPERM)
        # its flags lie in memory, where a filter cannot look; without it, callers fall back on clone
        _refuse(library, context, "clone3", errno.ENOSYS)
        _refuse(library, context, "socketpair", errno.EPERM, _Comparison(0, NOT_EQUAL, UNIX, 0))
        for flag in NEW_NAMESPACES:
            _refuse(library, context, "clone", errno.EPERM, _Comparison(0, MASKED_EQUAL, flag, flag))
        for command in COMMANDS:
            _refuse(library, context, "fcntl", errno.EPERM, _Comparison(1, MASKED_EQUAL, INT, command))
        for operation in WAKING:
            _refuse(library, context, "futex", errno.EPERM, _Comparison(1, MASKED_EQUAL, OF_THREADS | 0x7F, operation))
        return NEW_CALLS + _exported(library, context)
    finally:
        library.seccomp_release(context)


# load the number; go on where it is known; say that there is no such call
NEW_CALLS = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in ((0x20, 0, 0, 0), (0x35, 0, 1, LAST), (0x06, 0, 0, REFUSE | errno.ENOSYS))
)


def _refuse(library: ctypes.CDLL, context: ctypes.c_void_p, name: str, code: int, *comparisons: _Comparison) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    number = NEWER.get(name, number) if number < 0 else number
    if number < 0:
        return  # not on this architecture
    array = (_Comparison * len(comparisons))(*comparisons)
    action = ctypes.c_uint32(REFUSE | code)
    failed = library.seccomp_rule_add_array(context, action, number, ctypes.c_uint(len(comparisons)), array)
    if failed:
        raise OSError(-failed, f"libseccomp takes no rule for {name}")


def _exported(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    fd = os.memfd_create("filter")
    with open(fd, "rb") as file:
        failed = library.seccomp_export_bpf(context, fd)
        if failed:
            raise OSError(-failed, "libseccomp exports no filter")
        file.seek(0)
        return file.read()
