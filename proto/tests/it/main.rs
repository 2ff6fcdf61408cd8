//! Amino JSON: golden documents of the Cosmos SDK's encoder, and what holds for every message.

#![allow(clippy::expect_used, missing_docs, reason = "tests")]

mod amino;
mod golden;
mod samples;
