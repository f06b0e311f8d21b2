"""A client's end of a stream."""

import socket
import struct

RESET = struct.pack("ii", 1, 0)


class Stream:
    def __init__(self, s):
        self.s = s
        self.buffer = b""

    def send(self, text):
        self.s.sendall(text.encode() if isinstance(text, str) else text)

    def recv(self, n):
        """Exactly n bytes, or fewer at the end of the stream."""
        while len(self.buffer) < n:
            part = self.s.recv(n - len(self.buffer))
            if not part:
                break
            self.buffer += part
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def line(self):
        """The next line, without its end; None at the end of the stream."""
        while b"\n" not in self.buffer:
            part = self.s.recv(65536)
            if not part:
                assert self.buffer == b"", self.buffer
                return None
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def rest(self):
        """All that comes before the end of the stream."""
        parts = [self.buffer]
        self.buffer = b""
        while part := self.s.recv(65536):
            parts.append(part)
        return b"".join(parts)

    def drain(self):
        """As rest(), and a reset is an end, too."""
        parts = [self.buffer]
        self.buffer = b""
        try:
            while part := self.s.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)

    def closed(self):
        """Nothing comes but the end of the stream."""
        return self.drain() == b""

    def done(self):
        self.s.shutdown(socket.SHUT_WR)

    def close(self):
        self.s.close()

    def reset(self):
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.s.close()
