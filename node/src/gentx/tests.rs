use super::*;

fn new(stake: u128) -> NewValidator {
    NewValidator {
        description: Description {
            moniker: "v".to_owned(),
            ..Default::default()
        },
        commission: Commission::default(),
        min_self_delegation: Amount::new(1),
        consensus_key: [7; 32],
        stake: Coin::base(stake),
        peer: "ab@127.0.0.1:26656".to_owned(),
    }
}

#[test]
fn a_file_comes_back_and_says_the_same() -> Result<()> {
    let key = Key::random();
    let gentx = GenTx::sign(new(5_000_000), "c-1", &key)?;
    let back = GenTx::parse(&gentx.to_bytes()?)?;
    assert_eq!(back, gentx);
    let candidate = back.check("c-1")?;
    assert_eq!((candidate.power, candidate.delegator), (5, key.address()));
    assert_eq!(candidate.peer, "ab@127.0.0.1:26656");
    assert!(back.file_name()?.starts_with("gentx-"));
    Ok(())
}

#[test]
fn whatever_is_changed_is_noticed() -> Result<()> {
    let gentx = GenTx::sign(new(5_000_000), "c-1", &Key::random())?;
    assert!(gentx
        .check("c-2")
        .expect_err("another chain")
        .to_string()
        .contains("another chain"));
    let text = String::from_utf8(gentx.to_bytes()?)?;
    for (from, to, word) in [
        ("5000000", "6000000", "signature"),
        ("26656", "26657", "signature"),
        ("\"rate\":\"0.1\"", "\"rate\":\"0.2\"", "signature"),
        ("\"rate\":\"0.1\"", "\"rate\":\"1.5\"", "commission.rate"),
        ("tenurevaloper1", "tenurevaloper2", "validator_address"),
        ("MsgCreateValidator", "MsgEditValidator", "@type"),
        ("\"sequence\":\"0\"", "\"sequence\":\"1\"", "sequence 0"),
        ("\"memo\"", "\"extra\":1,\"memo\"", "extra"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let error = GenTx::parse(changed.as_bytes())
            .and_then(|g| g.check("c-1"))
            .expect_err(from);
        assert!(format!("{error:#}").contains(word), "{from}: {error:#}");
    }
    Ok(())
}

#[test]
fn validators_have_power_money_and_keys_of_their_own() -> Result<()> {
    let key = Key::random();
    assert!(GenTx::sign(new(999_999), "c", &key)
        .expect_err("no power")
        .to_string()
        .contains("voting power of 0"));
    let candidate = GenTx::sign(new(2_000_000), "c", &key)?.check("c")?;
    let balances =
        json!([{ "address": key.address().to_string(), "coins": [{ "denom": "uten", "amount": "2000000" }] }]);
    let mut document = json!({ "app_state": { "bank": { "balances": balances } } });
    collect(&mut document, std::slice::from_ref(&candidate))?;
    assert_eq!(document["validators"][0]["power"], "2");
    let other = Candidate {
        delegator: Address::new([1; 20]),
        ..candidate.clone()
    };
    for (all, word) in [
        (vec![], "no genesis transaction"),
        (vec![candidate.clone(), candidate.clone()], "same consensus key"),
        (
            vec![
                candidate.clone(),
                Candidate {
                    consensus_key: [8; 32],
                    ..candidate.clone()
                },
            ],
            "is of",
        ),
        (vec![other], "add-genesis-account"),
    ] {
        let error = collect(&mut document, &all).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    }
    Ok(())
}
