//! Commands that only look.

use anyhow::Result;
use comfy_table::{presets::NOTHING, Table};
use serde_json::json;
use tenure_client::{
    chain::Client,
    json::to_json,
    units::{show_amount, show_duration, show_rate, show_size},
};
use tenure_proto::tenure::{
    base::v1::Resources,
    market::v1::{Lease, LeaseState},
};

use super::{account, Cli, Format};

async fn connected(cli: &Cli) -> Result<(Client, String)> {
    let (home, config) = cli.config()?;
    let address = account::keyring(&home, &config).show(&config.key)?.address;
    Ok((Client::connect(&config.node).await?, address))
}

fn show_resources(r: Option<Resources>) -> String {
    let r = r.unwrap_or_default();
    format!(
        "{} mCPU, {}, {}",
        r.cpu_milli,
        show_size(r.memory_bytes),
        show_size(r.storage_bytes)
    )
}

pub(super) async fn status(cli: &Cli) -> Result<()> {
    let (client, owner) = connected(cli).await?;
    let (provider, chain) = (client.provider(&owner).await?, client.status().await?);
    let balance = client.balance(&owner).await?;
    if cli.output == Format::Json {
        let value =
            json!({ "provider": to_json(&provider)?, "chain": to_json(&chain)?, "balance": balance.to_string() });
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    let bond = provider.bond.clone().unwrap_or_default();
    let status = provider
        .status()
        .as_str_name()
        .trim_start_matches("PROVIDER_STATUS_")
        .to_lowercase();
    let lag = chain.live_ms.saturating_sub(provider.final_until_ms);
    let mut table = Table::new();
    table.load_preset(NOTHING);
    for (name, value) in [
        ("provider", owner),
        ("moniker", provider.moniker.clone()),
        ("status", status),
        ("endpoint", provider.endpoint.clone()),
        ("balance", show_amount(&balance.to_string(), tenure_types::BASE_DENOM)),
        ("bond", show_amount(&bond.amount, &bond.denom)),
        ("capacity", show_resources(provider.capacity)),
        ("reserved", show_resources(provider.reserved)),
        ("open leases", provider.open_leases.to_string()),
        (
            "epochs",
            format!(
                "{} attested, {} missed",
                provider.attested_epochs, provider.missed_epochs
            ),
        ),
        (
            "final until",
            if provider.open_leases == 0 {
                "no lease".to_owned()
            } else {
                format!("{} ago", show_duration(lag))
            },
        ),
    ] {
        table.add_row([name, &value]);
    }
    println!("{table}");
    Ok(())
}

pub(super) async fn leases(cli: &Cli, all: bool) -> Result<()> {
    let (client, owner) = connected(cli).await?;
    let leases = client.leases("", &owner, LeaseState::Unspecified, !all).await?;
    if cli.output == Format::Json {
        let values = leases.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
        println!("{}", serde_json::to_string_pretty(&values)?);
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_header(["lease", "state", "rate", "resources", "tenant", "reason", "detail"]);
    for lease in &leases {
        table.add_row(row(lease));
    }
    println!("{table}");
    Ok(())
}

fn row(lease: &Lease) -> [String; 7] {
    let short = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
    let reason = if lease.reason == 0 {
        String::new()
    } else {
        short(lease.reason().as_str_name(), "CLOSE_REASON_")
    };
    [
        lease.id.to_string(),
        short(lease.state().as_str_name(), "LEASE_STATE_"),
        show_rate(lease.rate, &lease.denom),
        show_resources(lease.resources),
        lease.tenant.clone(),
        reason,
        lease.detail.clone(),
    ]
}
