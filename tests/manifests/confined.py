"""Run a command as a container would: as nobody, without capabilities, under a seccomp profile in the OCI's format.

python confined.py PROFILE COMMAND...
"""

import ctypes
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

NOBODY = 65534
DROP_FROM_BOUNDING_SET, NO_NEW_PRIVILEGES = 24, 38
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
COMPARISONS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}

libc = ctypes.CDLL(None, use_errno=True)
libseccomp = ctypes.CDLL("libseccomp.so.2")
libseccomp.seccomp_init.restype = ctypes.c_void_p


class Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def action(rule: Mapping[str, Any], name: str, errno: str) -> ctypes.c_uint32:
    return ctypes.c_uint32(ALLOW if rule[name] == "SCMP_ACT_ALLOW" else REFUSE | rule.get(errno, 1))


def load(profile: Mapping[str, Any]) -> None:
    """Hold this process and all that it starts to a profile, as runc does."""
    context = ctypes.c_void_p(libseccomp.seccomp_init(action(profile, "defaultAction", "defaultErrnoRet")))
    for rule in profile["syscalls"]:
        given = [
            Comparison(a["index"], COMPARISONS[a["op"].removeprefix("SCMP_CMP_")], a["value"], a.get("valueTwo", 0))
            for a in rule.get("args", [])
        ]
        comparisons = (Comparison * len(given))(*given)
        for name in rule["names"]:
            number = libseccomp.seccomp_syscall_resolve_name(name.encode())
            if number != -1:  # newer than this machine's libseccomp
                code = libseccomp.seccomp_rule_add_array(
                    context, action(rule, "action", "errnoRet"), number, len(given), comparisons
                )
                assert code == 0, (name, code)
    assert libseccomp.seccomp_load(context) == 0


def drop_rights() -> None:
    if os.geteuid() == 0:
        for capability in range(64):
            libc.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    assert libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0


if __name__ == "__main__":
    profile = json.load(sys.stdin)
    drop_rights()
    load(profile)
    os.execv(sys.argv[1], sys.argv[1:])
