//! Settings: what is read, what is refused and in which words.

use super::*;

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn the_template_is_the_defaults() -> Result<()> {
    assert_eq!(AppConfig::parse(APP_TOML, &Env::new())?, AppConfig::default());
    assert_eq!(AppConfig::parse("", &Env::new())?, AppConfig::default());
    assert_eq!(AppConfig::default().to_toml()?, APP_TOML);
    let named = CONFIG_TOML.replace("{moniker}", "tenure");
    assert_eq!(
        CometConfig::parse(&named, &Env::new())?,
        CometConfig::parse("", &Env::new())?
    );
    Ok(())
}

#[test]
fn a_changed_setting_survives_writing_and_reading() -> Result<()> {
    let mut config = AppConfig::default();
    config.solo.block_interval = Span::ms(250);
    config.faucet.enabled = true;
    config.grpc.address = "127.0.0.1:1234".parse()?;
    assert_eq!(AppConfig::parse(&config.to_toml()?, &Env::new())?, config);
    Ok(())
}

#[test]
fn bad_values_name_key_value_and_limit() {
    for (text, words) in [
        ("[grpc]\nadress = \"x\"", vec!["adress", "address"]),
        ("[grcp]\n", vec!["grcp", "grpc"]),
        ("[grpc]\naddress = \"localhost\"", vec!["address", "localhost"]),
        (
            "[grpc]\nmax-message-bytes = 10",
            vec!["grpc.max-message-bytes", "10", "1024", "67108864"],
        ),
        (
            "[solo]\nblock-interval = \"1 parsec\"",
            vec!["block-interval", "1 parsec", "ms"],
        ),
        (
            "[solo]\nblock-interval = \"1ms\"",
            vec!["solo.block-interval", "1ms", "10ms", "1h"],
        ),
        ("[solo]\nmin-block-gap = \"2h\"", vec!["solo.min-block-gap", "2h", "1h"]),
        ("[store]\ncache-mib = 1", vec!["store.cache-mib", "is 1", "8", "65536"]),
        ("[faucet]\namount = \"0uten\"", vec!["faucet.amount", "0uten"]),
        ("[faucet]\nenabled = 1", vec!["enabled", "1"]),
    ] {
        let error = format!("{:#}", AppConfig::parse(text, &Env::new()).expect_err(text));
        for word in words {
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

#[test]
fn the_environment_wins_and_is_checked_like_the_file() -> Result<()> {
    let set = env(&[
        ("TENURED_GRPC_ADDRESS", "127.0.0.1:7"),
        ("TENURED_GRPC_MAX_CONNECTIONS", "3"),
        ("TENURED_FAUCET_ENABLED", "true"),
        ("TENURED_SOLO_BLOCK_INTERVAL", "3s"),
        ("TENURED_HOME", "elsewhere"),
    ]);
    let config = AppConfig::parse("[grpc]\nmax-connections = 9", &set)?;
    assert_eq!(config.grpc.address.port(), 7);
    assert_eq!((config.grpc.max_connections, config.faucet.enabled), (3, true));
    assert_eq!(config.solo.block_interval, Span::ms(3_000));
    for (name, value, word) in [
        ("TENURED_GRPC_ADRESS", "127.0.0.1:7", "grpc.adress"),
        ("TENURED_GRPC_MAX_CONNECTIONS", "many", "grpc.max-connections"),
        ("TENURED_STORE_CACHE_MIB", "1", "store.cache-mib"),
        ("TENURED_FAUCET_ENABLED", "yes", "true or false"),
    ] {
        let error = format!("{:#}", AppConfig::parse("", &env(&[(name, value)])).expect_err(name));
        assert!(error.contains(word), "{error}");
    }
    let set = env(&[("TENURED_RPC_LADDR", "tcp://127.0.0.1:9"), ("TENURED_MONIKER", "m")]);
    let config = CometConfig::parse("", &set)?;
    assert_eq!((config.rpc.port(), config.moniker.as_str()), (9, "m"));
    let handed_on = [("moniker", "m"), ("rpc.laddr", "tcp://127.0.0.1:9")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(config.overrides, handed_on);
    let odd = env(&[("TENURED_RPC_ADDR", "tcp://127.0.0.1:9")]);
    let error = CometConfig::parse("", &odd).expect_err("unknown").to_string();
    assert!(
        error.contains("TENURED_RPC_ADDR:") && error.contains("laddr"),
        "{error}"
    );
    Ok(())
}

#[test]
fn cometbfts_other_keys_are_let_be_and_mistakes_are_not() -> Result<()> {
    let text = "proxy_app = \"tcp://127.0.0.1:26658\"\nmoniker = \"a\"\n[rpc]\nladdr = \"tcp://0.0.0.0:1\"\nunsafe = false\n[p2p]\npex = true\n";
    assert_eq!(CometConfig::parse(text, &Env::new())?.rpc, "0.0.0.0:1".parse()?);
    for (text, words) in [
        ("monicker = \"a\"", vec!["monicker"]),
        ("[rpc]\nlisten = \"a\"", vec!["rpc.listen"]),
        ("[rpc]\nladdr = \"unix://x\"", vec!["rpc.laddr", "unix://x", "tcp://"]),
        ("[consensus]\ntimeout_comit = \"1s\"", vec!["consensus.timeout_comit"]),
        (
            "proxy_app = \"kvstore\"",
            vec!["proxy_app", "kvstore", "unix://data/app.sock"],
        ),
        ("proxy_app = \"unix://\"", vec!["proxy_app", "tcp://"]),
        ("abci = \"grpc\"", vec!["abci", "grpc", "socket"]),
        ("genesis_file = \"g.json\"", vec!["genesis_file", "config/genesis.json"]),
        ("[mempool]\nsize = 0", vec!["mempool.size", "is 0", "1000000"]),
        (
            "[mempool]\nmax_tx_bytes = -5",
            vec!["mempool.max_tx_bytes", "-5", "1024"],
        ),
        ("moniker = \"\"", vec!["moniker", "70"]),
        (
            "[consensus]\ntimeout_commit = \"banana\"",
            vec!["consensus.timeout_commit", "banana", "300ms"],
        ),
        (
            "[consensus]\ntimeout_commit = 300",
            vec!["consensus.timeout_commit", "300ms"],
        ),
        ("[p2p]\nseeds = \"a:1\"", vec!["p2p.seeds", "a:1", "@<host>:<port>"]),
        ("[p2p]\npex = \"maybe\"", vec!["p2p.pex", "maybe", "true or false"]),
        ("[p2p]\nsend_rate = -1", vec!["p2p.send_rate", "-1", "at least 0"]),
        (
            "[rpc]\nexperimental_subscription_buffer_size = 300",
            vec!["experimental_websocket_write_buffer_size", "200", "300"],
        ),
        (
            "[mempool]\ntype = \"nop\"\n[consensus]\ncreate_empty_blocks = false",
            vec!["mempool.type", "create_empty_blocks"],
        ),
        (
            "[statesync]\nenable = true",
            vec!["statesync.rpc_servers names 0", "at least 2"],
        ),
        ("log_level = \"loud\"", vec!["log_level", "loud", "consensus:debug"]),
    ] {
        let error = format!("{:#}", CometConfig::parse(text, &Env::new()).expect_err(text));
        for word in words {
            assert!(error.contains(word), "{text}: {error}");
        }
    }
    Ok(())
}

#[test]
fn values_of_cometbft_may_come_from_the_environment_and_in_quotes() -> Result<()> {
    let set = env(&[("TENURED_CONSENSUS_TIMEOUT_COMMIT", "1m30.5s")]);
    CometConfig::parse(
        "[mempool]\nsize = \"7\"\n[consensus]\ntimeout_commit = \"banana\"",
        &set,
    )?;
    let odd = env(&[("TENURED_P2P_SEED_MODE", "perhaps")]);
    let error = CometConfig::parse("", &odd).expect_err("odd").to_string();
    assert!(error.contains("p2p.seed_mode is \"perhaps\""), "{error}");
    let sync = format!(
        "[statesync]\nenable = true\nrpc_servers = \"a:1, b:1\"\ntrust_height = 9\ndiscovery_time = \"0s\"\ntrust_hash = \"{}\"",
        "AB".repeat(32)
    );
    CometConfig::parse(&sync, &Env::new())?;
    for (from, to, word) in [
        ("b:1", "", "names 1"),
        ("= 9", "= 0", "trust_height is 0"),
        ("\"0s\"", "\"4s\"", "discovery_time"),
        ("ABAB", "AB", "64 hex digits"),
    ] {
        let error = CometConfig::parse(&sync.replacen(from, to, 1), &Env::new()).expect_err(to);
        assert!(error.to_string().contains(word), "{error}");
    }
    Ok(())
}

#[test]
fn spans_are_written_as_they_are_read() {
    for text in ["1ms", "250ms", "1s", "90s", "2m", "1h", "24h"] {
        assert_eq!(text.parse::<Span>().map(|s| s.to_string()), Ok(text.to_owned()));
    }
    for bad in ["", "1", "s", "-1s", "1.5s", "99999999999999999999h", "1 s"] {
        assert!(bad.parse::<Span>().is_err(), "{bad}");
    }
}
