//! The client library and the tenure command.
