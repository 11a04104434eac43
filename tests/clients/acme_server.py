"""An ACME server (RFC 8555) for tests: strict about nonces, signatures and URLs, and it really looks for proofs, at ports of this
machine that a test names, whatever the name."""

import base64
import datetime
import hashlib
import http.client
import http.server
import json
import secrets
import socket
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID, ObjectIdentifier

ACME_IDENTIFIER = ObjectIdentifier("1.3.6.1.5.5.7.1.31")


def plain(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text):
    return int.from_bytes(decoded(text), "big")


class Refused(Exception):
    def __init__(self, kind, detail, status=400):
        super().__init__(detail)
        self.problem = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, "status": status}


def thumbprint(jwk):
    members = json.dumps({name: jwk[name] for name in ["crv", "kty", "x", "y"]}, separators=(",", ":"), sort_keys=True)
    return plain(hashlib.sha256(members.encode()).digest())


class Authority:
    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.certificate = (
            x509.CertificateBuilder().subject_name(self.name).issuer_name(self.name).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=3))
            .add_extension(x509.BasicConstraints(True, None), critical=True).add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256()))
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, key, names, before, after):
        """`names`: what a subject alternative name has."""
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        made = (
            x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.name).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(before).not_valid_after(after)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(issuer, critical=False).sign(self.key, hashes.SHA256()))
        return made.public_bytes(serialization.Encoding.PEM)


