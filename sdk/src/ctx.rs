//! The context in which modules execute.

use tenure_types::Result;

use crate::{gas, GasMeter, State};

/// What is known of the block that is being executed (or, in queries, of the last committed one).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Chain id.
    pub chain_id: String,
    /// Height.
    pub height: u64,
    /// Live time, milliseconds: the only time that rules of the chain may use. See [`crate::clock`].
    pub now_ms: u64,
    /// Header time, milliseconds since 1970: for clients, never for rules.
    pub header_ms: u64,
}

/// Why code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a block.
    Deliver,
    /// In CheckTx: on a scratch state, to decide whether a transaction may wait.
    Check,
    /// To estimate gas.
    Simulate,
    /// To answer a query.
    Query,
}

/// Something that happened, for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Kind: a Cosmos name (`transfer`) or one of ours (`tenure.market.v1.EventLeaseCreated`).
    pub kind: &'static str,
    /// Names and values.
    pub attributes: Vec<(&'static str, String)>,
}

/// State, gas and events of what is being executed.
pub struct Ctx {
    /// Records and derived entries.
    pub state: State,
    /// The block.
    pub block: Block,
    /// Gas.
    pub gas: GasMeter,
    /// Events so far.
    pub events: Vec<Event>,
    /// Why this runs.
    pub mode: Mode,
}

impl Ctx {
    /// A context with unlimited gas.
    pub fn new(state: State, block: Block, mode: Mode) -> Self {
        Self {
            state,
            block,
            gas: GasMeter::unlimited(),
            events: Vec::new(),
            mode,
        }
    }

    /// Live time, milliseconds.
    pub fn now(&self) -> u64 {
        self.block.now_ms
    }

    /// Height.
    pub fn height(&self) -> u64 {
        self.block.height
    }

    /// The record at a key, charged.
    pub fn get(&mut self, store: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.peek(store, key)?.map(<[u8]>::to_vec))
    }

    /// The record at a key, charged, without a copy of it.
    pub fn peek(&mut self, store: &'static str, key: &[u8]) -> Result<Option<&[u8]>> {
        self.gas.charge(gas::READ, "read")?;
        let value = self.state.get(store, key)?;
        self.gas
            .charge_bytes(0, gas::READ_BYTE, value.map_or(0, <[u8]>::len), "read")?;
        Ok(value)
    }

    /// Writes a record, charged.
    pub fn set(&mut self, store: &'static str, key: &[u8], value: Vec<u8>) -> Result<()> {
        self.gas.charge_bytes(
            gas::WRITE,
            gas::WRITE_BYTE,
            key.len().saturating_add(value.len()),
            "write",
        )?;
        self.state.set(store, key, Some(value))
    }

    /// Deletes a record, charged.
    pub fn delete(&mut self, store: &'static str, key: &[u8]) -> Result<()> {
        self.gas.charge(gas::WRITE, "delete")?;
        self.state.set(store, key, None)
    }

    /// Records with `from <= key < to`, at most `limit`, charged.
    pub fn range(
        &mut self,
        store: &'static str,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let entries = self.state.range(store, from, to, reverse, limit)?;
        self.charge_range(&entries)?;
        Ok(entries)
    }

    /// Derived entries with `from <= key < to`, at most `limit`, charged.
    pub fn derived_range(
        &mut self,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let entries = self.state.derived_range(from, to, reverse, limit)?;
        self.charge_range(&entries)?;
        Ok(entries)
    }

    /// Whether nobody will see events: neither the mempool nor a query tells them. Who would go to some length to make one asks first.
    pub fn is_silent(&self) -> bool {
        matches!(self.mode, Mode::Check | Mode::Query)
    }

    /// Says that something happened.
    pub fn emit<V: Into<String>>(
        &mut self,
        kind: &'static str,
        attributes: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        if self.is_silent() {
            return;
        }
        let given = attributes.into_iter().map(|(name, value)| (name, value.into()));
        // Room for one more: the index of the message that said it.
        let mut attributes = Vec::with_capacity(given.size_hint().0.saturating_add(1));
        attributes.extend(given);
        self.events.push(Event { kind, attributes });
    }

    /// Runs `f` so that it either succeeds whole or leaves nothing behind, neither records nor events. Gas stays used.
    pub fn atomically<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let events = self.events.len();
        self.state.checkpoint();
        match f(self) {
            Ok(value) => {
                self.state.keep()?;
                Ok(value)
            }
            Err(error) => {
                self.state.revert()?;
                self.events.truncate(events);
                Err(error)
            }
        }
    }

    fn charge_range(&mut self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.gas.charge(gas::READ, "range")?;
        for (key, value) in entries {
            let len = key.len().saturating_add(value.len());
            self.gas.charge_bytes(gas::RANGE_ENTRY, gas::READ_BYTE, len, "range")?;
        }
        Ok(())
    }
}
