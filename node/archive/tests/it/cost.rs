//! What archiving costs; prints figures: `cargo test -p tenure-archive --test it cost -- --ignored --nocapture --test-threads 1`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tendermint_proto::v0_38::abci::{Event, EventAttribute, ExecTxResult, RequestFinalizeBlock, ResponseFinalizeBlock};
use tenure_archive::{tx_hash, Archive, ArchiveOptions, Page};

const DIR: &str = "TENURE_ARCHIVE_COST";
const TXS: usize = 1_000;
const BLOCKS: i64 = 100;
/// Blocks after the last sync.
const TAIL: i64 = 10;
const SENDERS: u64 = 20_000;

/// CPU time that this process has used, to the hundredth of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // utime and stime, fields 14 and 15 of proc(5), in ticks of 1/100 s.
    let ticks = fields.skip(11).take(2).filter_map(|f| f.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Bytes of a directory's files: of the log, and of everything else.
fn bytes(dir: &Path) -> (u64, u64) {
    let (mut log, mut index) = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        match metadata.is_dir() {
            true => {
                let (a, b) = bytes(&entry.path());
                index += a + b;
            }
            false if dir.join("0000000001.log").exists() && entry.path().extension().is_some_and(|e| e == "log") => {
                log += metadata.len()
            }
            false => index += metadata.len(),
        }
    }
    (log, index)
}

fn address(number: u64) -> String {
    // As long and as various as the bech32 of 20 bytes.
    let mut rng = StdRng::seed_from_u64(number);
    let alphabet = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let text = (0..38).map(|_| char::from(alphabet[rng.gen_range(0..alphabet.len())]));
    format!("tenure1{}", text.collect::<String>())
}

fn event(kind: &str, pairs: &[(&str, &str)]) -> Event {
    let attributes = pairs.iter().map(|(key, value)| EventAttribute {
        key: (*key).into(),
        value: (*value).into(),
        index: !matches!(*key, "amount" | "fee" | "msg_index" | "mode"),
    });
    Event {
        r#type: kind.into(),
        attributes: attributes.collect(),
    }
}

fn moved(from: &str, to: &str, coins: &str, out: &mut Vec<Event>) {
    out.push(event("coin_spent", &[("spender", from), ("amount", coins)]));
    out.push(event("coin_received", &[("receiver", to), ("amount", coins)]));
    out.push(event(
        "transfer",
        &[("recipient", to), ("sender", from), ("amount", coins)],
    ));
    out.push(event("message", &[("sender", from)]));
}

/// Who sends the `i`th transfer of a block: nobody twice in one block.
fn sender(height: i64, i: usize) -> u64 {
    (height.unsigned_abs() * TXS as u64 + i as u64) % SENDERS
}

/// A block of transfers between strangers, with the events that `x-auth` and `x-bank` give.
fn block(height: i64, addresses: &[String]) -> (RequestFinalizeBlock, ResponseFinalizeBlock) {
    let mut rng = StdRng::seed_from_u64(height.unsigned_abs());
    let collector = address(u64::MAX);
    let (mut request, mut response) = (RequestFinalizeBlock::default(), ResponseFinalizeBlock::default());
    request.height = height;
    for i in 0..TXS {
        let from = &addresses[usize::try_from(sender(height, i)).unwrap()];
        let to = &addresses[rng.gen_range(0..addresses.len())];
        let mut tx = vec![0u8; 310];
        rng.fill_bytes(&mut tx);
        let signature: String = (0..88).map(|_| char::from(rng.gen_range(b'A'..=b'z'))).collect();
        let mut events = vec![event("tx", &[("fee", "200utnr"), ("fee_payer", from)])];
        moved(from, &collector, "200utnr", &mut events);
        events.push(event("tx", &[("acc_seq", &format!("{from}/{height}"))]));
        events.push(event("tx", &[("signature", &signature)]));
        let pairs = [
            ("action", "/cosmos.bank.v1beta1.MsgSend"),
            ("sender", from),
            ("module", "bank"),
            ("msg_index", "0"),
        ];
        events.push(event("message", &pairs));
        moved(from, to, "1234567utnr", &mut events);
        request.txs.push(tx.into());
        response.tx_results.push(ExecTxResult {
            gas_wanted: 120_000,
            gas_used: 81_234,
            events,
            ..Default::default()
        });
    }
    response
        .events
        .push(event("block", &[("proposer", &collector), ("mode", "EndBlock")]));
    (request, response)
}

fn addresses() -> Vec<String> {
    (0..SENDERS).map(address).collect()
}

