"""A client of websockets as Go programs have one: no extensions, no sub-protocol, large texts in several frames."""

import base64
import hashlib
import os
import socket
import ssl
import struct
import threading
import urllib.parse

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
# What Amazon's agent gathers before a frame leaves.
FRAME_BYTES = 32 << 10
# A peer that is silent for so long is gone.
SILENCE_MAX = 180


class Refused(Exception):
    """The handshake was answered by something other than a switch of protocols."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Closed(Exception):
    """The socket is over; 1006 stands for one that ended without a word."""

    def __init__(self, code, reason=""):
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class WebSocket:
    def __init__(self, url, headers, authorities=None):
        parts = urllib.parse.urlsplit(url)
        is_secure = parts.scheme in ("https", "wss")
        self.socket = socket.create_connection((parts.hostname, parts.port or (443 if is_secure else 80)), 30)
        if is_secure:
            context = ssl.create_default_context(cafile=authorities)
            # A port that is said is taken for a part of the name.
            self.socket = context.wrap_socket(self.socket, server_hostname=parts.netloc)
        self.saying, self.read = threading.Lock(), b""
        self.pings, self.is_closing = 0, False
        key = base64.b64encode(os.urandom(16)).decode()
        given = {"Host": parts.netloc, "User-Agent": "Go-http-client/1.1", "Connection": "Upgrade", "Sec-WebSocket-Key": key,
                 "Sec-WebSocket-Version": "13", "Upgrade": "websocket", **headers}
        lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        try:
            self.shake(key)
        except BaseException:
            self.socket.close()
            raise
        self.socket.settimeout(SILENCE_MAX)

    def shake(self, key):
        while b"\r\n\r\n" not in self.read:
            self.fill()
        head, self.read = self.read.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        status = int(first.split()[1])
        if status != 101:
            length = int(headers.get("content-length", 0))
            while len(self.read) < length:
                self.fill()
            raise Refused(status, self.read.decode())
        expected = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        assert headers["sec-websocket-accept"] == expected, headers
        assert headers["upgrade"].lower() == "websocket" and headers["connection"].lower() == "upgrade", headers
        assert "sec-websocket-extensions" not in headers and "sec-websocket-protocol" not in headers, headers

    def fill(self):
        try:
            more = self.socket.recv(65536)
        except OSError as error:
            raise Closed(1006, str(error)) from None
        if not more:
            raise Closed(1006, "end of file")
        self.read += more

    def take(self, count):
        while len(self.read) < count:
            self.fill()
        taken, self.read = self.read[:count], self.read[count:]
        return taken

    def hear(self):
        """The next text. Pings are answered meanwhile, and a close frame too before it is raised."""
        text = b""
        while True:
            first, second = self.take(2)
            assert not first & 0x70 and not second & 0x80, "no extension was agreed on, and servers mask nothing"
            length = second & 0x7F
            if length > 125:
                length, = struct.unpack("!H" if length == 126 else "!Q", self.take(2 if length == 126 else 8))
            payload, kind = self.take(length), first & 0x0F
            if kind == PING:
                self.pings += 1
                with self.saying:
                    self.frame(PONG, payload)
            elif kind == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                if not self.is_closing:
                    with self.saying:
                        self.frame(CLOSE, payload[:2])
                self.socket.close()
                raise Closed(code, payload[2:].decode())
            elif kind in (0, TEXT):
                text += payload
                if first & 0x80:
                    return text.decode()
            else:
                assert kind == PONG, f"frames of kind {kind} have no meaning here"

    def frame(self, kind, payload, is_last=True):
        head = bytes([(0x80 if is_last else 0) | kind])
        if len(payload) < 126:
            head += bytes([0x80 | len(payload)])
        elif len(payload) < 1 << 16:
            head += struct.pack("!BH", 0x80 | 126, len(payload))
        else:
            head += struct.pack("!BQ", 0x80 | 127, len(payload))
        mask = os.urandom(4)
        pattern = int.from_bytes((mask * (len(payload) // 4 + 1))[:len(payload)], "big")
        masked = (int.from_bytes(payload, "big") ^ pattern).to_bytes(len(payload), "big")
        try:
            self.socket.sendall(head + mask + masked)
        except OSError as error:
            raise Closed(1006, str(error)) from None

    def say(self, text):
        payload = text.encode()
        parts = [payload[at:at + FRAME_BYTES] for at in range(0, len(payload), FRAME_BYTES)] or [b""]
        with self.saying:
            for number, part in enumerate(parts):
                self.frame(0 if number else TEXT, part, number == len(parts) - 1)

    def close(self, code=1000, reason=""):
        """Begins to close: what is heard ends with the answer."""
        self.is_closing = True
        with self.saying:
            self.frame(CLOSE, struct.pack("!H", code) + reason.encode())

    def tear(self):
        """Without a word, as when the process is killed."""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is over already
        self.socket.close()
