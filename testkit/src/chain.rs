//! The client library's questions, blocking.

use std::future::Future;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tenure_client::chain::Client;
use tokio::runtime::{Builder, Runtime};

/// A client of one node's gRPC with the runtime that it lives in.
#[derive(Debug)]
pub struct Chain {
    runtime: Runtime,
    client: Client,
}

impl Chain {
    /// A client of the node at `grpc`; connects when it is first asked.
    pub fn lazy(grpc: SocketAddr) -> Result<Self> {
        let runtime = runtime()?;
        // The channel begins a task.
        let client = runtime.block_on(async { Client::lazy(&format!("http://{grpc}")) })?;
        Ok(Self { runtime, client })
    }

    /// The answer to what is asked.
    pub fn ask<'a, T, F>(&'a self, question: impl FnOnce(&'a Client) -> F) -> Result<T>
    where
        F: Future<Output = tenure_client::Result<T>>,
    {
        Ok(self.runtime.block_on(question(&self.client))?)
    }

    /// The node's address.
    pub fn address(&self) -> &str {
        self.client.address()
    }
}

/// For asynchronous libraries in a program that is otherwise blocking.
pub fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start a runtime")
}
