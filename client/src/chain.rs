//! A node's gRPC: typed questions about the chain, and the two calls that carry transactions.

use std::{future::Future, time::Duration};

use prost::Message;
use tenure_proto::{
    cosmos::{
        auth::v1beta1::{self as auth, BaseAccount, ModuleAccount},
        bank::v1beta1 as bank,
        base::{abci::v1beta1::TxResponse, query::v1beta1::PageRequest, v1beta1::Coin},
        tx::v1beta1::{
            service_client::ServiceClient, BroadcastMode, BroadcastTxRequest, GetTxRequest, SimulateRequest,
            SimulateResponse,
        },
    },
    tenure::{
        chain::v1 as chain,
        escrow::v1 as escrow,
        faucet::v1::{faucet_client::FaucetClient, DripRequest, DripResponse},
        market::v1 as market,
        provider::v1 as provider,
    },
    type_url, Any,
};
use tenure_types::BASE_DENOM;
use tonic::{
    transport::{Channel, Endpoint},
    Request, Response, Status,
};

use crate::{error::is_transport_failure, Error, Result};

/// Where a node listens on this machine.
pub const DEFAULT_NODE: &str = "http://127.0.0.1:9090";
/// Environment variable that names the node.
pub const NODE_ENV: &str = "TENURE_NODE";
/// How long a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one question may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Entries asked for at a time.
const PAGE: u64 = 100;
/// How often a question is asked before giving up.
const TRIES: u32 = 4;
const NODE: &str = "the node";

/// A connection to a node. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    address: String,
    channel: Channel,
    /// Height that questions are about; `None` for the latest.
    height: Option<u64>,
}

/// Asks once or, as long as the transport fails, several times with growing pauses. Only for questions: they have no effect.
pub(crate) async fn ask<T, F, Fut>(what: &'static str, address: &str, call: F) -> Result<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    ask_status(call)
        .await
        .map_err(|status| Error::from_status(what, address, &status))
}

#[allow(clippy::result_large_err, reason = "tonic's own result")]
async fn ask_status<T, F, Fut>(call: F) -> Result<T, Status>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let mut pause = Duration::from_millis(100);
    let mut tried = 1;
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if is_transport_failure(&status) && tried < TRIES => {
                tried += 1;
                tokio::time::sleep(pause).await;
                pause *= 3;
            }
            Err(status) => return Err(status),
        }
    }
}

/// A channel that connects when it is first used. Error: the address is not `http://host:port`.
pub(crate) fn channel(what: &'static str, address: &str) -> Result<Channel> {
    let malformed = |detail: &dyn std::fmt::Display| {
        Error::Usage(format!(
            "{what}'s address {address:?} must be http://host:port: {detail}"
        ))
    };
    if !address.starts_with("http://") {
        return Err(malformed(&"it does not begin with http://"));
    }
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|e| malformed(&e))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .user_agent(concat!("tenure-client/", env!("CARGO_PKG_VERSION")))
        .map_err(|e| malformed(&e))?
        .connect_lazy())
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// Metadata that names the height a question is about, as the Cosmos SDK has it.
const HEIGHT_HEADER: &str = "x-cosmos-block-height";

fn timed_at<T>(message: T, height: Option<u64>) -> Request<T> {
    let mut request = timed(message);
    if let Some(height) = height {
        request.metadata_mut().insert(HEIGHT_HEADER, height.into());
    }
    request
}

fn present<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| Error::Malformed {
        what: NODE,
        detail: format!("field {field} is missing"),
    })
}

/// An account of either kind, and its module's name if it is a module's.
fn decode_account(wrapped: &Any) -> Result<(BaseAccount, Option<String>)> {
    let malformed = |detail: String| Error::Malformed { what: NODE, detail };
    let decoded = |e: prost::DecodeError| malformed(format!("account: {e}"));
    if wrapped.type_url == type_url::<BaseAccount>() {
        let account = BaseAccount::decode(wrapped.value.as_slice()).map_err(decoded)?;
        Ok((account, None))
    } else if wrapped.type_url == type_url::<ModuleAccount>() {
        let module = ModuleAccount::decode(wrapped.value.as_slice()).map_err(decoded)?;
        Ok((present(module.base_account, "account.base_account")?, Some(module.name)))
    } else {
        Err(malformed(format!(
            "account has the type {:?}, which this client does not know",
            wrapped.type_url
        )))
    }
}

