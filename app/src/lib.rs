//! The application: wires modules, checks and executes transactions, speaks ABCI 2.0.
