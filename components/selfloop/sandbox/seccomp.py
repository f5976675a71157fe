"""The system calls that no program needs, as a filter for the kernel; made by libseccomp, where it is installed."""

import ctypes
import errno
import os
from collections.abc import Mapping
from functools import cache

ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NOT_EQUAL, MASKED_EQUAL = 1, 7
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
    "priorities": (
        "setpriority sched_setscheduler sched_setattr sched_setaffinity ioprio_set mbind migrate_pages move_pages"
    ),
}
"""The names of system calls, by what they reach."""


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


@cache
def filter() -> bytes:
    """The filter as instructions for the kernel; empty where libseccomp is not installed."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return b""
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
        return _exported(library, context)
    finally:
        library.seccomp_release(context)


def _refuse(library: ctypes.CDLL, context: ctypes.c_void_p, name: str, code: int, *comparisons: _Comparison) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number < 0:
        return  # not on this architecture, or newer than the library
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