macro_rules! query {
    ($self:ident, $client:path, $method:ident, $request:expr) => {{
        let request = $request;
        ask(NODE, &$self.address, || {
            let request = timed_at(request.clone(), $self.height);
            let mut client = <$client>::new($self.channel.clone());
            async move { client.$method(request).await }
        })
        .await
    }};
}

macro_rules! pages {
    ($self:ident, $client:path, $method:ident, $field:ident, $page:ident => $request:expr) => {{
        let mut all = Vec::new();
        let mut key = Vec::new();
        loop {
            let $page = Some(PageRequest {
                key,
                limit: PAGE,
                ..Default::default()
            });
            let mut response = query!($self, $client, $method, $request)?;
            all.append(&mut response.$field);
            key = response.pagination.map(|p| p.next_key).unwrap_or_default();
            if key.is_empty() {
                break Ok(all);
            }
        }
    }};
}

impl Client {
    /// Connects and asks for the node's status, so that a wrong address shows at once.
    pub async fn connect(address: &str) -> Result<Self> {
        let client = Self::lazy(address)?;
        client.status().await?;
        Ok(client)
    }

    /// A client that connects when it is first asked. Error: the address is malformed.
    pub fn lazy(address: &str) -> Result<Self> {
        let address = address.trim_end_matches('/').to_owned();
        Ok(Self {
            channel: channel(NODE, &address)?,
            address,
            height: None,
        })
    }

    /// The same client asking about one height, which the node answers for its last few.
    pub fn at(&self, height: u64) -> Self {
        Self {
            height: Some(height),
            ..self.clone()
        }
    }

    /// The node's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Chain id, height, times and app hash of the last committed block.
    pub async fn status(&self) -> Result<chain::StatusResponse> {
        query!(
            self,
            chain::query_client::QueryClient<Channel>,
            status,
            chain::StatusRequest {}
        )
    }

    /// The rules of the clock, of gas and of blocks.
    pub async fn chain_params(&self) -> Result<chain::Params> {
        let response = query!(
            self,
            chain::query_client::QueryClient<Channel>,
            params,
            chain::ParamsRequest {}
        )?;
        present(response.params, "params")
    }

    /// An account's number and next sequence as of the last block. Error (not found): the account never received anything.
    pub async fn account(&self, address: &str) -> Result<BaseAccount> {
        let request = auth::QueryAccountRequest {
            address: address.to_owned(),
        };
        let response = query!(self, auth::query_client::QueryClient<Channel>, account, request)?;
        Ok(decode_account(&present(response.account, "account")?)?.0)
    }

    /// Every account's address in order, with its module's name if it is a module's.
    pub async fn accounts(&self) -> Result<Vec<(String, Option<String>)>> {
        let all: Result<Vec<Any>> = pages!(self, auth::query_client::QueryClient<Channel>, accounts, accounts, pagination =>
            auth::QueryAccountsRequest { pagination });
        all?.iter()
            .map(|wrapped| {
                let (account, name) = decode_account(wrapped)?;
                Ok((account.address, name))
            })
            .collect()
    }

    /// How much of the chain's own token there is, base units.
    pub async fn supply(&self) -> Result<u128> {
        let request = bank::QuerySupplyOfRequest {
            denom: BASE_DENOM.to_owned(),
        };
        let response = query!(self, bank::query_client::QueryClient<Channel>, supply_of, request)?;
        let coin = present(response.amount, "amount")?;
        coin.amount.parse().map_err(|_| Error::Malformed {
            what: NODE,
            detail: format!("supply {:?}", coin.amount),
        })
    }

