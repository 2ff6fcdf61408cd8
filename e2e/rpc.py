"""CometBFT's JSON-RPC, and protobuf as it comes out of it."""

import http.client
import json

from .checks import Failure


def fields(message):
    """The fields of a protobuf message in order: (number, int or bytes)."""

    def varint(at):
        value = shift = 0
        while True:
            byte = message[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    at = 0
    while at < len(message):
        tag, at = varint(at)
        value, at = varint(at)
        if tag & 7 == 2:
            value, at = message[at : at + value], at + value
        yield tag >> 3, value


class Rpc:
    """CometBFT's JSON-RPC of one node."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def call(self, method, **params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        for attempt in (0, 1):
            try:
                self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                self.connection.request("POST", "/", body, {"Content-Type": "application/json"})
                answer = json.loads(self.connection.getresponse().read())
                break
            except (OSError, http.client.HTTPException):  # the node was restarted since
                self.connection = None
                if attempt:
                    raise
        if "error" in answer:
            raise Failure(f"RPC {method}: {answer['error']}")
        return answer["result"]
