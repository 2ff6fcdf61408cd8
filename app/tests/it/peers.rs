//! A transaction made by other people's software: cosmrs builds and signs it, the chain takes it.

use cosmrs::{
    bank::MsgSend,
    crypto::secp256k1::SigningKey,
    tx::{Body, Fee, Msg, SignDoc, SignerInfo},
    AccountId, Coin,
};
use rand::{rngs::StdRng, RngCore, SeedableRng};
use tenure_app::genesis::{default_app_state, Profile};
use tenure_types::Address;

use crate::chain::{Chain, CHAIN_ID};

#[test]
fn a_transaction_signed_by_cosmrs_is_accepted() {
    let mut secret = [0; 32];
    StdRng::seed_from_u64(1).fill_bytes(&mut secret);
    let key = SigningKey::from_slice(&secret).unwrap();
    let from: AccountId = key.public_key().account_id("tenure").unwrap();
    let ours: Address = from.to_string().parse().unwrap();
    let state = default_app_state(Profile::Fast, &[(ours, tenure_types::Coin::base(1_000_000))]).unwrap();
    let mut chain = Chain::new(&state);
    chain.block(1_000, &[]);

    let coin = |amount: u128| Coin {
        denom: "uten".parse().unwrap(),
        amount,
    };
    let to: AccountId = Address::new([5; 20]).to_string().parse().unwrap();
    let message = MsgSend {
        from_address: from,
        to_address: to,
        amount: vec![coin(123)],
    };
    let body = Body::new(vec![message.to_any().unwrap()], "from cosmrs", 0_u16);
    let auth_info = SignerInfo::single_direct(Some(key.public_key()), 0)
        .auth_info(Fee::from_amount_and_gas(coin(200), 200_000_u64));
    // Account 0 is the fee collector's, the genesis balance made account 1.
    let sign_doc = SignDoc::new(&body, &auth_info, &CHAIN_ID.parse().unwrap(), 1).unwrap();
    let tx = sign_doc.sign(&key).unwrap().to_bytes().unwrap();
    let result = chain.deliver(tx);
    assert_eq!((result.code, result.log.as_str()), (0, ""));
}
