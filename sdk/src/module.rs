//! What a module is, and how messages and queries reach it.

use prost::{Message, Name};
use serde_json::Value;
use tenure_proto::Any;
use tenure_types::{sdk, Address, Error, Result};

use crate::{clock, derived, gas, unknown, Ctx, DeriveFn, Timer, TimerClass};

/// One kind of message. Implemented once per message by an empty type in the message's own file.
///
/// `validate` sees the message alone: what it refuses is refused for ever. `execute` sees state, and must check everything that depends on it;
/// if it fails, all its writes are taken back. The signatures of all `signers` have been verified before either runs.
pub trait Handler: 'static {
    /// The message.
    type Msg: Message + Default + Name;
    /// What a successful execution answers.
    type Response: Message + Name;

    /// Bech32 addresses that must sign, in order.
    fn signers(msg: &Self::Msg) -> Vec<&str>;
    /// Checks that need no state.
    fn validate(msg: &Self::Msg) -> Result<()>;
    /// Checks that need state, then the effect.
    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response>;
}

/// A decoded message of any kind.
pub trait ErasedMsg: Send + Sync {
    /// Who must sign, in order; some perhaps more than once. Error: an address does not parse.
    fn signers(&self) -> Result<Vec<Address>>;
    /// Refuses unknown fields in the bytes that it was decoded from. Error: see [`unknown::refuse_in`].
    fn refuse_unknown_fields(&self, bytes: &[u8]) -> Result<()>;
    /// See [`Handler::validate`].
    fn validate(&self) -> Result<()>;
    /// See [`Handler::execute`]; charges the message's flat gas first.
    fn execute(&self, ctx: &mut Ctx) -> Result<Any>;
}

struct Decoded<H: Handler>(H::Msg);

impl<H: Handler> ErasedMsg for Decoded<H>
where
    H::Msg: Send + Sync,
{
    fn signers(&self) -> Result<Vec<Address>> {
        let parse = |text: &str| text.parse().map_err(|e| Error::from(e).context("signer"));
        H::signers(&self.0).into_iter().map(parse).collect()
    }

    fn refuse_unknown_fields(&self, bytes: &[u8]) -> Result<()> {
        unknown::refuse_in(&self.0, bytes)
    }

    fn validate(&self) -> Result<()> {
        H::validate(&self.0)
    }

    fn execute(&self, ctx: &mut Ctx) -> Result<Any> {
        ctx.gas.charge(gas::MESSAGE, "message")?;
        H::execute(ctx, &self.0).map(|response| tenure_proto::any(&response))
    }
}

/// How one kind of message is decoded.
pub struct MsgRoute {
    /// `/package.Name`.
    pub type_url: String,
    /// Decodes the value of the `Any`. Error (tx decode): it is not such a message.
    pub decode: fn(&[u8]) -> Result<Box<dyn ErasedMsg>>,
}

impl MsgRoute {
    /// The route of a handler's message.
    pub fn of<H: Handler>() -> Self
    where
        H::Msg: Send + Sync,
    {
        Self {
            type_url: tenure_proto::type_url::<H::Msg>(),
            decode: |bytes| match H::Msg::decode(bytes) {
                Ok(msg) => Ok(Box::new(Decoded::<H>(msg))),
                Err(e) => Err(Error::sdk(sdk::TX_DECODE, format!("{}: {e}", H::Msg::full_name()))),
            },
        }
    }
}

/// How one query is answered.
pub struct QueryRoute {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Encoded request to encoded response, on a committed state.
    pub answer: fn(&mut Ctx, &[u8]) -> Result<Vec<u8>>,
}

/// Decodes a query's request. Error (invalid request): it does not decode.
pub fn request<M: Message + Default + Name>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|e| Error::sdk(sdk::INVALID_REQUEST, format!("{}: {e}", M::full_name())))
}

/// A part of the chain's state with its rules. `tenure_app` lists all modules in order, in one function.
pub trait Module: Send + Sync {
    /// Name of its store, its genesis section and its codespace.
    fn name(&self) -> &'static str;

    /// Its messages.
    fn messages(&self) -> Vec<MsgRoute> {
        Vec::new()
    }

    /// Its queries.
    fn queries(&self) -> Vec<QueryRoute> {
        Vec::new()
    }

    /// What follows from its records.
    fn derive(&self) -> DeriveFn {
        derived::nothing
    }

    /// Writes its part of the genesis state. It must write at least one record: an empty store has no proofs. Error: the section is
    /// malformed or breaks a rule; names the field.
    fn init_genesis(&self, ctx: &mut Ctx, section: &Value) -> Result<()>;

    /// Its part of an exported state, such that `init_genesis` of it gives the same records.
    fn export_genesis(&self, ctx: &mut Ctx) -> Result<Value>;

    /// Handles one of its timers. The effect is dated at `timer.due.ms`, whatever the time is now. Afterwards the record that implied the
    /// timer must not imply it any more.
    fn due(&self, _ctx: &mut Ctx, timer: &Timer) -> Result<()> {
        Err(Error::internal(format!(
            "module {} has no timers, got {timer:?}",
            self.name()
        )))
    }

    /// Runs after the last transaction of every block.
    fn end_block(&self, _ctx: &mut Ctx) -> Result<()> {
        Ok(())
    }

    /// What must always hold. Error: says what does not. Run after every block in tests, and on demand on a node.
    fn invariants(&self, _ctx: &mut Ctx) -> Result<()> {
        Ok(())
    }
}

/// Most timers that are read at once.
const MOST_AT_ONCE: usize = 256;

/// Handles what is due, class by class, at most `due_per_class` timers each; what is left over is handled in the next block with the same
/// effect, because effects are dated at `due`. A timer whose instant has passed but whose height has not is left alone and does not count.
/// Error (internal): a timer names no module, or its record still implies it after it was handled.
pub fn handle_due(ctx: &mut Ctx, modules: &[&dyn Module]) -> Result<()> {
    let quota = clock::params(ctx)?.due_per_class;
    for class in TimerClass::ALL {
        let (mut from, to) = Timer::due_range(class, ctx.now());
        let (mut handled, mut portion) = (0, 1);
        while handled < quota {
            let next = ctx.derived_range(&from, Some(&to), false, portion)?;
            if next.is_empty() {
                break;
            }
            let mut found = None;
            for (key, value) in next {
                let timer = Timer::decode(&key, &value)?;
                // The handler may add timers that are due and sort before this one; they wait for the next block, as after any carry-over.
                from = [key.as_slice(), &[0]].concat();
                if timer.due.height <= ctx.height() {
                    found = Some((key, timer));
                    break;
                }
            }
            let Some((key, timer)) = found else {
                // Those that wait for their height may be many, and are read in growing portions.
                portion = portion.saturating_mul(2).min(MOST_AT_ONCE);
                continue;
            };
            portion = 1;
            let module = modules
                .iter()
                .find(|m| m.name() == timer.module)
                .ok_or_else(|| Error::internal(format!("no module handles {timer:?}")))?;
            module.due(ctx, &timer)?;
            if !ctx.derived_range(&key, Some(&from), false, 1)?.is_empty() {
                return Err(Error::internal(format!(
                    "{timer:?} is still there after it was handled"
                )));
            }
            handled = handled.saturating_add(1);
        }
    }
    Ok(())
}