    /// What an account holds of the chain's own token, base units.
    pub async fn balance(&self, address: &str) -> Result<u128> {
        let request = bank::QueryBalanceRequest {
            address: address.to_owned(),
            denom: BASE_DENOM.to_owned(),
        };
        let response = query!(self, bank::query_client::QueryClient<Channel>, balance, request)?;
        let coin = present(response.balance, "balance")?;
        coin.amount.parse().map_err(|_| Error::Malformed {
            what: NODE,
            detail: format!("balance {:?}", coin.amount),
        })
    }

    /// All that an account holds, in order of denom.
    pub async fn balances(&self, address: &str) -> Result<Vec<Coin>> {
        pages!(self, bank::query_client::QueryClient<Channel>, all_balances, balances, pagination =>
            bank::QueryAllBalancesRequest { address: address.to_owned(), pagination, resolve_denom: false })
    }

    /// One provider by its owner's address.
    pub async fn provider(&self, owner: &str) -> Result<provider::Provider> {
        let request = provider::QueryProviderRequest {
            owner: owner.to_owned(),
        };
        let response = query!(self, provider::query_client::QueryClient<Channel>, provider, request)?;
        present(response.provider, "provider")
    }

    /// All providers in order of owner.
    pub async fn providers(&self) -> Result<Vec<provider::Provider>> {
        pages!(self, provider::query_client::QueryClient<Channel>, providers, providers, pagination =>
            provider::QueryProvidersRequest { pagination })
    }

    /// A provider's missed time, in order of time.
    pub async fn gaps(&self, owner: &str) -> Result<Vec<provider::Gap>> {
        pages!(self, provider::query_client::QueryClient<Channel>, gaps, gaps, pagination =>
            provider::QueryGapsRequest { owner: owner.to_owned(), pagination })
    }

    /// The rules for providers.
    pub async fn provider_params(&self) -> Result<provider::Params> {
        let request = provider::QueryParamsRequest {};
        let response = query!(self, provider::query_client::QueryClient<Channel>, params, request)?;
        present(response.params, "params")
    }

    /// One bid.
    pub async fn bid(&self, id: u64) -> Result<market::Bid> {
        let request = market::QueryBidRequest { id };
        let response = query!(self, market::query_client::QueryClient<Channel>, bid, request)?;
        present(response.bid, "bid")
    }

    /// Bids in order of id: only those in `state` unless unspecified, only `tenant`'s unless empty.
    pub async fn bids(&self, state: market::BidState, tenant: &str) -> Result<Vec<market::Bid>> {
        pages!(self, market::query_client::QueryClient<Channel>, bids, bids, pagination =>
            market::QueryBidsRequest { state: state.into(), tenant: tenant.to_owned(), pagination })
    }

    /// The open claims on a bid, in order of provider.
    pub async fn claims(&self, bid_id: u64) -> Result<Vec<market::Claim>> {
        let request = market::QueryClaimsRequest { bid_id };
        let response = query!(self, market::query_client::QueryClient<Channel>, claims, request)?;
        Ok(response.claims)
    }

    /// One lease with all that its money did. The response's `lease` is present.
    pub async fn lease(&self, id: u64) -> Result<market::QueryLeaseResponse> {
        let request = market::QueryLeaseRequest { id };
        let response = query!(self, market::query_client::QueryClient<Channel>, lease, request)?;
        if response.lease.is_none() {
            return Err(Error::Malformed {
                what: NODE,
                detail: "field lease is missing".to_owned(),
            });
        }
        Ok(response)
    }

    /// Leases in order of id: only `tenant`'s and only `provider`'s unless empty, only those in `state` unless unspecified, only those that
    /// are not closed if `open_only`.
    pub async fn leases(
        &self,
        tenant: &str,
        provider: &str,
        state: market::LeaseState,
        open_only: bool,
    ) -> Result<Vec<market::Lease>> {
        pages!(self, market::query_client::QueryClient<Channel>, leases, leases, pagination => market::QueryLeasesRequest {
            tenant: tenant.to_owned(),
            provider: provider.to_owned(),
            state: state.into(),
            open_only,
            pagination,
        })
    }