class AcmeServer:
    """`http_port` and `tls_port` are where it looks for proofs; `bound_to` is an account, id and key, that it asks for."""

    def __init__(self, folder, http_port=None, tls_port=None, bound_to=None):
        self.http_port, self.tls_port, self.bound_to = http_port, tls_port, bound_to
        self.lasts = datetime.timedelta(days=60)
        self.refuses = None
        self.lock = threading.RLock()
        self.nonces, self.accounts, self.orders, self.authorizations, self.certificates = set(), {}, {}, {}, {}
        self.issued, self.seen = [], []
        self.spoils_a_nonce = True
        self.authority = Authority("ACME test authority")
        self.ca = folder / "acme-ca.pem"
        self.ca.write_bytes(self.authority.pem)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        own = self.authority.sign(key.public_key(), [x509.DNSName("localhost")], now - datetime.timedelta(hours=1),
                                  now + datetime.timedelta(days=2))
        pair = folder / "acme-server.pem"
        pair.write_bytes(own + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                 serialization.NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.base = f"https://localhost:{self.server.server_address[1]}"
        self.directory = self.base + "/directory"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def handler(outer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", kind="application/json", **headers):
                with outer.lock:
                    nonce = plain(secrets.token_bytes(16))
                    outer.nonces.add(nonce)
                self.send_response(status)
                for name, value in {"Replay-Nonce": nonce, "Content-Type": kind, "Content-Length": str(len(body)),
                                    **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_HEAD(self):
                self.answer(200)

            def do_GET(self):
                urls = {name: f"{outer.base}/{name}" for name in ["newNonce", "newAccount", "newOrder", "revokeCert", "keyChange"]}
                meta = {"externalAccountRequired": outer.bound_to is not None}
                self.answer(200, json.dumps({**urls, "meta": meta}).encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    with outer.lock:
                        status, told, headers = outer.take(self.path, json.loads(body))
                    kind = "application/pem-certificate-chain" if isinstance(told, bytes) else "application/json"
                    told = told if isinstance(told, bytes) else json.dumps(told).encode()
                    self.answer(status, told, kind, **headers)
                except Refused as refused:
                    self.answer(refused.problem["status"], json.dumps(refused.problem).encode(), "application/problem+json")

        return Handler

    def take(self, path, message):
        """A signed request: who asks, and what for."""
        head = json.loads(decoded(message["protected"]))
        if head["url"] != self.base + path:
            raise Refused("unauthorized", f"the URL {head['url']} was signed", 401)
        if head["nonce"] not in self.nonces or self.spoils_a_nonce:
            self.spoils_a_nonce = False
            raise Refused("badNonce", "an unknown nonce")
        self.nonces.remove(head["nonce"])
        if "jwk" in head:
            jwk, account = head["jwk"], None
        else:
            account = head["kid"]
            if account not in self.accounts:
                raise Refused("accountDoesNotExist", "there is no such account")
            jwk = self.accounts[account]["jwk"]
        signature = decoded(message["signature"])
        pair = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        public = ec.EllipticCurvePublicNumbers(number(jwk["x"]), number(jwk["y"]), ec.SECP256R1()).public_key()
        public.verify(pair, f"{message['protected']}.{message['payload']}".encode(), ec.ECDSA(hashes.SHA256()))
        payload = json.loads(decoded(message["payload"])) if message["payload"] else None
        kind, _, of = path[1:].partition("/")
        if kind != "newAccount" and account is None:
            raise Refused("malformed", "it must be signed by an account")
        return getattr(self, kind)(account or jwk, payload, of)

    def newAccount(self, jwk, payload, _):
        assert payload["termsOfServiceAgreed"] is True
        if self.bound_to:
            bound = payload.get("externalAccountBinding")
            if not bound:
                raise Refused("externalAccountRequired", "an account of ours is needed", 403)
            head = json.loads(decoded(bound["protected"]))
            assert (head["alg"], head["kid"], head["url"]) == ("HS256", self.bound_to[0], self.base + "/newAccount")
            check = hmac.HMAC(self.bound_to[1], hashes.SHA256())
            check.update(f"{bound['protected']}.{bound['payload']}".encode())
            check.verify(decoded(bound["signature"]))
            assert json.loads(decoded(bound["payload"]))["x"] == jwk["x"]
        url = f"{self.base}/account/{len(self.accounts)}"
        self.accounts[url] = {"jwk": jwk, "contact": payload.get("contact", [])}
        return 201, {"status": "valid"}, {"Location": url}

    def newOrder(self, account, payload, _):
        if self.refuses:
            raise Refused("rateLimited", self.refuses, 429)
        number = str(len(self.orders))
        names = [each["value"] for each in payload["identifiers"]]
        urls = []
        for n, name in enumerate(names):
            offered = [kind for kind, port in [("http-01", self.http_port), ("tls-alpn-01", self.tls_port)] if port]
            challenges = [{"type": kind, "url": f"{self.base}/challenge/{number}-{n}-{kind}", "status": "pending",
                           "token": plain(secrets.token_bytes(16))} for kind in offered]
            self.authorizations[f"{number}-{n}"] = {
                "identifier": {"type": "dns", "value": name}, "status": "pending", "challenges": challenges}
            urls.append(f"{self.base}/authorization/{number}-{n}")
        self.orders[number] = {"status": "pending", "identifiers": payload["identifiers"], "authorizations": urls,
                               "finalize": f"{self.base}/finalize/{number}"}
        return 201, self.orders[number], {"Location": f"{self.base}/order/{number}"}

    def order(self, _account, _payload, of):
        return 200, self.orders[of], {}

    def authorization(self, _account, _payload, of):
        return 200, self.authorizations[of], {}

    def challenge(self, account, _payload, of):
        order, n, kind = of.split("-", 2)
        found = self.authorizations[f"{order}-{n}"]
        challenge = next(each for each in found["challenges"] if each["type"] == kind)
        wanted = f"{challenge['token']}.{thumbprint(self.accounts[account]['jwk'])}"
        name = found["identifier"]["value"]
        try:
            look = self.look_by_http if kind == "http-01" else self.look_by_tls
            look(name, challenge["token"], wanted)
            challenge["status"] = found["status"] = "valid"
        except (OSError, AssertionError, http.client.HTTPException) as why:
            challenge["status"] = found["status"] = "invalid"
            challenge["error"] = Refused("unauthorized", f"{name}: {why}", 403).problem
        self.seen.append((name, kind, challenge["status"]))
        states = {self.authorizations[url.rsplit("/", 1)[1]]["status"] for url in self.orders[order]["authorizations"]}
        self.orders[order]["status"] = "invalid" if "invalid" in states else "ready" if states == {"valid"} else "pending"
        shown = {name: value for name, value in challenge.items() if name != "error"}
        return 200, shown, {}

    def look_by_http(self, name, token, wanted):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        connection.request("GET", f"/.well-known/acme-challenge/{token}", headers={"Host": name})
        answer = connection.getresponse()
        assert answer.status == 200, f"the answer was {answer.status}"
        assert answer.read().decode().strip() == wanted, "another proof is there"

    def look_by_tls(self, name, _token, wanted):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["acme-tls/1"])
        with socket.create_connection(("127.0.0.1", self.tls_port), timeout=10) as stream:
            with context.wrap_socket(stream, server_hostname=name) as tls:
                assert tls.selected_alpn_protocol() == "acme-tls/1"
                found = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.DNSName(name)]
        proof = found.extensions.get_extension_for_oid(ACME_IDENTIFIER)
        digest = hashlib.sha256(wanted.encode()).digest()
        assert proof.critical and proof.value.value == b"\x04\x20" + digest, "another proof is there"

    def finalize(self, _account, payload, of):
        order = self.orders[of]
        if order["status"] != "ready":
            raise Refused("orderNotReady", f"the order is {order['status']}", 403)
        request = x509.load_der_x509_csr(decoded(payload["csr"]))
        assert request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        wanted = sorted(each["value"] for each in order["identifiers"])
        if sorted(each.value for each in names) != wanted:
            raise Refused("badCSR", "other names than the order's")
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        made = self.authority.sign(request.public_key(), list(names), now, now + self.lasts)
        self.issued.append(x509.load_pem_x509_certificate(made).serial_number)
        self.certificates[of] = made
        order["status"], order["certificate"] = "valid", f"{self.base}/certificate/{of}"
        return 200, order, {}

    def certificate(self, _account, _payload, of):
        return 200, self.certificates[of], {}
