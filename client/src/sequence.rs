//! The pure core of sending: which sequence to sign with, and what to do after each answer. No I/O and no clock.
//!
//! The danger is applying the same messages twice. Bytes that may have reached the node are therefore only ever sent again as they are: their
//! sequence lets the chain take them at most once. New bytes with another sequence are signed only when the old ones can no longer be
//! included: they never left, the node refused them, or the chain has used their sequence for another transaction.

/// What the node said to a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Taken into the mempool.
    Accepted,
    /// The node has these very bytes already.
    Known,
    /// `account sequence mismatch`: the account's next sequence, with what waits in the mempool, is this.
    Mismatch {
        /// The sequence it would take.
        expected: u64,
    },
    /// Refused for another reason; the sequence is not used.
    Refused,
    /// The transport failed: nobody knows whether the node has the bytes.
    Lost,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The transaction waits for a block under this sequence.
    Wait,
    /// Send the same bytes again.
    Resend,
    /// Sign anew with this sequence and send.
    Sign {
        /// The sequence.
        sequence: u64,
    },
    /// Look the transaction's hash up, then the account's committed sequence, and call [`Attempt::looked_up`].
    LookUp,
    /// Refused for good: report the node's reason.
    Refuse,
    /// Another transaction used the sequence; these bytes can never be included.
    Replaced,
    /// Too many failures; nobody knows whether the bytes are in a mempool.
    Unknown,
    /// Too many sequence mismatches: somebody else sends from the account all the time.
    Contended,
}

/// One transaction on its way.
#[derive(Debug, Clone)]
pub struct Attempt {
    sequence: u64,
    maybe_sent: bool,
    lost: u32,
    signed: u32,
}

/// How often the same bytes are sent while answers are lost.
pub const MAX_LOST: u32 = 8;
/// How often a transaction is signed anew after a sequence mismatch.
pub const MAX_SIGNED: u32 = 8;

impl Attempt {
    /// A transaction signed with this sequence and not sent yet.
    pub fn new(sequence: u64) -> Self {
        Self {
            sequence,
            maybe_sent: false,
            lost: 0,
            signed: 1,
        }
    }

    /// The sequence it is signed with.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What to do after a broadcast's answer.
    pub fn replied(&mut self, reply: &Reply) -> Next {
        match reply {
            Reply::Accepted => Next::Wait,
            Reply::Known if self.maybe_sent => Next::Wait,
            // Signatures are deterministic: another process of the account sent the same messages with this sequence. Those are its own.
            Reply::Known => self.sign(self.sequence.saturating_add(1)),
            // A refusal of bytes that an earlier, lost broadcast may have delivered says nothing about that delivery: it may be included
            // already, and what it did may be the reason of the refusal.
            Reply::Refused | Reply::Mismatch { .. } if self.maybe_sent => Next::LookUp,
            Reply::Refused => Next::Refuse,
            Reply::Mismatch { expected } => self.sign(*expected),
            Reply::Lost => {
                self.maybe_sent = true;
                self.lost += 1;
                if self.lost < MAX_LOST {
                    Next::Resend
                } else {
                    Next::Unknown
                }
            }
        }
    }

    /// What to do after a look-up: whether the hash is in a block, and the account's next sequence in the last block, read *before* the hash.
    pub fn looked_up(&mut self, found: bool, committed: u64) -> Next {
        if found {
            return Next::Wait;
        }
        if committed > self.sequence {
            // The sequence is used and not by these bytes.
            return self.sign(committed);
        }
        self.lost += 1;
        if self.lost < MAX_LOST {
            Next::Resend
        } else {
            Next::Unknown
        }
    }

    fn sign(&mut self, sequence: u64) -> Next {
        if self.signed >= MAX_SIGNED {
            return Next::Contended;
        }
        self.signed += 1;
        self.sequence = sequence;
        self.maybe_sent = false;
        Next::Sign { sequence }
    }
}

/// What to do about a transaction that was accepted and is in no block yet, after the account's committed sequence was read and then the hash
/// was looked up and not found.
pub fn overdue(sequence: u64, committed: u64) -> Next {
    if committed > sequence {
        Next::Replaced
    } else {
        // A node that restarted has an empty mempool; one that still has the bytes says so.
        Next::Resend
    }
}

/// The account's next sequence as this process knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Local(Option<u64>);

impl Local {
    /// The sequence to sign with, if it is known without asking.
    pub fn next(self) -> Option<u64> {
        self.0
    }

    /// The chain said so.
    pub fn learn(&mut self, sequence: u64) {
        self.0 = Some(sequence);
    }

    /// A transaction with this sequence waits for a block.
    pub fn used(&mut self, sequence: u64) {
        self.0 = Some(sequence + 1);
    }

