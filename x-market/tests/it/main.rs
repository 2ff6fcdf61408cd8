//! The market with the real modules below it, on a chain in memory.

mod bounds;
mod genesis;
mod histories;
mod lifecycle;
mod messages;
mod money;
mod queries;
mod reviews;
mod world;
