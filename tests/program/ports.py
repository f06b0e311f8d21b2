"""Ports that stay free."""

import contextlib
import random
import socket


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def lowest_ephemeral_port():
    """The kernel gives ports from here on to who asks for none."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
            return int(f.read().split()[0])
    except OSError:
        return 32768


HELD_PORTS = []


def free_port():
    """A port that neither another test nor the kernel gives to anybody while
    this process lives, free in both families: for who cannot listen on 0, or
    comes back to where he was.
    """
    for port in random.sample(range(1024, lowest_ephemeral_port()), 1000):
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.ExitStack() as stack:
            stack.enter_context(held)
            try:
                held.bind(f"\0kquay-test-port-{port}")
                for family, host in [(socket.AF_INET, "0.0.0.0"),
                                     (socket.AF_INET6, "::")][:1 + has_ipv6()]:
                    s = stack.enter_context(socket.socket(family))
                    if family == socket.AF_INET6:
                        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    s.bind((host, port))
            except OSError:
                continue
            HELD_PORTS.append(socket.socket(fileno=held.detach()))
            return port
    raise AssertionError("no port is free")