    /// Nothing is certain any more: ask before the next transaction.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

/// The numbers in `account sequence mismatch, expected E, got G`, as every Cosmos chain words it.
pub fn parse_mismatch(text: &str) -> Option<(u64, u64)> {
    let rest = text.split_once("account sequence mismatch, expected ")?.1;
    let (expected, rest) = leading_number(rest)?;
    let (got, _) = leading_number(rest.strip_prefix(", got ")?)?;
    Some((expected, got))
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mismatches_are_read_wherever_they_stand_in_the_text() {
        let text = "rpc: account sequence mismatch, expected 12, got 7: incorrect account sequence";
        assert_eq!(parse_mismatch(text), Some((12, 7)));
        assert_eq!(
            parse_mismatch("account sequence mismatch, expected 0, got 1"),
            Some((0, 1))
        );
        for other in [
            "",
            "account sequence mismatch",
            "account sequence mismatch, expected x, got 1",
            "account sequence mismatch, expected 1, got",
            "account sequence mismatch, expected 99999999999999999999, got 1",
            "insufficient funds",
        ] {
            assert_eq!(parse_mismatch(other), None, "{other:?}");
        }
    }

    #[test]
    fn fresh_bytes_are_signed_anew_and_delivered_ones_are_not() {
        let mut fresh = Attempt::new(5);
        assert_eq!(
            fresh.replied(&Reply::Mismatch { expected: 7 }),
            Next::Sign { sequence: 7 }
        );
        let mut delivered = Attempt::new(5);
        assert_eq!(delivered.replied(&Reply::Lost), Next::Resend);
        assert_eq!(delivered.replied(&Reply::Mismatch { expected: 6 }), Next::LookUp);
        assert_eq!(
            delivered.looked_up(false, 5),
            Next::Resend,
            "it may wait in the mempool"
        );
        assert_eq!(delivered.looked_up(true, 6), Next::Wait);
        let mut replaced = Attempt::new(5);
        assert_eq!(replaced.replied(&Reply::Lost), Next::Resend);
        assert_eq!(replaced.replied(&Reply::Refused), Next::LookUp);
        assert_eq!(replaced.looked_up(false, 6), Next::Sign { sequence: 6 });
        assert_eq!(replaced.replied(&Reply::Refused), Next::Refuse);
    }

    #[test]
    fn the_same_bytes_of_another_process_are_not_ours() {
        let mut twin = Attempt::new(5);
        assert_eq!(twin.replied(&Reply::Known), Next::Sign { sequence: 6 });
        assert_eq!(twin.replied(&Reply::Accepted), Next::Wait);
        let mut ours = Attempt::new(5);
        assert_eq!(ours.replied(&Reply::Lost), Next::Resend);
        assert_eq!(ours.replied(&Reply::Known), Next::Wait);
    }

    /// A chain with one account: a mempool, blocks, and a network that may lose a request or an answer.
    #[derive(Default)]
    struct Model {
        committed: u64,
        mempool: Vec<(u64, u32)>,
        blocks: Vec<u32>,
        /// Whether it knows bytes again that wait in its mempool; else it only sees a wrong sequence.
        remembers: bool,
    }

    impl Model {
        fn expected(&self) -> u64 {
            self.committed + self.mempool.len() as u64
        }

        fn broadcast(&mut self, sequence: u64, id: u32) -> Reply {
            if self.remembers && self.mempool.contains(&(sequence, id)) {
                return Reply::Known;
            }
            if sequence != self.expected() {
                return Reply::Mismatch {
                    expected: self.expected(),
                };
            }
            self.mempool.push((sequence, id));
            Reply::Accepted
        }

        fn block(&mut self) {
            for (sequence, id) in std::mem::take(&mut self.mempool) {
                if sequence == self.committed {
                    self.committed += 1;
                    self.blocks.push(id);
                }
            }
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Weather {
        Fine,
        RequestLost,
        AnswerLost,
        Block,
        Foreign,
        Restart,
    }

    fn weather() -> impl Strategy<Value = Weather> {
        prop_oneof![
            4 => Just(Weather::Fine),
            2 => Just(Weather::RequestLost),
            2 => Just(Weather::AnswerLost),
            3 => Just(Weather::Block),
            2 => Just(Weather::Foreign),
            1 => Just(Weather::Restart),
        ]
    }

    const FOREIGN: u32 = 0;

    proptest! {
        /// Whatever is lost, each set of messages takes effect at most once, and whatever ends in `Wait` takes effect once or was dropped by
        /// a restart. A set of messages is identified by the bytes' generation: bytes signed anew carry the same messages.
        #[test]
        fn nothing_is_applied_twice(remembers: bool, steps in proptest::collection::vec(weather(), 1..200)) {
            let mut chain = Model { remembers, ..Model::default() };
            let mut local = Local::default();
            let mut sky = steps.into_iter();
            // Ids of bytes: message set * 1000 + generation.
            for set in 1..=4_u32 {
                let sequence = local.next().unwrap_or(chain.committed);
                let mut attempt = Attempt::new(sequence);
                let mut generation = 0;
                loop {
                    let id = set * 1000 + generation;
                    let mut reply = None;
                    for event in sky.by_ref() {
                        match event {
                            Weather::Fine => reply = Some(chain.broadcast(attempt.sequence(), id)),
                            Weather::RequestLost => reply = Some(Reply::Lost),
                            Weather::AnswerLost => {
                                chain.broadcast(attempt.sequence(), id);
                                reply = Some(Reply::Lost);
                            }
                            Weather::Block => chain.block(),
                            Weather::Foreign => { let next = chain.expected(); chain.broadcast(next, FOREIGN); }
                            Weather::Restart => chain.mempool.clear(),
                        }
                        if reply.is_some() {
                            break;
                        }
                    }
                    let reply = reply.unwrap_or_else(|| chain.broadcast(attempt.sequence(), id));
                    let mut next = attempt.replied(&reply);
                    if next == Next::LookUp {
                        next = attempt.looked_up(chain.blocks.contains(&id), chain.committed);
                    }
                    match next {
                        Next::Wait => { local.used(attempt.sequence()); break; }
                        Next::Resend => {}
                        Next::Sign { .. } => generation += 1,
                        Next::Unknown | Next::Contended => { local.forget(); break; }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                chain.block();
            }
            for set in 1..=4_u32 {
                let applied = chain.blocks.iter().filter(|id| **id / 1000 == set).count();
                prop_assert!(applied <= 1, "set {set} applied {applied} times: {:?}", chain.blocks);
            }
        }
    }
}
