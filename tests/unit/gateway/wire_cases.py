"""What clients may try: each case the bytes, what becomes of them, and why. Used by ``test_gateway_smuggling``.

``<path>`` and ``<key>`` stand for those of an inference request, or of one for the control plane.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.unit.gateway.fakes import ENDPOINT

BODY = b'{"model":"%b"}' % ENDPOINT.encode()
SIZE = len(BODY)
HOST = b"Host: a\r\n"
LENGTH = b"Content-Length: %d\r\n" % SIZE
CODING = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, BODY)


@dataclass(frozen=True)
class Case:
    """``refused``: the status of the one refusal that ends the connection; None: nothing is refused. ``served``: so
    many requests are passed on, whole, before that."""

    why: str
    data: bytes
    refused: int | None = 400
    served: int = 0


def head(*lines: bytes, line: bytes = b"POST <path> HTTP/1.1", host: bytes = HOST) -> bytes:
    """A head with the given lines, each of which has its line end."""
    return line + b"\r\n" + host + b"".join(lines) + b"Authorization: <key>\r\n\r\n"


def plain(*lines: bytes, line: bytes = b"POST <path> HTTP/1.1", host: bytes = HOST, body: bytes = BODY) -> bytes:
    """A request with a length."""
    return head(LENGTH, *lines, line=line, host=host) + body


def coded(chunks: bytes, *lines: bytes) -> bytes:
    """A chunked request."""
    return head(CODING, *lines) + chunks


def framed(*lines: bytes, body: bytes = CHUNKS) -> bytes:
    """A request whose framing is all in ``lines``."""
    return head(*lines) + body


ONE = plain()
FOLDED = "obs-fold is obsolete (9112, 5.2)"
ODD_SIZE = "a chunk's size is hexadecimal digits only (9112, 7.1)"
BARE = "a line ends with CR LF; a lone CR or LF is read in two ways (9112, 2.2)"
TWO = "Content-Length beside Transfer-Encoding is the classic way to smuggle (9112, 6.1)"
LENGTHS = "a length is said once, in digits (9112, 6.3)"
LAST = "chunked is the one coding, and said once (9112, 6.1)"
NAMES = "a header's name is a token, with the colon right behind it (9112, 5.1)"
HOSTS = "HTTP/1.1 has exactly one valid Host (9112, 3.2)"

CASES: dict[str, Case] = {
    # ---- two framings
    "length then coding": Case(TWO, framed(LENGTH, CODING)),
    "coding then length": Case(TWO, framed(CODING, LENGTH)),
    "length then coding, lower case": Case(TWO, framed(LENGTH.lower(), CODING.lower())),
    "coding then length, upper case": Case(TWO, framed(CODING.upper(), LENGTH.upper())),
    "length zero and coding": Case(TWO, framed(b"Content-Length: 0\r\n", CODING)),
    "length and a coding that is none": Case(TWO, framed(LENGTH, b"Transfer-Encoding: x\r\n", body=BODY)),
    # ---- lengths
    "equal lengths": Case(LENGTHS, framed(LENGTH, LENGTH, body=BODY)),
    "different lengths": Case(LENGTHS, framed(LENGTH, b"Content-Length: 1\r\n", body=BODY)),
    "listed equal lengths": Case(LENGTHS, framed(b"Content-Length: %d, %d\r\n" % (SIZE, SIZE), body=BODY)),
    "listed different lengths": Case(LENGTHS, framed(b"Content-Length: %d, 1\r\n" % SIZE, body=BODY)),
    "signed length": Case(LENGTHS, framed(b"Content-Length: +%d\r\n" % SIZE, body=BODY)),
    "negative length": Case(LENGTHS, framed(b"Content-Length: -1\r\n", body=BODY)),
    "hexadecimal length": Case(LENGTHS, framed(b"Content-Length: 0x%x\r\n" % SIZE, body=BODY)),
    "length with an underscore": Case(LENGTHS, framed(b"Content-Length: 1_0\r\n", body=BODY)),
    "length with a point": Case(LENGTHS, framed(b"Content-Length: %d.0\r\n" % SIZE, body=BODY)),
    "empty length": Case(LENGTHS, framed(b"Content-Length:\r\n", body=BODY)),
    "length beyond 64 bits": Case(LENGTHS, framed(b"Content-Length: 18446744073709551638\r\n", body=BODY)),
    "length of too many zeros": Case(LENGTHS, framed(b"Content-Length: " + b"0" * 5000 + b"22\r\n", body=BODY)),
    "length beyond the limit": Case("larger than any body may be", framed(b"Content-Length: 99999999999\r\n"), 413),
    "length with white space": Case(
        "OWS around a value means nothing", ONE.replace(b"Length: ", b"Length: \t"), None, 1
    ),
    # ---- codings
    "xchunked": Case(LAST, framed(b"Transfer-Encoding: xchunked\r\n")),
    "identity": Case(LAST, framed(b"Transfer-Encoding: identity\r\n")),
    "chunked, identity": Case(LAST, framed(b"Transfer-Encoding: chunked, identity\r\n")),
    "identity, chunked": Case(LAST, framed(b"Transfer-Encoding: identity, chunked\r\n")),
    "gzip, chunked": Case(LAST, framed(b"Transfer-Encoding: gzip, chunked\r\n")),
    "nothing, chunked": Case(LAST, framed(b"Transfer-Encoding: ,chunked\r\n")),
    "chunked in quotes": Case(LAST, framed(b'Transfer-Encoding: "chunked"\r\n')),
    "chunked with a parameter": Case(LAST, framed(b"Transfer-Encoding: chunked;q=1\r\n")),
    "chunked twice": Case(LAST, framed(CODING, CODING)),
    "chunked and identity in two lines": Case(LAST, framed(CODING, b"Transfer-Encoding: identity\r\n")),
    "empty coding": Case(LAST, framed(b"Transfer-Encoding:\r\n")),
    "coding behind a vertical tab": Case(
        "no white space that HTTP knows", framed(b"Transfer-Encoding:\x0bchunked\r\n")
    ),
    "coding with a space before the name": Case(FOLDED, framed(b" Transfer-Encoding: chunked\r\n")),
    "coding with a space before the colon": Case(NAMES, framed(b"Transfer-Encoding : chunked\r\n")),
    "coding on a folded line": Case(FOLDED, framed(b"Transfer-Encoding:\r\n chunked\r\n")),
    "folded behind the coding": Case(FOLDED, framed(b"Transfer-Encoding: chunked\r\n , identity\r\n")),
    "coding in HTTP/1.0": Case("HTTP/1.0 has no codings (9112, 6.1)", coded(CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0")),
    "coding behind a tab": Case("a tab is OWS", framed(b"Transfer-Encoding:\tchunked\r\n"), None, 1),
    "CHUNKED": Case("codings have no case", framed(b"Transfer-Encoding: CHUNKED\r\n"), None, 1),
    "Transfer_Encoding": Case("another name, without meaning", plain(b"Transfer_Encoding: chunked\r\n"), None, 1),
    # ---- chunks
    "size 0x": Case(ODD_SIZE, coded(b"0x" + CHUNKS)),
    "size +": Case(ODD_SIZE, coded(b"+" + CHUNKS)),
    "size -": Case(ODD_SIZE, coded(b"-" + CHUNKS)),
    "size with an underscore": Case(ODD_SIZE, coded(b"0_" + CHUNKS)),
    "size behind a space": Case(ODD_SIZE, coded(b" " + CHUNKS)),
    "size before a space": Case(ODD_SIZE, coded(CHUNKS.replace(b"\r\n", b" \r\n", 1))),
    "size missing": Case(ODD_SIZE, coded(b"\r\n" + BODY + b"\r\n0\r\n\r\n")),
    "size is an extension only": Case(ODD_SIZE, coded(b";a\r\n" + BODY + b"\r\n0\r\n\r\n")),
    "size beyond 64 bits": Case("an overflow would be a small size", coded(b"1" + b"0" * 15 + CHUNKS)),
    "size ends with LF": Case(BARE, coded(CHUNKS.replace(b"\r\n", b"\n", 1))),
    "size ends with CR": Case(BARE, coded(CHUNKS.replace(b"\r\n", b"\r", 1))),
    "chunk ends with LF": Case(BARE, coded(CHUNKS.replace(b"}\r\n", b"}\n"))),
    "chunk ends with CR": Case(BARE, coded(CHUNKS.replace(b"}\r\n", b"}\r"))),
    "chunk has no end": Case("a chunk ends where it says", coded(CHUNKS.replace(b"}\r\n", b"}"))),
    "chunk is longer than it says": Case("a chunk ends where it says", coded(CHUNKS.replace(b"}\r\n", b"}XX\r\n"))),
    "last chunk ends with LF": Case(BARE, coded(CHUNKS[:-5] + b"0\n\n")),
    "end of trailers is LF": Case(BARE, coded(CHUNKS[:-2] + b"\n")),
    "extension with LF": Case(BARE, coded(CHUNKS.replace(b"\r\n", b";a\nb\r\n", 1))),
    "extension with CR": Case(BARE, coded(CHUNKS.replace(b"\r\n", b";a\rb\r\n", 1))),
    "extension with NUL": Case("no byte of a token", coded(CHUNKS.replace(b"\r\n", b";\0\r\n", 1))),
    "trailer with a length": Case(
        "a trailer is no framing (9110, 6.5.1)", coded(CHUNKS[:-2] + b"Content-Length: 3\r\n\r\n")
    ),
    "trailer with a coding": Case("a trailer is no framing", coded(CHUNKS[:-2] + b"Transfer-Encoding: x\r\n\r\n")),
    "trailer with a bad name": Case(NAMES, coded(CHUNKS[:-2] + b"A b: c\r\n\r\n")),
    "trailer that is folded": Case(FOLDED, coded(CHUNKS[:-2] + b"A: b\r\n c\r\n\r\n")),
    "trailer with the key": Case("trailers are dropped", coded(CHUNKS[:-2] + b"X-Request-Id: evil\r\n\r\n"), None, 1),
    "long extension": Case(
        "within the limit of overhead", coded(CHUNKS.replace(b"\r\n", b";" + b"a" * 9000 + b"\r\n", 1)), None, 1
    ),
    "zeros before the size": Case("digits", coded(b"0" * 20 + CHUNKS), None, 1),
    "last chunk of many zeros": Case("digits", coded(CHUNKS[:-5] + b"0000\r\n\r\n"), None, 1),
    # ---- lines
    "header ends with LF": Case(BARE, plain(b"A: b\n")),
    "header ends with CR": Case(BARE, plain(b"A: b\rB: c\r\n")),
    "header ends with CR CR LF": Case(BARE, plain(b"A: b\r\r\n")),
    "head ends with LF": Case(BARE, ONE.replace(b"\r\n\r\n", b"\r\n\n")),
    "all lines end with LF": Case(BARE, ONE.replace(b"\r\n", b"\n")),
    "NUL in a value": Case("no byte of a value (9110, 5.5)", plain(b"A: b\0c\r\n")),
    "NUL in a name": Case(NAMES, plain(b"A\0: b\r\n")),
    "control in a value": Case("no byte of a value", plain(b"A: \x01\r\n")),
    "space before the colon": Case(NAMES, plain(b"A : b\r\n")),
    "empty name": Case(NAMES, plain(b": b\r\n")),
    "no colon": Case(NAMES, plain(b"A\r\n")),
    "name in UTF-8": Case(NAMES, plain(b"\xc3\xa9: b\r\n")),
    "folded": Case(FOLDED, plain(b"A: b\r\n c\r\n")),
    "folded by a tab": Case(FOLDED, plain(b"A: b\r\n\tc\r\n")),
    "line of white space first": Case("9112, 2.2", ONE.replace(HOST, b" \r\n" + HOST)),
    "bytes above 127 in a value": Case("obs-text is allowed", plain(b"A: \xff\r\n"), None, 1),
    "empty lines first": Case("9112, 2.2: ignored", b"\r\n\r\n" + ONE, None, 1),
    # ---- sizes
    "endless head": Case("64 KiB at most", ONE[:-SIZE].replace(HOST, HOST + b"A: b\r\n" * 20_000), 431),
    "one endless value": Case(
        "64 KiB at most", ONE[:-SIZE].replace(HOST, HOST + b"A: " + b"b" * 300_000 + b"\r\n"), 431
    ),
    "more than 100 headers": Case("100 at most", plain(*(b"A%d: b\r\n" % n for n in range(98))), 431),
    "more than 100 of a name": Case("100 at most", plain(*(b"A: b\r\n" for _ in range(98))), 431),
    "100 headers": Case("100 at most", plain(*(b"A%d: b\r\n" % n for n in range(97))), None, 1),
    "very long target": Case("8 KiB at most", plain(line=b"POST <path>?%b HTTP/1.1" % (b"a" * 9000)), 414),
    # ---- the request line
    "HTTP/0.9": Case("not spoken", b"POST <path>\r\n\r\n"),
    "HTTP/0.9 by name": Case("not spoken", ONE.replace(b"HTTP/1.1", b"HTTP/0.9")),
    "HTTP/1.2": Case("not spoken", ONE.replace(b"HTTP/1.1", b"HTTP/1.2")),
    "HTTP/1.10": Case("a version is two digits", ONE.replace(b"HTTP/1.1", b"HTTP/1.10")),
    "HTTP/2.0": Case("not spoken", ONE.replace(b"HTTP/1.1", b"HTTP/2.0")),
    "http in lower case": Case("the name has a case (9112, 2.3)", ONE.replace(b"HTTP/1.1", b"http/1.1")),
    "RTSP/1.1": Case("another protocol", ONE.replace(b"HTTP/1.1", b"RTSP/1.1")),
    "RTSP/1.0": Case("another protocol", ONE.replace(b"HTTP/1.1", b"RTSP/1.0")),
    "RTSP/2.0": Case("another protocol", ONE.replace(b"HTTP/1.1", b"RTSP/2.0")),
    "RTSP behind empty lines": Case("another protocol", b"\r\n\r\n" + ONE.replace(b"HTTP/1.1", b"RTSP/1.1")),
    "RTSP with a URL that looks like HTTP": Case(
        "another protocol", plain(line=b"POST http://HTTP/1.1<path> RTSP/1.1")
    ),
    "RTSP behind a sound one": Case("another protocol", ONE + ONE.replace(b"HTTP/1.1", b"RTSP/1.1"), 400, 1),
    "RTSP behind a chunked one": Case(
        "another protocol", coded(CHUNKS) + ONE.replace(b"HTTP/1.1", b"RTSP/1.1"), 400, 1
    ),
    "RTSP and an offer": Case(
        "another protocol",
        plain(b"Upgrade: h2c\r\nConnection: Upgrade\r\n").replace(b"HTTP/1.1", b"RTSP/1.1"),
    ),
    "RTSP's own method": Case("another protocol", b"DESCRIBE <path> RTSP/1.0\r\n" + HOST + b"\r\n"),
    "ICE/1.0": Case("another protocol", ONE.replace(b"HTTP/1.1", b"ICE/1.0")),
    "ICE's own method": Case("another protocol", b"SOURCE <path> ICE/1.0\r\n" + HOST + b"\r\n"),
    "RTSP behind two sound ones": Case("another protocol", ONE * 2 + ONE.replace(b"HTTP/1.1", b"RTSP/1.1"), 400, 2),
    "names of other protocols in a header": Case(
        "only the request line counts", ONE + plain(b"A: POST <path> RTSP/1.1\r\nB:POST <path> RTSP/1.1\r\n"), None, 2
    ),
    "preface of HTTP/2": Case("not spoken", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": Case("not spoken here", b"\x16\x03\x01\x02\x00\x01\x00"),
    "method in lower case": Case("methods have a case", ONE.replace(b"POST", b"post")),
    "method with a tab": Case("one space (9112, 3)", ONE.replace(b"POST ", b"POST\t")),
    "space before the method": Case("9112, 3", b" " + ONE),
    "space in the target": Case("9112, 3.2", ONE.replace(b"<path> HTTP", b"<path> x HTTP", 1)),
    "NUL in the target": Case("no byte of a target", ONE.replace(b"<path> HTTP", b"<path>\0 HTTP", 1)),
    "byte above 127 in the target": Case("no byte of a target", ONE.replace(b"<path> HTTP", b"<path>\xff HTTP", 1)),
    "fragment in the target": Case("9112, 3.2", ONE.replace(b"<path> HTTP", b"<path>#x HTTP", 1)),
    "CR LF in the target": Case("a new line is a new line", ONE.replace(b"<path> HTTP", b"<path>\r\nX: y HTTP", 1)),
    "space behind the version": Case("9112, 3", ONE.replace(b"HTTP/1.1", b"HTTP/1.1 ")),
    "CONNECT": Case("no tunnels here", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
    "asterisk without OPTIONS": Case("9112, 3.2.4", b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "URL of another scheme": Case("9112, 3.2.2", plain(line=b"POST ftp://a<path> HTTP/1.1")),
    "URL with a user": Case("9110, 4.2.4", plain(line=b"POST http://u:p@a<path> HTTP/1.1")),
    "URL without a host": Case("9110, 4.2.1", plain(line=b"POST http://<path> HTTP/1.1")),
    "URL with half an address": Case("no host", plain(line=b"POST http://[::1<path> HTTP/1.1")),
    "URL": Case("its host counts (9112, 3.2.2)", plain(line=b"POST http://other:8<path> HTTP/1.1"), None, 1),
    # ---- the host
    "no host": Case(HOSTS, plain(host=b"")),
    "two hosts": Case(HOSTS, plain(b"Host: b\r\n")),
    "two equal hosts": Case(HOSTS, plain(HOST)),
    "host with a path": Case(HOSTS, plain(host=b"Host: a/b\r\n")),
    "host with a user": Case(HOSTS, plain(host=b"Host: u@a\r\n")),
    "host with a space": Case(HOSTS, plain(host=b"Host: a b\r\n")),
    "host behind a folded line": Case(FOLDED, plain(host=b"Host:\r\n a\r\n")),
    "two hosts in HTTP/1.0": Case(HOSTS, plain(b"Host: b\r\n", line=b"POST <path> HTTP/1.0")),
    "empty host": Case("9112, 3.2", plain(host=b"Host:\r\n"), None, 1),
    # ---- expectations
    "unknown expectation": Case("9110, 10.1.1", plain(b"Expect: tea\r\n"), 417),
    "expectation twice": Case("not the one that is known", plain(b"Expect: 100-continue\r\n" * 2), 417),
    "expectation with a parameter": Case("not the one that is known", plain(b"Expect: 100-continue;q=1\r\n"), 417),
    "expectation in HTTP/1.0": Case(
        "9110: ignored", plain(b"Expect: tea\r\nConnection: keep-alive\r\n", line=b"POST <path> HTTP/1.0"), None, 1
    ),
    # ---- more than one request
    "pipelined behind a sound one": Case("both are sound", ONE + ONE, None, 2),
    "a bad one behind a sound one": Case("what is sound is answered", ONE + framed(LENGTH, CODING), 400, 1),
    "a bad one behind a chunked one": Case("what is sound is answered", coded(CHUNKS) + b"\0", 400, 1),
    "offer of h2c": Case(
        "ignored (9110, 7.8)",
        plain(b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n"),
        None,
        1,
    ),
    "offer of h2c, chunked, then another": Case(
        "ignored", coded(CHUNKS, b"Upgrade: h2c\r\nConnection: Upgrade\r\n") + ONE, None, 2
    ),
    "offer of a websocket": Case("ignored", plain(b"Upgrade: websocket\r\nConnection: Upgrade\r\n") + ONE, None, 2),
    "offer and two framings": Case(TWO, framed(LENGTH, CODING, b"Upgrade: h2c\r\nConnection: Upgrade\r\n")),
    "kept HTTP/1.0": Case(
        "keep-alive was asked for", plain(b"Connection: keep-alive\r\n", line=b"POST <path> HTTP/1.0"), None, 1
    ),
    "kept HTTP/1.0 without a host": Case(
        "not needed", plain(b"Connection: keep-alive\r\n", line=b"POST <path> HTTP/1.0", host=b""), None, 1
    ),
    "length of HTTP/1.0 said twice": Case(LENGTHS, plain(LENGTH, line=b"POST <path> HTTP/1.0")),
    # ---- what is copied upstream
    "id with a space": Case("an own id takes its place", plain(b"X-Request-Id: a b\r\n"), None, 1),
    "id that is endless": Case("an own id takes its place", plain(b"X-Request-Id: " + b"a" * 5000 + b"\r\n"), None, 1),
    "id with a CR": Case(BARE, plain(b"X-Request-Id: a\rX: y\r\n")),
    "id with a LF": Case(BARE, plain(b"X-Request-Id: a\nX: y\r\n")),
    "key with a LF": Case(BARE, ONE.replace(b"Authorization: <key>", b"Authorization: <key>\nX: y")),
    "encoded line ends in the target": Case(
        "they are letters", plain(line=b"POST <path>?a=%0d%0aX:%20y HTTP/1.1"), None, 1
    ),
    "lengths named by connection": Case(
        "9110, 7.6.1: not what frames", plain(b"Connection: content-length, keep-alive\r\n"), None, 1
    ),
}
"""By name; the request that is hidden behind each is added by the test."""
