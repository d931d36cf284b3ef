"""TLS and SASL keys, which brokers and clients of Kafka share; and which values are secret."""

from __future__ import annotations

import re

from streambus_migrate.config.rules import Rows, not_supported

NO_TLS = "this version has no TLS; put a TLS proxy in front, or stay on a trusted network"
NO_SASL = "this version has no authentication; stay on a trusted network"

_SECRET_KEY = re.compile(
    r"password|secret|jaas|credential|token|passphrase|private|user\.?info|api[._-]?key"
    r"|keystore\.key|certificate|\.url$|access[._-]?key",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"://[^/\s]*@|-----BEGIN|password\s*=", re.IGNORECASE)

SSL_KEYS = """
    ssl.protocol ssl.provider ssl.cipher.suites ssl.enabled.protocols ssl.keystore.type
    ssl.keystore.key ssl.keystore.certificate.chain ssl.keystore.location ssl.keystore.password
    ssl.key.password ssl.truststore.type ssl.truststore.certificates ssl.truststore.location
    ssl.truststore.password ssl.keymanager.algorithm ssl.trustmanager.algorithm
    ssl.endpoint.identification.algorithm ssl.secure.random.implementation ssl.engine.factory.class
"""
SASL_KEYS = """
    sasl.jaas.config sasl.client.callback.handler.class sasl.login.callback.handler.class
    sasl.login.class sasl.kerberos.service.name sasl.kerberos.kinit.cmd
    sasl.kerberos.ticket.renew.window.factor sasl.kerberos.ticket.renew.jitter
    sasl.kerberos.min.time.before.relogin sasl.login.refresh.window.factor
    sasl.login.refresh.window.jitter sasl.login.refresh.min.period.seconds
    sasl.login.refresh.buffer.seconds sasl.login.connect.timeout.ms sasl.login.read.timeout.ms
    sasl.login.retry.backoff.max.ms sasl.login.retry.backoff.ms
    sasl.oauthbearer.scope.claim.name sasl.oauthbearer.sub.claim.name
    sasl.oauthbearer.token.endpoint.url sasl.oauthbearer.jwks.endpoint.url
    sasl.oauthbearer.jwks.endpoint.refresh.ms sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms
    sasl.oauthbearer.jwks.endpoint.retry.backoff.ms sasl.oauthbearer.clock.skew.seconds
    sasl.oauthbearer.expected.audience sasl.oauthbearer.expected.issuer
    sasl.oauthbearer.header.urlencode
"""


def is_secret(key: str, value: str) -> bool:
    """Whether a value must not be shown, judged by its key and its form."""
    return bool(_SECRET_KEY.search(key) or _SECRET_VALUE.search(value))


def shared_security() -> Rows:
    """Rows that hold for brokers and clients alike."""
    yield from not_supported(NO_TLS, SSL_KEYS)
    yield from not_supported(NO_SASL, SASL_KEYS)
    yield from not_supported("Java security providers have no meaning here", "security.providers")


def client_security() -> Rows:
    """Rows that only clients have."""
    yield from shared_security()
    yield from not_supported(NO_TLS, "security.protocol", harmless=["plaintext"])
    yield from not_supported(NO_SASL, "sasl.mechanism")
