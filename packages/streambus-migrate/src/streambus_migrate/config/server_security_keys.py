"""Broker keys of TLS, SASL, authorization, delegation tokens and quotas: none has a counterpart.

Source: BrokerSecurityConfigs, DelegationTokenManagerConfigs, PasswordEncoderConfigs, QuotaConfig
of Kafka 3.9.
"""

from __future__ import annotations

from streambus_migrate.config.rules import Rows, not_needed, not_supported
from streambus_migrate.config.security_keys import NO_SASL, NO_TLS, shared_security

NO_AUTHORIZER = "this version has no access rules; whoever reaches the broker may do everything"
NO_QUOTAS = "this version has no quotas; the limits per connection and address hold for everyone"


def security_rows() -> Rows:
    """Rows about who may connect, do what, and how much."""
    yield from shared_security()
    yield from not_supported(
        NO_TLS, "ssl.principal.mapping.rules ssl.allow.dn.changes ssl.allow.san.changes"
    )
    yield from not_supported(NO_TLS, "ssl.client.auth", harmless=["none"])
    yield from not_supported(
        NO_SASL,
        """sasl.enabled.mechanisms sasl.server.callback.handler.class sasl.server.max.receive.size
        sasl.mechanism.inter.broker.protocol sasl.mechanism.controller.protocol
        sasl.kerberos.principal.to.local.rules connections.max.reauth.ms
        connection.failed.authentication.delay.ms principal.builder.class
        sasl.mechanism""",
        harmless=[""],
    )
    yield from not_supported(
        NO_AUTHORIZER,
        "authorizer.class.name super.users allow.everyone.if.no.acl.found",
        harmless=[""],
    )
    yield from not_supported(
        NO_SASL,
        """delegation.token.master.key delegation.token.secret.key
        delegation.token.max.lifetime.ms delegation.token.expiry.time.ms
        delegation.token.expiry.check.interval.ms""",
    )
    yield from not_needed(
        "no configuration is stored that holds a password",
        """password.encoder.secret password.encoder.old.secret
        password.encoder.keyfactory.algorithm password.encoder.cipher.algorithm
        password.encoder.key.length password.encoder.iterations""",
    )
    yield from not_supported(
        NO_QUOTAS,
        """quota.window.num quota.window.size.seconds controller.quota.window.num
        controller.quota.window.size.seconds replication.quota.window.num
        replication.quota.window.size.seconds alter.log.dirs.replication.quota.window.num
        alter.log.dirs.replication.quota.window.size.seconds client.quota.callback.class
        quota.producer.default quota.consumer.default
        follower.replication.throttled.rate replica.alter.log.dirs.io.max.bytes.per.second
        producer_byte_rate consumer_byte_rate request_percentage controller_mutation_rate
        connection_creation_rate""",
    )
    yield from not_needed(
        "the one listener is plain; its name needs no protocol",
        "listener.security.protocol.map security.inter.broker.protocol inter.broker.listener.name",
    )