    /// The rules of the market.
    pub async fn market_params(&self) -> Result<market::Params> {
        let request = market::QueryParamsRequest {};
        let response = query!(self, market::query_client::QueryClient<Channel>, params, request)?;
        present(response.params, "params")
    }

    /// An escrow account with its payments. The response's `account` is present.
    pub async fn escrow(&self, id: u64) -> Result<escrow::QueryAccountResponse> {
        let request = escrow::QueryAccountRequest { id };
        let response = query!(self, escrow::query_client::QueryClient<Channel>, account, request)?;
        if response.account.is_none() {
            return Err(Error::Malformed {
                what: NODE,
                detail: "field account is missing".to_owned(),
            });
        }
        Ok(response)
    }

    /// One lease's payment.
    pub async fn payment(&self, lease_id: u64) -> Result<escrow::Payment> {
        let request = escrow::QueryPaymentRequest { lease_id };
        let response = query!(self, escrow::query_client::QueryClient<Channel>, payment, request)?;
        present(response.payment, "payment")
    }

    /// The rules of escrow.
    pub async fn escrow_params(&self) -> Result<escrow::Params> {
        let request = escrow::QueryParamsRequest {};
        let response = query!(self, escrow::query_client::QueryClient<Channel>, params, request)?;
        present(response.params, "params")
    }

    /// A committed transaction by hash (hex), or none.
    pub async fn tx(&self, hash: &str) -> Result<Option<TxResponse>> {
        let request = GetTxRequest { hash: hash.to_owned() };
        match query!(self, ServiceClient<Channel>, get_tx, request) {
            Ok(response) => present(response.tx_response, "tx_response").map(Some),
            Err(Error::NotFound(_)) => Ok(None),
            // Cosmos nodes before 0.47 answer so, and some proxies still do.
            Err(Error::Server { message, .. }) if message.contains("tx not found") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What a transaction would do on the last committed state. The signatures are not checked.
    pub async fn simulate(&self, tx_bytes: Vec<u8>) -> Result<SimulateResponse> {
        #[allow(deprecated, reason = "the field `tx` stays empty")]
        let request = SimulateRequest { tx: None, tx_bytes };
        let answer = ask_status(|| {
            let request = timed(request.clone());
            let mut client = ServiceClient::new(self.channel.clone());
            async move { client.simulate(request).await }
        });
        // What does not exist here is not what was asked for but the reason of a refusal.
        answer.await.map_err(|status| match is_transport_failure(&status) {
            true => Error::from_status(NODE, &self.address, &status),
            false => Error::server(NODE, &status),
        })
    }

    /// Hands a transaction to the node once and waits for its check. Error `Unreachable`: the node may or may not have it.
    pub async fn broadcast(&self, tx_bytes: Vec<u8>) -> Result<TxResponse> {
        let request = BroadcastTxRequest {
            tx_bytes,
            mode: BroadcastMode::Sync.into(),
        };
        let response = ServiceClient::new(self.channel.clone())
            .broadcast_tx(timed(request))
            .await
            .map_err(|status| Error::from_status(NODE, &self.address, &status))?;
        present(response.into_inner().tx_response, "tx_response")
    }

    /// Asks the node's faucet for play money. Not asked twice: a drip is a transfer.
    pub async fn drip(&self, address: &str) -> Result<DripResponse> {
        let request = DripRequest {
            address: address.to_owned(),
        };
        let answer = FaucetClient::new(self.channel.clone()).drip(timed(request)).await;
        answer.map(Response::into_inner).map_err(|status| match status.code() {
            tonic::Code::Unimplemented => Error::NotFound(format!(
                "the node at {} has no faucet: it gives nothing away",
                self.address
            )),
            // Said by the faucet itself; a connection that fails has a source.
            _ if std::error::Error::source(&status).is_none() => Error::server("the faucet", &status),
            _ => Error::from_status("the faucet", &self.address, &status),
        })
    }
}
