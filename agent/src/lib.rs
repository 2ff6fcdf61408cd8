//! tenure-agent: reconciles leases with running work, serves the gateway, attests.
