//! tenured: the node's process, configuration, gRPC and operator commands.
