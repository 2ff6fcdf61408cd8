//! Mutated transactions: no panic, and whatever is accepted means exactly what was signed.

use prost::Message;
use rand::Rng;
use tendermint_proto::v0_38::abci::CheckTxType;
use tenure_proto::cosmos::tx::v1beta1::TxRaw;

use crate::{
    chain::Chain,
    world::{draft, send, World},
};

#[test]
fn mutated_transactions_are_refused_or_are_the_one_that_was_signed() {
    let mut world = World::new(7);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    let (alice, bob) = (world.people[0].clone(), world.people[1].clone());
    let mut draft = draft(
        &chain,
        &alice,
        vec![send(&alice, &bob.address, 1), send(&alice, &bob.address, 2)],
    );
    draft.body.memo = "hello".into();
    let good = draft.bytes(&[&alice]);
    let raw = TxRaw::decode(good.as_slice()).unwrap();
    let rng = &mut world.rng;
    let (mut refused, mut equal) = (0, 0);
    for _ in 0..6_000 {
        // Mutate the whole, or one part so that the frame stays valid and the mutation reaches deeper.
        let part = rng.gen_range(0..4);
        let mut target = match part {
            0 => good.clone(),
            1 => raw.body_bytes.clone(),
            2 => raw.auth_info_bytes.clone(),
            _ => raw.signatures[0].clone(),
        };
        for _ in 0..rng.gen_range(1..4) {
            let at = rng.gen_range(0..target.len());
            match rng.gen_range(0..5) {
                0 => target[at] ^= 1 << rng.gen_range(0..8),
                1 => target[at] = rng.gen(),
                2 => target.insert(at, rng.gen()),
                3 if target.len() > 1 => drop(target.remove(at)),
                _ => {
                    let end = rng.gen_range(at..target.len()).min(at + 40);
                    let copy = target[at..end].to_vec();
                    target.splice(at..at, copy);
                }
            }
        }
        let mut mutated = raw.clone();
        match part {
            0 => {}
            1 => mutated.body_bytes = target.clone(),
            2 => mutated.auth_info_bytes = target.clone(),
            _ => mutated.signatures[0] = target.clone(),
        }
        let bytes = if part == 0 { target } else { mutated.encode_to_vec() };
        // Estimates see strangers' bytes too.
        let _ = chain.app.simulate(&bytes);
        // The scratch state advances when a transaction is accepted: start afresh from the committed state for each.
        let response = chain.finalize(1_000, std::slice::from_ref(&bytes));
        if response.tx_results[0].code == 0 {
            assert_eq!(bytes, good, "an accepted transaction is the signed one, byte for byte");
            equal += 1;
        } else {
            assert_ne!(chain.check(&bytes, CheckTxType::New).code, 0);
            refused += 1;
        }
    }
    println!("{refused} refused, {equal} unchanged");
    assert!(refused > 5_000);
}