/// Not a test by itself: fills an archive and waits to be killed.
#[test]
#[ignore = "the child of cost_of_transfers"]
fn filler() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let archive = Archive::open(Path::new(&dir), ArchiveOptions::default()).unwrap();
    let addresses = addresses();
    let blocks: i64 = std::env::var("TENURE_COST_BLOCKS").map_or(BLOCKS, |n| n.parse().unwrap());
    let (mut spent, mut appending, mut waiting) = (0.0, Duration::ZERO, Duration::ZERO);
    for height in 1..=blocks {
        let (request, response) = block(height, &addresses);
        let used = cpu_seconds();
        let begun = Instant::now();
        archive.append(&request, &response).unwrap();
        appending += begun.elapsed();
        archive.publish(height);
        // As a search waits that comes right after the block.
        let begun = Instant::now();
        archive.search_blocks("block.height=1", PAGE).unwrap();
        waiting += begun.elapsed();
        spent += cpu_seconds() - used;
        if height == blocks {
            let used = cpu_seconds();
            let begun = Instant::now();
            archive.sync().unwrap();
            // Merging goes on in the background.
            std::thread::sleep(Duration::from_secs(4));
            spent += cpu_seconds() - used;
            println!(
                "{blocks} blocks of {TXS} transfers: {:.1} µs of CPU a transaction, append {:?} a block, indexed {:?} later; sync {:?}",
                spent * 1e6 / (blocks as f64 * TXS as f64),
                appending / u32::try_from(blocks).unwrap(),
                waiting / u32::try_from(blocks).unwrap(),
                begun.elapsed() - Duration::from_secs(4),
            );
        }
    }
    // What is in memory only, to be made again.
    for height in blocks + 1..=blocks + TAIL {
        let (request, response) = block(height, &addresses);
        archive.append(&request, &response).unwrap();
        archive.publish(height);
    }
    archive.search_blocks("block.height=1", PAGE).unwrap();
    println!("written");
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

const PAGE: Page = Page {
    skip: 0,
    limit: 30,
    descending: true,
};

/// Prints what archiving blocks of transfers costs, what is on disk, what a killed process' successor waits for, and how long searches
/// take.
#[test]
#[ignore = "prints figures"]
fn cost_of_transfers() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["cost::filler", "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
        if line.contains("transfers:") {
            println!("{line}");
        }
        if line.contains("written") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let blocks: i64 = std::env::var("TENURE_COST_BLOCKS").map_or(BLOCKS, |n| n.parse().unwrap());
    let begun = Instant::now();
    let archive = Archive::open(dir, ArchiveOptions::default()).unwrap();
    println!("opened {:?} after a kill", begun.elapsed());
    let blocks = blocks + TAIL;
    assert_eq!(archive.range(), Some((1, blocks)));
    let txs = blocks.unsigned_abs() * TXS as u64;
    drop(archive);
    let (log, index) = bytes(dir);
    println!(
        "on disk: {} bytes of log and {} of index a transaction",
        log / txs,
        index / txs
    );
    let begun = Instant::now();
    let archive = Archive::open(dir, ArchiveOptions::default()).unwrap();
    println!("opened {:?} after a clean stop", begun.elapsed());

    let addresses = addresses();
    let time = |what: &str, search: &dyn Fn(i64) -> usize| {
        let mut times = Vec::new();
        let mut found = 0;
        for round in 0..101 {
            let at = 1 + (round * 7919) % blocks;
            let begun = Instant::now();
            found = search(at);
            times.push(begun.elapsed());
        }
        times.sort();
        println!("{what}: p50 {:?}, p99 {:?}, {found} found", times[50], times[99]);
    };
    let search = |query: &str| archive.search_txs(query, Page { limit: 0, ..PAGE }).unwrap().1;
    // Hashes are made outside of the time taken.
    let hashes: Vec<_> = (1..=blocks).map(|h| tx_hash(&block(h, &addresses).0.txs[7])).collect();
    time("place of a transaction by hash", &|at| {
        search(&format!(
            "tx.hash='{}'",
            hex::encode(hashes[usize::try_from(at).unwrap() - 1])
        ))
    });
    time("transaction by hash", &|at| {
        usize::from(archive.tx(&hashes[usize::try_from(at).unwrap() - 1]).unwrap().is_some())
    });
    let who = |at: i64| &addresses[usize::try_from(sender(at, 3)).unwrap()];
    time("by sender", &|at| search(&format!("transfer.sender='{}'", who(at))));
    time("by sender and height", &|at| {
        search(&format!("transfer.sender='{}' AND tx.height={at}", who(at)))
    });
    time("by action and recipient", &|at| {
        search(&format!(
            "message.action='/cosmos.bank.v1beta1.MsgSend' AND transfer.recipient='{}'",
            who(at)
        ))
    });
    time("by action in ten heights", &|at| {
        search(&format!(
            "message.action='/cosmos.bank.v1beta1.MsgSend' AND tx.height>={at} AND tx.height<{}",
            at + 10
        ))
    });
    time("blocks by height", &|at| {
        archive.search_blocks(&format!("block.height>={at}"), PAGE).unwrap().1
    });
    drop(archive);
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => std::fs::remove_dir_all(entry.path()).unwrap(),
            false if entry.path().extension().is_none_or(|e| e != "log") => std::fs::remove_file(entry.path()).unwrap(),
            false => {}
        }
    }
    let (begun, used) = (Instant::now(), cpu_seconds());
    drop(Archive::open(dir, ArchiveOptions::default()).unwrap());
    let used = cpu_seconds() - used;
    println!(
        "made again from the log in {:?}, {:.1} µs of CPU a transaction",
        begun.elapsed(),
        used * 1e6 / txs as f64
    );
}
